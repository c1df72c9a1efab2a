package traffic

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// secrets are what must not be kept, each with the word that takes its place.
type secrets struct{ words map[string]string }

// shortest is the least length of a secret: anything shorter would replace other texts, too.
const shortest = 6

// add adds secrets with the forms in which they may turn up.
func (s *secrets) add(all ...string) {
	for _, secret := range all {
		if len(secret) < shortest {
			continue
		}
		escaped, _ := json.Marshal(secret) // a string can be marshalled
		for _, form := range []string{
			secret, string(escaped[1 : len(escaped)-1]), url.QueryEscape(secret),
			base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawStdEncoding.EncodeToString([]byte(secret)),
			base64.URLEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			s.addForm(form)
		}
	}
}

// addForm gives a secret a word of the same length, so that sizes stay right.
func (s *secrets) addForm(secret string) {
	if s.words == nil {
		s.words = map[string]string{}
	}
	if _, known := s.words[secret]; known {
		return
	}
	word := fmt.Sprintf("hidden%d", len(s.words))
	word += strings.Repeat("x", max(0, len(secret)-len(word)))
	s.words[secret] = word
}

// replacer replaces the longest secrets first.
func (s *secrets) replacer() *strings.Replacer {
	var pairs []string
	all := make([]string, 0, len(s.words))
	for secret := range s.words {
		all = append(all, secret)
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range all {
		pairs = append(pairs, secret, s.words[secret])
	}
	return strings.NewReplacer(pairs...)
}

// sensitive reports whether the value of a field or a parameter isn't for everybody: a secret, or who a person is.
func sensitive(name string) bool {
	name = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
	for _, part := range []string{"password", "token", "macaroon", "signature", "secret", "credential", "email",
		"displayname", "cookie", "state"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// secretsOf returns the texts of sensitive fields in a JSON value.
func secretsOf(value any) (found []string) {
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			// which is public, also as a person's name
			if text, ok := field.(string); ok && sensitive(name) && field != value["username"] {
				found = append(found, text)
			}
			found = append(found, secretsOf(field)...)
		}
		for _, names := range [][2]string{{"Username", "Password"}, {"username", "password"}} {
			user, isUser := value[names[0]].(string)
			password, isPassword := value[names[1]].(string)
			if isUser && isPassword {
				found = append(found, user+":"+password) // as basic authentication sends it
			}
		}
	case []any:
		for _, one := range value {
			found = append(found, secretsOf(one)...)
		}
	}
	return found
}

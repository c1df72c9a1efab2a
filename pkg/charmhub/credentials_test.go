package charmhub

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/macaroon.v2"
)

// vector is a root, a discharge and the latter bound to the former.
type vector struct {
	Name      string
	RootKey   string `json:"root_key"`
	Root      string
	Discharge string
	Bound     string
}

// vectors returns the bound discharges that another implementation of macaroons made, from testdata.
func vectors(tb testing.TB) []vector {
	tb.Helper()
	text, err := os.ReadFile("testdata/bound.json")
	if err != nil {
		tb.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(text, &all); err != nil {
		tb.Fatal(err)
	}
	return all
}

// pairText is the decoded credentials of a vector.
func (v vector) pairText() string {
	return fmt.Sprintf(`{"t": "u1-macaroon", "v": {"r": %q, "d": %q}}`, v.Root, v.Discharge)
}

// jsonMacaroon returns a macaroon of the version as JSON.
func jsonMacaroon(t *testing.T, version macaroon.Version) string {
	t.Helper()
	m, err := macaroon.New([]byte("key"), []byte("id"), "api.charmhub.io", version)
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// header returns what the credentials send when nothing was exchanged.
func header(c *Credentials) string {
	if c.pair != nil {
		return c.pair.authorization()
	}
	return "Macaroon " + c.token
}

func TestParseCredentialsOfEveryKindPastedInEveryWay(t *testing.T) {
	v := vectors(t)[0]
	pair := "Macaroon root=" + v.Root + ", discharge=" + v.Bound
	v1, v2 := jsonMacaroon(t, macaroon.V1), jsonMacaroon(t, macaroon.V2)
	kinds := map[string]struct{ decoded, header string }{
		"bare macaroon":          {v.Root, "Macaroon " + v.Root},
		"typed macaroon":         {`{"t": "macaroon", "v": "` + v.Root + `"}`, "Macaroon " + v.Root},
		"typed JSON macaroon":    {`{"t": "macaroon", "v": "{\"i\": \"a b\"}"}`, `Macaroon {"i": "a b"}`},
		"developer token":        {`{"macaroon": "` + v.Root + `"}`, "Macaroon " + v.Root},
		"pair":                   {v.pairText(), pair},
		"pair without wrapper":   {fmt.Sprintf(`{"r":%q,"d":%q}`, v.Root, v.Discharge), pair},
		"macaroon as JSON, v1":   {v1, "Macaroon " + v1},
		"macaroon as JSON, v2":   {v2, "Macaroon " + v2},
		"JSON on several lines":  {strings.ReplaceAll(v2, ",", ",\n  "), "Macaroon " + v2},
		"JSON with spaces in it": {strings.ReplaceAll(v2, ",", ", "), "Macaroon " + strings.ReplaceAll(v2, ",", ", ")},
	}
	ways := map[string]func(string) string{
		"as written":          func(s string) string { return s },
		"newline at its end":  func(s string) string { return s + "\r\n" },
		"double quotes":       func(s string) string { return `"` + s + `"` },
		"typographic quotes":  func(s string) string { return " ‘" + s + "’ " },
		"wrapped at 40":       func(s string) string { return wrap(s, 40, "\n") },
		"wrapped by terminal": func(s string) string { return "\ufeff" + wrap(s, 77, " \r\n  ") },
		"without padding":     func(s string) string { return strings.TrimRight(s, "=") },
		"URL-safe":            func(s string) string { return strings.NewReplacer("+", "-", "/", "_").Replace(s) },
		"URL-safe unpadded, quoted, on lines": func(s string) string {
			return "'" + wrap(strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(s), 64, "\n") + "'\n"
		},
	}
	for kind, k := range kinds {
		for way, f := range ways {
			t.Run(kind+"/"+way, func(t *testing.T) {
				pasted := f(paste(k.decoded))
				c := mustParse(t, pasted)
				if got := header(c); got != k.header {
					t.Errorf("header is\n%s, want\n%s", got, k.header)
				}
				for _, secret := range []string{k.decoded, paste(k.decoded), strings.TrimSpace(pasted), unpaste(pasted)} {
					if !slices.Contains(c.Secrets(), secret) {
						t.Errorf("not among the secrets: %s", secret)
					}
				}
			})
		}
	}
}

// wrap breaks s into lines of width bytes, separated by with.
func wrap(s string, width int, with string) string {
	var lines []string
	for line := range slices.Chunk([]byte(s), width) {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, with)
}

func TestParseCredentialsTakesHalfThePadding(t *testing.T) {
	if got := mustParse(t, "YmFyZQ=").token; got != "bare" {
		t.Errorf("token is %q", got)
	}
}

func TestParseCredentialsTakesAMacaroonThatIsNotWrapped(t *testing.T) {
	for _, v := range vectors(t) {
		if got := mustParse(t, v.Root).token; got != v.Root {
			t.Errorf("%s: token is %s, want the text itself", v.Name, got)
		}
	}
}

func TestParseCredentialsRefuses(t *testing.T) {
	const canary = "c4n4ryS3cret"
	cases := map[string]struct{ text, want string }{
		"nothing":              {"", "the token is empty"},
		"quotes around air":    {" '' \n", "the token is empty"},
		"not base64":           {canary + "!%", "not base64"},
		"a GitHub token":       {"ghp_" + strings.Repeat(canary, 3), "neither a macaroon nor JSON"},
		"too much":             {strings.Repeat("YWJj", 20000), "longer than"},
		"cut JSON":             {paste(`{"t":"macaroon","v":"` + canary), "damaged"},
		"unknown type":         {paste(`{"t":"` + canary + `","v":"x"}`), "of an unknown kind"},
		"typed, no value":      {paste(`{"t":"macaroon"}`), "damaged"},
		"typed, wrong value":   {paste(`{"t":"macaroon","v":{"r":"` + canary + `"}}`), "damaged"},
		"empty macaroon":       {paste(`{"t":"macaroon","v":""}`), "empty or damaged"},
		"header injection":     {paste(`{"macaroon":"` + canary + `\r\nX-Evil: 1"}`), "damaged"},
		"pair, no discharge":   {paste(`{"t":"u1-macaroon","v":{"r":"` + canary + `"}}`), "root is not a macaroon"},
		"pair, damaged root":   {paste(`{"r":"` + canary + `","d":"x"}`), "root is not a macaroon"},
		"JSON of another kind": {paste(`{"username":"` + canary + `"}`), "without a macaroon"},
		"binary":               {paste("\x00\x01\xff" + canary), "neither"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := ParseCredentials(c.text)
			if err == nil {
				t.Fatal("accepted")
			}
			wantIn(t, err.Error(), c.want, "charmcraft login --export=token.txt",
				"--permission=package-manage-revisions", "--permission=package-view-revisions", "--ttl=")
			wantNotIn(t, err.Error(), canary)
		})
	}
}

func TestSecretsHoldEverythingInAPair(t *testing.T) {
	v := vectors(t)[0]
	c := mustParse(t, paste(v.pairText()))
	for _, secret := range []string{
		paste(v.pairText()), v.pairText(), v.Root, v.Discharge, v.Bound, paste(v.Root), paste(v.Discharge),
		base64.RawURLEncoding.EncodeToString([]byte(v.Bound)),
	} {
		if !slices.Contains(c.Secrets(), secret) {
			t.Errorf("not among the secrets: %s", secret)
		}
	}
	if slices.Contains(c.Secrets(), "") {
		t.Error("nothing is no secret")
	}
}

func TestCredentialsPrintNothing(t *testing.T) {
	c := mustParse(t, paste(`{"macaroon":"c4n4ry"}`))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		wantNotIn(t, fmt.Sprintf(verb, c)+fmt.Sprintf(verb, Config{Credentials: c}), "c4n4ry", fmt.Sprintf("%x", "c4n4ry"))
	}
}

func TestDeriveKey(t *testing.T) {
	t.Parallel()
	bare := mustParse(t, paste("a-token"))
	key := bare.DeriveKey("one")
	if len(key) != 32 || bytes.Contains(key, []byte("token")) {
		t.Errorf("the key is %x", key)
	}
	for _, form := range []string{`{"t":"macaroon","v":"a-token"}`, `{"macaroon":"a-token"}`} {
		if !bytes.Equal(mustParse(t, paste(form)).DeriveKey("one"), key) {
			t.Errorf("the same token as %s has another key", form)
		}
	}
	if bytes.Equal(bare.DeriveKey("two"), key) || bytes.Equal(mustParse(t, paste("b-token")).DeriveKey("one"), key) {
		t.Error("another purpose or another token has the same key")
	}
	v := vectors(t)
	refreshed := v[0]
	refreshed.Discharge = v[1].Discharge
	pair := mustParse(t, paste(v[0].pairText())).DeriveKey("one")
	if !bytes.Equal(pair, mustParse(t, paste(refreshed.pairText())).DeriveKey("one")) {
		t.Error("a refreshed discharge gives another key")
	}
	if bytes.Equal(pair, key) {
		t.Error("a pair has the key of another token")
	}
}

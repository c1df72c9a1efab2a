package charmhub

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"gopkg.in/macaroon.v2"
)

// maxCredentials bounds pasted credentials, in bytes. Real ones have one to four thousand.
const maxCredentials = 64 << 10

// Credentials are what `charmcraft login --export` wrote: either a token that is sent as it is, or a root macaroon with
// the discharge that single sign-on gave. Formatting them with any verb shows nothing of them.
type Credentials struct {
	secrets []string

	token string // empty when pair is not nil
	pair  *pair
}

// DeriveKey returns a key of 32 bytes that only a holder of these credentials can compute (HKDF with SHA-256, RFC
// 5869). The key doesn't reveal the credentials. Each purpose has its own key. Exporting, exchanging or refreshing the
// credentials doesn't change it, because a pair's discharge isn't part of it.
func (c *Credentials) DeriveKey(purpose string) []byte {
	secret := c.token
	if c.pair != nil {
		secret = c.pair.root
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, purpose, sha256.Size)
	if err != nil {
		panic(err) // only for a length that HKDF can't give
	}
	return key
}

// ParseCredentials reads exported credentials as people paste them: white space, line breaks and quotes anywhere, any
// base64 alphabet, with or without padding. Five kinds are known: a bare macaroon, charmcraft's
// `{"t":"macaroon","v":…}`, a developer token `{"macaroon":…}`, a pair of Ubuntu One macaroons with or without the
// wrapper `{"t":"u1-macaroon","v":…}`, and a macaroon in its own JSON form. The error says what was expected, and
// repeats nothing of the text.
func ParseCredentials(text string) (*Credentials, error) {
	c, err := parseCredentials(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the store token: %w; give the one line that `%s` writes to token.txt", err,
			LoginCommand("", false))
	}
	return c, nil
}

// parseCredentials is [ParseCredentials] without the advice in its error.
func parseCredentials(text string) (*Credentials, error) {
	line := unpaste(text)
	switch {
	case line == "":
		return nil, errors.New("the token is empty")
	case len(line) > maxCredentials:
		return nil, fmt.Errorf("the token is longer than %d bytes", maxCredentials)
	}
	decoded, err := macaroon.Base64Decode([]byte(strings.TrimRight(line, "=")))
	if err != nil {
		return nil, errors.New("the token is not base64, or a part is missing")
	}
	c, err := readDecoded(line, decoded)
	if err != nil {
		return nil, err
	}
	c.collect(strings.TrimSpace(text), line, string(decoded))
	return c, nil
}

// unpaste removes white space, quotes and invisible characters, which copying through terminals, editors and web forms
// adds.
func unpaste(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || strings.ContainsRune("\"'`“”‘’\ufeff\u200b", r) {
			return -1
		}
		return r
	}, text)
}

// readDecoded distinguishes the kinds of credentials. line is the text before decoding.
func readDecoded(line string, decoded []byte) (*Credentials, error) {
	text := bytes.TrimSpace(decoded)
	if bytes.HasPrefix(text, []byte("{")) {
		return readObject(text)
	}
	if sendable(string(text)) && !bytes.Contains(text, []byte(" ")) {
		return &Credentials{token: string(text)}, nil
	}
	// Someone may give a macaroon itself, not wrapped into one more base64.
	if new(macaroon.Macaroon).UnmarshalBinary(decoded) == nil {
		return &Credentials{token: line}, nil
	}
	return nil, errors.New("the token decodes to neither a macaroon nor JSON")
}

// readObject reads the kinds that are a JSON object.
func readObject(decoded []byte) (*Credentials, error) {
	var object struct {
		T        *string         `json:"t"`
		V        json.RawMessage `json:"v"`
		Macaroon string          `json:"macaroon"`
		R        string          `json:"r"`
		D        string          `json:"d"`
	}
	if json.Unmarshal(decoded, &object) != nil {
		return nil, errors.New("the token decodes to JSON that is damaged or of another kind")
	}
	switch {
	case object.T != nil:
		return readTyped(*object.T, object.V)
	case object.R != "" && object.D != "":
		return readPair(object.R, object.D)
	case object.Macaroon != "":
		return readToken(object.Macaroon)
	case new(macaroon.Macaroon).UnmarshalJSON(decoded) == nil:
		return readToken(oneLine(decoded))
	}
	return nil, errors.New("the token decodes to JSON without a macaroon in it")
}

// readTyped reads an object that names its own kind.
func readTyped(kind string, value json.RawMessage) (*Credentials, error) {
	switch kind {
	case "macaroon":
		var token string
		if json.Unmarshal(value, &token) == nil {
			return readToken(token)
		}
	case "u1-macaroon":
		var both struct{ R, D string }
		if json.Unmarshal(value, &both) == nil {
			return readPair(both.R, both.D)
		}
	default:
		return nil, errors.New("the token is of an unknown kind")
	}
	return nil, fmt.Errorf("the %s in the token is damaged", kind)
}

// readToken returns credentials of one macaroon, which is sent as it is.
func readToken(token string) (*Credentials, error) {
	if !sendable(token) {
		return nil, errors.New("the macaroon in the token is empty or damaged")
	}
	return &Credentials{token: token}, nil
}

// readPair returns credentials of a root macaroon and its discharge.
func readPair(root, discharge string) (*Credentials, error) {
	p, err := newPair(root, discharge)
	if err != nil {
		return nil, err
	}
	return &Credentials{pair: p}, nil
}

// oneLine returns a JSON macaroon as one line, for a header. One that is a single line already stays as it is.
func oneLine(object []byte) string {
	if sendable(string(object)) {
		return string(object)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, object) != nil {
		return ""
	}
	return compact.String()
}

// sendable reports whether token can be part of a header.
func sendable(token string) bool {
	return token != "" && !strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' })
}

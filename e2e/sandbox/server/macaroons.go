package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"gopkg.in/macaroon.v2"
)

// macaroonKeys are the secrets behind every store token: the store's own, and the one that it shares with the single
// sign-on.
type macaroonKeys struct{ store, sso []byte }

// newMacaroonKeys returns new random keys.
func newMacaroonKeys() macaroonKeys {
	return macaroonKeys{store: randomKey(), sso: randomKey()}
}

// randomKey returns a random key of 32 bytes.
func randomKey() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails, by its contract
	return key
}

// dischargeKey is the root key of the discharge for a third-party caveat. It follows from the caveat's ID, so that
// nothing has to be remembered.
func (k macaroonKeys) dischargeKey(caveatID []byte) []byte {
	mac := hmac.New(sha256.New, k.sso)
	_, _ = mac.Write(caveatID)
	return mac.Sum(nil)
}

// newMacaroon returns a macaroon with its caveats. Version 1 is what Charmhub gives out; only tokens that are JSON by
// themselves are of version 2.
func newMacaroon(key []byte, id, location string, version macaroon.Version, caveats []string) *macaroon.Macaroon {
	m, err := macaroon.New(key, []byte(id), location, version)
	for _, caveat := range caveats {
		if err == nil {
			err = m.AddFirstPartyCaveat([]byte(caveat))
		}
	}
	if err != nil {
		panic(fmt.Sprintf("minting a macaroon: %v", err)) // only for text that isn't UTF-8
	}
	return m
}

// serialize is the encoding that macaroons have in tokens and headers: binary, in URL-safe base64 without padding.
func serialize(m *macaroon.Macaroon) string {
	binary, err := m.MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("serializing a macaroon: %v", err))
	}
	return base64.RawURLEncoding.EncodeToString(binary)
}

// deserialize reads a macaroon in base64 of either alphabet, or in JSON.
func deserialize(text string) (*macaroon.Macaroon, error) {
	m := &macaroon.Macaroon{}
	if strings.HasPrefix(text, "{") {
		return m, m.UnmarshalJSON([]byte(text))
	}
	binary, err := macaroon.Base64Decode([]byte(text))
	if err != nil {
		return nil, err
	}
	return m, m.UnmarshalBinary(binary)
}

// identity is the owner of a valid token, with the limits that the token's caveats set. A nil list is no limit.
type identity struct {
	account     string
	expires     time.Time
	unstated    bool // the token doesn't say when it expires
	outdated    bool // the store takes it no longer
	permissions []string
	charms      []string
	channels    []string
}

// caveats returns the first-party caveats that restrict a macaroon to the identity.
func (i identity) caveats() []string {
	var caveats []string
	if !i.unstated {
		caveats = append(caveats, "expires "+i.expires.UTC().Format(time.RFC3339Nano))
	}
	if i.outdated {
		caveats = append(caveats, "outdated")
	}
	if i.account != "" {
		caveats = append(caveats, "account "+i.account)
	}
	if i.permissions != nil {
		caveats = append(caveats, "permissions "+strings.Join(i.permissions, ","))
	}
	if i.charms != nil {
		caveats = append(caveats, "charms "+strings.Join(i.charms, ","))
	}
	if i.channels != nil {
		caveats = append(caveats, "channels "+strings.Join(i.channels, ","))
	}
	return caveats
}

// errUnknownCaveat refuses a macaroon with a caveat that the sandbox didn't write.
var errUnknownCaveat = errors.New("the macaroon has a caveat that nobody here gave it")

// readCaveats returns the identity that caveats leave; of several expiries the earliest counts.
func readCaveats(caveats []string) (identity, error) {
	var who identity
	for _, caveat := range caveats {
		name, value, _ := strings.Cut(caveat, " ")
		switch name {
		case "outdated":
			who.outdated = true
		case "account":
			who.account = value
		case "permissions":
			who.permissions = strings.Split(value, ",")
		case "charms":
			who.charms = strings.Split(value, ",")
		case "channels":
			who.channels = strings.Split(value, ",")
		case "expires":
			at, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return who, errUnknownCaveat
			}
			if who.expires.IsZero() || at.Before(who.expires) {
				who.expires = at
			}
		default:
			return who, errUnknownCaveat
		}
	}
	return who, nil
}

package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"gopkg.in/macaroon.v2"
)

// Publisher is the account that owns every charm of the sandbox.
const Publisher = "publisher"

// Format is a form that an exported token can have. The text is always base64 of what is named here.
type Format int

const (
	// FormatBare is a macaroon, the default: what charmcraft 4 exports.
	FormatBare Format = iota
	// FormatTyped is {"t":"macaroon","v":…}, of charmcraft 2 and 3.
	FormatTyped
	// FormatDeveloper is {"macaroon":…}.
	FormatDeveloper
	// FormatSSO is {"t":"u1-macaroon","v":{"r":…,"d":…}}: a root macaroon and the discharge of its third-party caveat.
	FormatSSO
	// FormatSSOPair is {"r":…,"d":…}.
	FormatSSOPair
	// FormatJSON is a macaroon that is itself a JSON object.
	FormatJSON
)

// How long tokens and discharges last if nothing else is asked for.
const (
	defaultLife   = 24 * time.Hour
	dischargeLife = 24 * time.Hour
)

// Grant describes a token to mint. The zero value is a token of the charm's publisher with every permission, valid
// for a day.
type Grant struct {
	Format Format
	// Account is whose token it is; default Publisher. Others own nothing.
	Account string
	// Life is how long it lasts; default a day, negative for one that is over.
	Life time.Duration
	// DischargeLife is how long the discharge of FormatSSO and FormatSSOPair lasts; default a day, negative for one that
	// needs a refresh.
	DischargeLife time.Duration
	// Permissions, Charms and Channels limit it; nil doesn't. Channels limit releases only.
	Permissions []string
	Charms      []string
	Channels    []string
	// Unstated leaves out of the token when it ends: the list of tokens has it.
	Unstated bool
	// Outdated makes a token that the store takes no longer, as those that charmcraft made before 4.4.
	Outdated bool
	// Forged makes a token that looks right, signed by somebody else.
	Forged bool
}

// Token returns an exported token with which everything works.
func (s *Server) Token() string { return s.token }

// Mint returns a token as charmcraft login --export would print it, in one line.
func (s *Server) Mint(grant Grant) string {
	keys := s.keys
	if grant.Forged {
		keys = newMacaroonKeys()
	}
	text := s.mintDecoded(keys, grant)
	exported := base64.StdEncoding.EncodeToString([]byte(text))
	s.secrets.add(nobody, exported)
	if grant.Format == FormatJSON { // a bare one is known by now
		s.secrets.add(storeOwns, text)
	}
	s.secrets.add(nobody, text)
	return exported
}

// mintDecoded returns a token in the format of the grant, before it is encoded in base64.
func (s *Server) mintDecoded(keys macaroonKeys, grant Grant) string {
	switch grant.Format {
	case FormatBare:
		return s.mintRoot(keys, grant)
	case FormatTyped:
		return toJSON(map[string]string{"t": "macaroon", "v": s.mintRoot(keys, grant)})
	case FormatDeveloper:
		return toJSON(map[string]string{"macaroon": s.mintRoot(keys, grant)})
	case FormatSSO:
		return toJSON(map[string]any{"t": "u1-macaroon", "v": s.mintPair(keys, grant)})
	case FormatSSOPair:
		return toJSON(s.mintPair(keys, grant))
	case FormatJSON:
		who := grant.identity()
		return toJSON(newMacaroon(keys.store, s.openSession(who), s.StoreURL, macaroon.V2, who.caveats()))
	default:
		panic(fmt.Sprintf("no token format %d", grant.Format))
	}
}

// mintRoot returns the root macaroon of a token.
func (s *Server) mintRoot(keys macaroonKeys, grant Grant) string {
	who := grant.identity()
	root := serialize(newMacaroon(keys.store, s.openSession(who), s.StoreURL, macaroon.V1, who.caveats()))
	s.secrets.add(storeOwns, root)
	return root
}

// mintPair returns a root whose account is for the single sign-on to attest, and the discharge that does.
func (s *Server) mintPair(keys macaroonKeys, grant Grant) map[string]string {
	limits := grant.identity()
	session := s.openSession(limits)
	limits.account = ""
	root := newMacaroon(keys.store, session, s.StoreURL, macaroon.V1, limits.caveats())
	caveatID := []byte(randomText())
	if err := root.AddThirdPartyCaveat(keys.dischargeKey(caveatID), caveatID, s.SSOURL); err != nil {
		panic(fmt.Sprintf("minting a macaroon: %v", err))
	}
	attested := identity{account: grant.identity().account, expires: expiry(grant.DischargeLife, dischargeLife)}
	pair := map[string]string{"r": serialize(root), "d": s.mintDischarge(keys, caveatID, attested)}
	s.secrets.add(storeOwns, pair["r"])
	return pair
}

// mintDischarge returns single sign-on's discharge of a third-party caveat.
func (s *Server) mintDischarge(keys macaroonKeys, caveatID []byte, who identity) string {
	discharge := newMacaroon(keys.dischargeKey(caveatID), string(caveatID), s.SSOURL, macaroon.V1, who.caveats())
	text := serialize(discharge)
	s.secrets.add(signOnOwns, text)
	return text
}

// identity returns whom a token of this grant stands for, and what it may do.
func (g Grant) identity() identity {
	if g.Account == "" {
		g.Account = Publisher
	}
	return identity{
		account: g.Account, expires: expiry(g.Life, defaultLife), unstated: g.Unstated, outdated: g.Outdated,
		permissions: g.Permissions, charms: g.Charms, channels: g.Channels,
	}
}

// expiry returns when a life ends that begins now. A life of 0 stands for otherwise.
func expiry(life, otherwise time.Duration) time.Time {
	if life == 0 {
		life = otherwise
	}
	return time.Now().Add(life)
}

// toJSON writes a value with sorted keys and without spaces.
func toJSON(value any) string {
	text, err := json.Marshal(value)
	var parsed any
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		err = decoder.Decode(&parsed)
	}
	var sorted strings.Builder
	if err == nil {
		encoder := json.NewEncoder(&sorted)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(parsed) // a map's keys are sorted
	}
	if err != nil {
		panic(fmt.Sprintf("writing JSON: %v", err))
	}
	return strings.TrimSuffix(sorted.String(), "\n")
}

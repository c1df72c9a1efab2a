package charmhub

import (
	"encoding/base64"
	"errors"

	"gopkg.in/macaroon.v2"
)

// pair is a root macaroon of the store and the discharge of its third-party caveat by single sign-on. It is never
// changed.
type pair struct {
	root, discharge string // serialized, as they were given
	bound           string // discharge bound to root, to send beside it
}

// newPair binds discharge to root.
func newPair(root, discharge string) (*pair, error) {
	r, err := readMacaroon(root)
	if err != nil {
		return nil, errors.New("the root is not a macaroon")
	}
	d, err := readMacaroon(discharge)
	if err != nil {
		return nil, errors.New("the discharge is not a macaroon")
	}
	d.Bind(r.Signature())
	bound, err := d.MarshalBinary()
	if err != nil {
		return nil, errors.New("the discharge cannot be bound to the root")
	}
	return &pair{root: root, discharge: discharge, bound: base64.RawURLEncoding.EncodeToString(bound)}, nil
}

// authorization is the header's value. The discharge is sent only bound to its root: alone it would let its reader act
// with any root of the account.
func (p *pair) authorization() string {
	return "Macaroon root=" + p.root + ", discharge=" + p.bound
}

// readMacaroon reads the base64 of a macaroon's binary form, either version.
func readMacaroon(text string) (*macaroon.Macaroon, error) {
	if !sendable(text) {
		return nil, errors.New("not one line of text")
	}
	raw, err := macaroon.Base64Decode([]byte(text))
	if err != nil {
		return nil, err
	}
	m := new(macaroon.Macaroon)
	return m, m.UnmarshalBinary(raw)
}

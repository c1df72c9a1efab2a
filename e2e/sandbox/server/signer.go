package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const tokenIssuer = "charmhub-sandbox"

// access is what a bearer token allows with one repository.
type access = token.ResourceActions

// tokenSigner signs the registry's bearer tokens: JSON web tokens, ES256.
type tokenSigner struct {
	service string
	life    time.Duration
	key     jose.JSONWebKey
	signer  jose.Signer
}

func newTokenSigner(registryURL string, life time.Duration) (tokenSigner, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tokenSigner{}, fmt.Errorf("making the token realm's key: %w", err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: "sandbox", Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		return tokenSigner{}, fmt.Errorf("making the token realm's signer: %w", err)
	}
	return tokenSigner{service: strings.TrimPrefix(registryURL, "http://"), life: life, key: key, signer: signer}, nil
}

// publicKeys is the key set that the registry trusts, as JSON.
func (s tokenSigner) publicKeys() []byte {
	return []byte(toJSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.key.Public()}}))
}

// sign returns a bearer token. The registry forgives a minute of clock skew,
// which is taken off here: else no token would ever last less. Expiries count
// in whole seconds, rounded up so that none lasts less than it says.
func (s tokenSigner) sign(subject string, allowed []access) (string, error) {
	now := time.Now()
	expires := now.Add(s.life - token.Leeway + time.Second - 1)
	claims := token.ClaimSet{
		Issuer: tokenIssuer, Subject: subject, Audience: token.AudienceList{s.service},
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiration: expires.Unix(),
		JWTID: randomText(), Access: []*access{},
	}
	for i := range allowed {
		claims.Access = append(claims.Access, &allowed[i])
	}
	return jwt.Signed(s.signer).Claims(claims).Serialize()
}

package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/containers/libtrust"
	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tokenIssuer is the issuer in the registry's tokens.
const tokenIssuer = "charmhub-sandbox"

// access is what a bearer token allows with one repository.
type access = token.ResourceActions

// claimSet names one audience as a text, not as a list: distribution 2 reads no other.
type claimSet struct {
	token.ClaimSet
	Audience string `json:"aud"`
}

// tokenSigner signs the registry's bearer tokens: JSON web tokens, ES256.
type tokenSigner struct {
	service string
	life    time.Duration
	key     jose.JSONWebKey
	signer  jose.Signer
	// certificate holds the public key, as PEM.
	certificate []byte
}

// newTokenSigner returns a signer with a new key, for tokens of the service that are valid for life.
func newTokenSigner(service string, life time.Duration) (tokenSigner, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tokenSigner{}, fmt.Errorf("making the token realm's key: %w", err)
	}
	certificate, err := selfSigned(private)
	if err != nil {
		return tokenSigner{}, fmt.Errorf("making the token realm's certificate: %w", err)
	}
	public, err := libtrust.FromCryptoPublicKey(private.Public())
	if err != nil {
		return tokenSigner{}, fmt.Errorf("naming the token realm's key: %w", err)
	}
	// Distribution 3 takes any name that is in its key set; distribution 2 gives the keys of its certificates these names.
	key := jose.JSONWebKey{Key: private, KeyID: public.KeyID(), Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		return tokenSigner{}, fmt.Errorf("making the token realm's signer: %w", err)
	}
	return tokenSigner{
		service: service, life: life, key: key, signer: signer, certificate: certificate,
	}, nil
}

// selfSigned returns a certificate for the key, as PEM.
func selfSigned(key *ecdsa.PrivateKey) ([]byte, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// publicKeys is the key set that the registry trusts, as JSON.
func (s tokenSigner) publicKeys() []byte {
	return []byte(toJSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.key.Public()}}))
}

// sign returns a bearer token. The registry forgives a minute of clock skew, which is taken off here: else no token
// would ever last less. Expiries count in whole seconds, rounded up so that none lasts less than it says.
func (s tokenSigner) sign(subject string, allowed []access) (string, error) {
	now := time.Now()
	expires := now.Add(s.life - token.Leeway + time.Second - 1)
	claims := claimSet{Audience: s.service, ClaimSet: token.ClaimSet{
		Issuer: tokenIssuer, Subject: subject,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiration: expires.Unix(),
		JWTID: randomText(), Access: []*access{},
	}}
	for i := range allowed {
		claims.Access = append(claims.Access, &allowed[i])
	}
	return jwt.Signed(s.signer).Claims(claims).Serialize()
}

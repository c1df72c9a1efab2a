package server

import (
	"crypto/rand"
	"encoding/base64"
	"maps"
	"slices"
	"sync"
)

// Secrets returns every secret that the sandbox gave out or was shown, in the order in which they came to be: store
// tokens in each encoding, registry passwords also as basic auth sends them, bearer tokens.
func (s *Server) Secrets() []string {
	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	return slices.Clone(s.secrets.ordered)
}

// Owners are the servers that may see a secret, by their names in [Request]. Whatever is sent to another one, in
// whichever part of a request, gave the secret away.
type Owners []string

// Who may be sent what.
var (
	nobody      Owners                       // the exported text, which is for the client to take apart
	storeOwns   = Owners{"store", "storage"} // a token, a root, a discharge that is bound to its root
	signOnOwns  = Owners{"sso"}              // a discharge as the single sign-on made it
	realmOwns   = Owners{"auth"}             // credentials for the registry
	contentOwns = Owners{"auth", "storage"}  // those within an image's text, which is uploaded as it is
	bearerOwns  = Owners{"registry"}         // what the realm gives for credentials
)

// SecretOwners returns who may see each of [Server.Secrets].
func (s *Server) SecretOwners() map[string]Owners {
	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	return maps.Clone(s.secrets.owners)
}

// secretSet holds the secrets of a sandbox, and which servers may see each. It may be used by several goroutines.
type secretSet struct {
	mu      sync.Mutex
	owners  map[string]Owners
	ordered []string
}

// add keeps secrets that are new; the first owners of a secret stay.
func (s *secretSet) add(owners Owners, secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners == nil {
		s.owners = map[string]Owners{}
	}
	for _, secret := range secrets {
		if _, known := s.owners[secret]; !known {
			s.owners[secret] = owners
			s.ordered = append(s.ordered, secret)
		}
	}
}

// addPassword adds a password, also as basic authentication sends it.
func (s *secretSet) addPassword(owners Owners, username, password string) {
	s.add(owners, password, base64.StdEncoding.EncodeToString([]byte(username+":"+password)))
}

// randomText returns a text that can't be guessed, of letters and digits.
func randomText() string { return rand.Text() }

package server

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"sync"
)

// Secrets returns every secret that the sandbox gave out or was shown, in the
// order in which they came to be: store tokens in each encoding, registry
// passwords also as basic auth sends them, bearer tokens.
func (s *Server) Secrets() []string {
	s.secrets.mu.Lock()
	defer s.secrets.mu.Unlock()
	return slices.Clone(s.secrets.ordered)
}

type secretSet struct {
	mu      sync.Mutex
	known   map[string]bool
	ordered []string
}

func (s *secretSet) add(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]bool{}
	}
	for _, secret := range secrets {
		if !s.known[secret] {
			s.known[secret] = true
			s.ordered = append(s.ordered, secret)
		}
	}
}

func (s *secretSet) addPassword(username, password string) {
	s.add(password, base64.StdEncoding.EncodeToString([]byte(username+":"+password)))
}

// randomText returns a text that can't be guessed, of letters and digits.
func randomText() string { return rand.Text() }

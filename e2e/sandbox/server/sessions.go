package server

import (
	"net/http"
	"time"
)

// session is a token that the store gave out. Its ID is that of the token's macaroon.
type session struct {
	id, account  string
	since, until time.Time
}

// openSession notes a token that is about to be given out, and returns the ID for it.
func (s *Server) openSession(who identity) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	opened := session{id: randomText(), account: who.account, since: time.Now(), until: who.expires}
	s.sessions = append(s.sessions, opened)
	return opened.id
}

// sessionEnd returns when the session of this ID ends; zero if there is none.
func (s *Server) sessionEnd(id string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, opened := range s.sessions {
		if opened.id == id {
			return opened.until
		}
	}
	return time.Time{}
}

// listTokens lists the tokens of the caller's account, those that are over included.
func (s *Server) listTokens(_ *http.Request, who identity) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := []map[string]any{}
	for _, opened := range s.sessions {
		if opened.account == who.account {
			listed = append(listed, map[string]any{
				"session-id": opened.id, "description": "a token of the sandbox", "revoked-at": nil, "revoked-by": nil,
				"valid-since": opened.since.UTC().Format(time.RFC3339), "valid-until": opened.until.UTC().Format(time.RFC3339),
			})
		}
	}
	return map[string]any{"macaroons": listed}, nil
}

package server

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// registryGrant is what a registry password is good for.
type registryGrant struct {
	charm   *charm
	actions []string
	expires time.Time
}

// realmHandler gives bearer tokens for registry credentials, as the registry's
// challenge asks: for the repositories of the credentials' charm and no more.
func (s *Server) realmHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		grant, ok := s.registryLogin(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="charmhub-sandbox"`)
			answerJSON(w, http.StatusUnauthorized, map[string]string{"details": "incorrect username or password"})
			return
		}
		s.mu.Lock()
		allowed := grant.allowed(r.URL.Query()["scope"])
		s.mu.Unlock()
		bearer, err := s.signer.sign(registryUser, allowed)
		if err != nil {
			answerError(w, err)
			return
		}
		s.secrets.add(bearerOwns, bearer)
		answerJSON(w, http.StatusOK, map[string]any{
			"token": bearer, "access_token": bearer,
			"expires_in": int(s.options.TokenLife / time.Second),
			"issued_at":  time.Now().UTC().Format(time.RFC3339),
		})
	})
	return mux
}

func (s *Server) registryLogin(r *http.Request) (registryGrant, bool) {
	username, password, ok := r.BasicAuth()
	s.mu.Lock()
	defer s.mu.Unlock()
	grant, known := s.passwords[password]
	return grant, ok && known && username == registryUser && time.Now().Before(grant.expires)
}

// allowed returns what of the scopes asked for is granted. Each is
// type:name:actions; one parameter may hold several, parted by spaces.
func (g registryGrant) allowed(scopes []string) []access {
	var allowed []access
	for scope := range strings.FieldsSeq(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		name, actions, _ := strings.Cut(rest, ":")
		if kind != "repository" || !g.covers(name) {
			continue
		}
		granted := slices.DeleteFunc(strings.Split(actions, ","), func(action string) bool {
			return !slices.Contains(g.actions, action)
		})
		allowed = append(allowed, access{Type: kind, Name: name, Actions: granted})
	}
	return allowed
}

func (g registryGrant) covers(repository string) bool {
	return slices.ContainsFunc(g.charm.resources, func(r *resource) bool {
		return g.charm.repository(r.name) == repository
	})
}

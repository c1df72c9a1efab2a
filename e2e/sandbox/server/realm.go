package server

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// registryGrant is what the holder of a registry password may do.
type registryGrant struct {
	username string
	charm    *charm
	actions  []string
	expires  time.Time
}

// Where the token service is: on the store's server, or on one of its own.
const (
	realmPath         = "/v1/tokens/docker-registry"
	separateRealmPath = "/token"
)

// realmHandler is the token service on a server of its own.
func (s *Server) realmHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+separateRealmPath, s.giveBearer)
	return mux
}

// giveBearer gives a bearer token for registry credentials, as the registry's challenge asks: for the repositories of
// the credentials' charm and no more.
func (s *Server) giveBearer(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxJSON)
	grant, ok := s.registryLogin(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="charmhub-sandbox"`)
		answerJSON(w, http.StatusUnauthorized, map[string]string{"details": "incorrect username or password"})
		return
	}
	s.mu.Lock()
	allowed := grant.allowed(r.Form["scope"])
	s.mu.Unlock()
	bearer, err := s.signer.sign(grant.username, allowed)
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
}

// registryLogin reads credentials from the header, or from the form of a POST (OAuth 2.0, RFC 6749, section 4.3).
func (s *Server) registryLogin(r *http.Request) (registryGrant, bool) {
	if r.ParseForm() != nil {
		return registryGrant{}, false
	}
	username, password, ok := r.BasicAuth()
	if !ok && r.PostForm.Get("grant_type") == "password" {
		username, password, ok = r.PostForm.Get("username"), r.PostForm.Get("password"), true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	grant, known := s.passwords[password]
	return grant, ok && known && username == grant.username && time.Now().Before(grant.expires)
}

// allowed returns what of the scopes asked for is granted. Each is type:name:actions; one parameter may hold several,
// parted by spaces.
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

// covers reports whether the grant is for the repository.
func (g registryGrant) covers(repository string) bool {
	return slices.ContainsFunc(g.charm.resources, func(r *resource) bool {
		return g.charm.repository(r.name) == repository
	})
}

package server

import (
	"net/http"

	"gopkg.in/macaroon.v2"
)

// call is a call about one charm by somebody who may make it; resource is nil where the path names none. Its type is
// that of the time of the call: an upload of the charm may change it.
type call struct {
	*http.Request
	who          identity
	charm        *charm
	resource     *resource
	resourceType string
}

// storeHandler is the publisher's API.
func (s *Server) storeHandler() http.Handler {
	const resources = "/v1/charm/{charm}/resources"
	const one = resources + "/{resource}"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/tokens/whoami", s.identified(s.whoami))
	mux.HandleFunc("GET /v1/tokens", s.identified(s.listTokens))
	mux.HandleFunc("POST /v1/tokens/usso/exchange", s.identified(s.exchange))
	mux.HandleFunc("GET "+resources, s.permitted(mayView, s.listResources))
	mux.HandleFunc("GET "+one+"/revisions", s.permitted(mayView, s.listRevisions))
	mux.HandleFunc("POST "+one+"/revisions", s.permitted(mayManage, s.createRevision))
	mux.HandleFunc("PATCH "+one+"/revisions", s.permitted(mayManage, s.updateRevisions))
	mux.HandleFunc("GET "+one+"/oci-image/upload-credentials", s.permitted(mayManage, s.uploadCredentials))
	mux.HandleFunc("POST "+one+"/oci-image/blob", s.permitted(mayManage, s.imageBlob))
	mux.HandleFunc("GET /v1/charm/{charm}", s.permitted(mayViewMetadata, s.metadata))
	mux.HandleFunc("POST /v1/charm/{charm}/tracks", s.permitted(mayManageAll, s.createTracks))
	mux.HandleFunc("GET /v1/charm/{charm}/revisions", s.permitted(mayView, s.listCharmRevisions))
	mux.HandleFunc("POST /v1/charm/{charm}/revisions", s.permitted(mayManage, s.createCharmRevision))
	mux.HandleFunc("GET /v1/charm/{charm}/revisions/review", s.permitted(mayView, s.reviewStatus))
	mux.HandleFunc("GET /v1/charm/{charm}/releases", s.permitted(mayViewReleases, s.listReleases))
	mux.HandleFunc("POST /v1/charm/{charm}/releases", s.permitted(mayManageReleases, s.release))
	if !s.options.SeparateTokenService {
		mux.HandleFunc("GET "+realmPath, s.giveBearer)
		mux.HandleFunc("POST "+realmPath, s.giveBearer)
	}
	s.publicHandlers(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerError(w, refuse(http.StatusNotFound, "api-error", "No such call: "+r.Method+" "+r.URL.Path))
	})
	return s.inForm(mux)
}

// identified serves a call that needs nothing but a token.
func (s *Server) identified(serve func(*http.Request, identity) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.authenticate(r)
		if err != nil {
			answerError(w, err)
			return
		}
		value, err := serve(r, who)
		answer(w, value, err)
	}
}

// permitted serves a call about a charm for those who have the permission.
func (s *Server) permitted(permission string, serve func(call) (any, error)) http.HandlerFunc {
	return s.identified(func(r *http.Request, who identity) (any, error) {
		name := r.PathValue("charm")
		c := s.charms[name]
		if c == nil {
			return nil, unknownCharm(name)
		}
		if err := who.authorize(permission, name); err != nil {
			return nil, err
		}
		about := call{Request: r, who: who, charm: c}
		if resource := r.PathValue("resource"); resource != "" {
			s.mu.Lock()
			found := c.find(resource)
			if found != nil {
				about.resource, about.resourceType = found, found.typ
			}
			s.mu.Unlock()
			if found == nil {
				return nil, unknownResource(name, resource)
			}
		}
		return serve(about)
	})
}

// whoami answers with the account of the token, and what the token may do.
func (s *Server) whoami(_ *http.Request, who identity) (any, error) {
	var packages []map[string]string
	for _, name := range who.charms {
		packages = append(packages, map[string]string{"type": "charm", "name": name})
	}
	permissions := who.permissions
	if permissions == nil {
		permissions = []string{"account-register-package", "account-view-packages", "package-manage", "package-view"}
	}
	return map[string]any{
		"account": map[string]string{
			"id": charmID(who.account), "username": who.account, "display-name": who.account,
			"email": who.account + "@example.com", "validation": "unproven",
		},
		"packages": packages, "channels": who.channels, "permissions": permissions,
	}, nil
}

// exchange gives a token without a discharge for one with, no wider and no longer.
func (s *Server) exchange(r *http.Request, who identity) (any, error) {
	var request struct {
		Description string `json:"client-description"`
	}
	if err := readJSON(r, &request); err != nil {
		return nil, err
	}
	if request.Description == "" {
		return nil, refuse(http.StatusBadRequest, "api-error", "client-description is a required property")
	}
	if _, discharge := splitPair(r.Header.Get("Authorization")[len("Macaroon "):]); discharge == "" {
		return nil, refuse(http.StatusBadRequest, "api-error", "A discharged macaroon is required")
	}
	exchanged := serialize(newMacaroon(s.keys.store, s.openSession(who), s.StoreURL, macaroon.V1, who.caveats()))
	s.secrets.add(storeOwns, exchanged)
	return map[string]string{"macaroon": exchanged}, nil
}

package server

import (
	"fmt"
	"net/http"
	"strings"
)

// How many requests of a kind there are for each that fails in passing.
const (
	timeoutEvery = 3
	outageEvery  = 7
)

// gatewayPage is the page with which a gateway answers for a store that is down.
const gatewayPage = "<html><head><title>503 Service Unavailable</title></head><body>No server is available to handle " +
	"this request.</body></html>"

// passingFault returns what goes wrong with a request by the options, and not with the next one of its kind; nil for
// nothing.
func (s *Server) passingFault(r Request) *Fault {
	switch {
	case s.options.Timeouts && makesSomething(r) && s.count(r.Path)%timeoutEvery == 1:
		return &Fault{Handle: true, Status: http.StatusGatewayTimeout,
			Body: strings.ReplaceAll(gatewayPage, "503 Service Unavailable", "504 Gateway Time-out")}
	case s.options.Outages && (r.Server == "registry" || r.Server == "auth"):
		if n := s.count("registry"); n%outageEvery == 0 {
			return s.outage(n/outageEvery, r)
		}
	}
	return nil
}

// makesSomething reports whether a request is for an upload, or for a revision of a resource or the charm.
func makesSomething(r Request) bool {
	return r.Method == http.MethodPost && (r.Server == "storage" ||
		r.Server == "store" && strings.HasSuffix(r.Path, "/revisions"))
}

// count returns how many requests of a kind there were, this one included.
func (s *Server) count(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[kind]++
	return s.asked[kind]
}

// outage is the nth failure of the registry or its token service.
func (s *Server) outage(n int, r Request) *Fault {
	switch {
	case n%3 == 1:
		return &Fault{Status: http.StatusInternalServerError,
			Body: `{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}`}
	case n%3 == 2 || r.Server == "auth" || r.Path == "/v2/":
		return &Fault{Status: http.StatusServiceUnavailable, Body: gatewayPage}
	}
	challenge := fmt.Sprintf(`Bearer realm=%q,service=%q,scope=%q,error="insufficient_scope"`, s.RealmURL,
		s.signer.service, scopeOf(r))
	return &Fault{
		Status: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {challenge}},
		Body: `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`,
	}
}

// scopeOf returns what a request to the registry needs a token for.
func scopeOf(r Request) string {
	repository := strings.TrimPrefix(r.Path, "/v2/")
	for _, below := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		if at := strings.LastIndex(repository, below); at >= 0 {
			repository = repository[:at]
		}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return "repository:" + repository + ":pull"
	}
	return "repository:" + repository + ":pull,push"
}

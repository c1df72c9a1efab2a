package main

import (
	"net/http"
	"strings"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// traffic is what a run of the action asked of Charmhub.
type traffic struct {
	requests int
	sent     int64    // bytes of content: to the registry and to the storage
	writes   []string // requests that put something there, or could
}

func count(requests []server.Request) traffic {
	t := traffic{requests: len(requests)}
	for _, r := range requests {
		if r.Server == "registry" || r.Server == "storage" {
			t.sent += r.BodyBytes
		}
		if isWrite(r) {
			t.writes = append(t.writes, r.Method+" "+r.Path)
		}
	}
	return t
}

// isWrite knows the store's one question that is a POST: which text stands for
// an image. Single sign-on and the registry's tokens are beside the point.
func isWrite(r server.Request) bool {
	switch r.Server {
	case "auth", "sso":
		return false
	case "store":
		if strings.HasSuffix(r.Path, "/oci-image/blob") {
			return false
		}
	}
	return r.Method != http.MethodGet && r.Method != http.MethodHead
}

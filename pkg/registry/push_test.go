package registry

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
)

// TestBlobsAreSeenLater: a registry may not see for a moment what was put there.
func TestBlobsAreSeenLater(t *testing.T) {
	s := newServer(t)
	r, c := s.open(t)
	var puts atomic.Int64
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		isManifest := r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/")
		return isManifest && puts.Add(1) <= 2 && answer(w, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN")
	})
	mustPush(t, r, randomImage(t, 100, 1))
	if len(c.waits) != 2 {
		t.Errorf("%d waits, want 2", len(c.waits))
	}
}

// TestIndexesComeLast: whatever is sent at once, no manifest names one that isn't there, which the registry checks.
func TestIndexesComeLast(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	index, err := random.Index(100, 1, 20)
	if err != nil {
		t.Fatal(err)
	}
	mustPush(t, r, index)
	var last string
	for _, request := range s.log() {
		if strings.HasPrefix(request, "PUT ") {
			last = request
		}
	}
	if !strings.HasSuffix(last, digestOf(t, index).String()) {
		t.Errorf("the last request is %q, want the index's", last)
	}
}

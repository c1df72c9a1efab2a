package registry

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// isBlobPut tells whether a request has a blob kept.
func isBlobPut(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/")
}

func TestSmallBlobs(t *testing.T) {
	for _, size := range []int{0, 1, 2, smallMax} {
		for kind, stream := range sources {
			s := newServer(t)
			r, _ := s.open(t)
			p := oneLayer(t, r, size, stream)
			s.log()
			var received int64
			if _, err := r.Push(t.Context(), p, func(n int64) { received += n }); err != nil {
				t.Errorf("%d bytes from a %s: %v", size, kind, err)
			}
			if want := Size(p.Missing); received != want {
				t.Errorf("%d bytes from a %s: progress of %d, want %d", size, kind, received, want)
			}
			if got := s.log(); len(got) != 5 {
				t.Errorf("%d bytes from a %s: %q, want POST and PUT for config and layer, and the manifest", size, kind, got)
			}
		}
	}
}

func TestAnswerToTheEndLost(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "large": smallMax + 1} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				if isBlobPut(r) {
					s.handler.ServeHTTP(discard{w}, r)
					panic(http.ErrAbortHandler)
				}
				return false
			})
			p := oneLayer(t, r, size, false)
			var received int64
			if _, err := r.Push(t.Context(), p, func(n int64) { received += n }); err != nil {
				t.Fatal(err)
			}
			if n := count(s.log(), "POST"); n != 2 {
				t.Errorf("%d uploads begun, want 2", n)
			}
			if want := Size(p.Missing); received != want {
				t.Errorf("progress of %d bytes, want %d", received, want)
			}
		})
	}
}

// What a registry has of a body that was cut off and sent again is known by its complaint about the whole.
func TestSmallBlobArrivesDamaged(t *testing.T) {
	for code, status := range map[string]int{
		"DIGEST_INVALID": http.StatusBadRequest, "BLOB_UPLOAD_INVALID": http.StatusRequestedRangeNotSatisfiable,
		"BLOB_UPLOAD_UNKNOWN": http.StatusNotFound,
	} {
		t.Run(code, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			var puts atomic.Int64
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				return isBlobPut(r) && puts.Add(1) == 1 && answer(w, status, code)
			})
			p := oneLayer(t, r, 1000, true)
			var received int64
			if _, err := r.Push(t.Context(), p, func(n int64) { received += n }); err != nil {
				t.Fatal(err)
			}
			if n := count(s.log(), "POST"); n != 3 {
				t.Errorf("%d uploads begun, want one of the two blobs' again", n)
			}
			if want := Size(p.Missing); received != want {
				t.Errorf("progress of %d bytes, want %d", received, want)
			}
		})
	}
}

// Each token is good for one request, so every PUT is refused first, and its body is needed again.
func TestTokenExpiresBeforeASmallBlob(t *testing.T) {
	g := newGuard(t, 1)
	r, _ := g.open(t)
	p := oneLayer(t, r, 1000, true)
	p.Missing = p.Missing[1:] // two blobs at once would take each other's tokens
	p.Manifests = nil
	g.log()
	if _, err := r.Push(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	if got := g.log(); count(got, "PUT") != 2 || count(got, "POST") > 2 {
		t.Errorf("%q, want the PUT twice and one upload", got)
	}
}

package registry

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// uploadOnce does what a run does with an image that an engine knows by its config, after opening the repository.
func uploadOnce(t *testing.T, r *Repository, img v1.Image) (by string) {
	t.Helper()
	located, found, err := r.Locate(t.Context(), identityOf(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if found {
		return located.By
	}
	r.Known(t.Context())
	mustPush(t, r, img)
	if err := r.Record(t.Context(), digestOf(t, img), true, configOf(t, img)); err != nil {
		t.Fatal(err)
	}
	if err := r.MoveLatest(t.Context(), digestOf(t, img)); err != nil {
		t.Fatal(err)
	}
	return ""
}

// someLayers returns layers that are each sent in one chunk.
func someLayers(t *testing.T, n int) []v1.Layer {
	t.Helper()
	layers := make([]v1.Layer, n)
	for i := range layers {
		var err error
		if layers[i], err = random.Layer(smallMax+1, types.DockerLayer); err != nil {
			t.Fatal(err)
		}
	}
	return layers
}

// Each request is a round trip of a user's job; opening takes two more.
func TestRequests(t *testing.T) {
	layers := someLayers(t, 5)
	img := mustAppend(t, layers[:4]...)
	changed := mustAppend(t, append(slices.Clone(layers[:3]), layers[4])...)
	s := newServer(t)
	for _, step := range []struct {
		name string
		img  v1.Image
		by   string
		want map[string]int // requests by method
	}{
		// Locate: record, latest, digest. Plan: a manifest and five blobs. Layers: POST, PATCH, PUT. Config: POST, PUT.
		// The manifest. The record: two small blobs, a manifest under two tags. The tag.
		{"first push", img, "", map[string]int{"GET": 3, "HEAD": 6, "POST": 7, "PATCH": 4, "PUT": 11}},
		// The record's manifest and its layer, latest.
		{"unchanged, latest and recorded", img, ByLatest, map[string]int{"GET": 3}},
		// Also the record of latest's digest, latest's config and its four blobs. Of five blobs, three are known.
		{"last layer changed", changed, "", map[string]int{"GET": 5, "HEAD": 7, "POST": 4, "PATCH": 1, "PUT": 8}},
		// The manifest that the record names, too.
		{"unchanged, recorded", img, ByRecord, map[string]int{"GET": 4}},
	} {
		r, _ := s.open(t)
		if by := uploadOnce(t, r, step.img); by != step.by {
			t.Errorf("%s: found by %q, want %q", step.name, by, step.by)
		}
		wantRequests(t, step.name, s.log(), step.want)
	}

	s = newServer(t)
	s.seed(t, repoPath+":latest", img)
	r, _ := s.open(t)
	uploadOnce(t, r, img)
	wantRequests(t, "unchanged, filled by another tool", s.log(), map[string]int{"GET": 2})
	r, _ = s.open(t)
	uploadOnce(t, r, changed)
	// It has no record, so no layer is learned from it; the record under its config is written before the tag moves.
	wantRequests(t, "last layer changed of another tool's", s.log(),
		map[string]int{"GET": 5, "HEAD": 6, "POST": 6, "PATCH": 1, "PUT": 11})
}

// wantRequests compares the requests' number by method.
func wantRequests(t *testing.T, what string, requests []string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, request := range requests {
		method, _, _ := strings.Cut(request, " ")
		got[method]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s\n%s", what, diff, strings.Join(requests, "\n"))
	}
}

// TestLostBlobIsNotKnown: a registry may keep a manifest and lose a blob that it names. The layer is then one to
// send, wherever it comes from.
func TestLostBlobIsNotKnown(t *testing.T) {
	layers := someLayers(t, 3)
	s := newServer(t)
	s.seed(t, repoPath+":latest", mustAppend(t, layers[:2]...))
	lost := digestOf(t, layers[0])
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, lost.String()) &&
			answer(w, http.StatusNotFound, "BLOB_UNKNOWN")
	})
	r, _ := s.open(t)
	for _, blob := range r.Known(t.Context()) {
		if blob.Digest == lost {
			t.Errorf("%s is known, but not there", lost)
		}
	}
	p := mustPush(t, r, mustAppend(t, layers...))
	if len(p.Reused) != 1 || len(p.Missing) != 3 {
		t.Errorf("%d blobs reused, %d sent, want the config, the new layer and the lost one sent", len(p.Reused), len(p.Missing))
	}
}

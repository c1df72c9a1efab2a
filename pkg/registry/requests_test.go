package registry

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// outcome is what the steps of a run returned.
type outcome struct {
	By              string // what the image was found by
	Held            Layers
	Missing, Reused []v1.Descriptor
	Verified        bool
}

// uploadOnce does what a run does with an image that an engine knows by its config, each step with a repository of open's.
func uploadOnce(t *testing.T, open func() *Repository, img v1.Image) (o outcome) {
	t.Helper()
	found, err := open().Locate(t.Context(), identityOf(t, img), Hints{})
	if err != nil {
		t.Fatal(err)
	}
	if found.Image != nil {
		return outcome{By: foundBy(t, found)}
	}
	o.Held = open().Layers(t.Context(), found.Hints)
	p, err := open().Plan(t.Context(), img, o.Held, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.Missing, o.Reused = p.Missing, p.Reused
	if o.Verified, err = open().Push(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	if err := open().Record(t.Context(), img, true, found.Hints, configOf(t, img)); err != nil {
		t.Fatal(err)
	}
	if err := open().MoveLatest(t.Context(), img, found.Hints); err != nil {
		t.Fatal(err)
	}
	return o
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

// TestRequests: each request is a round trip of a user's job; opening takes two more. A repository has no memory: when each
// step has one of its own, the steps return the same and make as many requests.
func TestRequests(t *testing.T) {
	layers := someLayers(t, 5)
	img := mustAppend(t, layers[:4]...)
	changed := mustAppend(t, append(slices.Clone(layers[:3]), layers[4])...)
	outcomes := map[string][]outcome{}
	openers := map[string]func(s *server) func() *Repository{
		"one repository": func(s *server) func() *Repository {
			r := s.connect(t, &counter{})
			return func() *Repository { return r }
		},
		"one for each step": func(s *server) func() *Repository {
			return func() *Repository { return s.connect(t, &counter{}) }
		},
	}
	for mode, opener := range openers {
		s := newServer(t)
		run := func(name string, img v1.Image, by string, want map[string]int) {
			t.Helper()
			s.log()
			got := uploadOnce(t, opener(s), img)
			if got.By != by {
				t.Errorf("%s, %s: found by %q, want %q", mode, name, got.By, by)
			}
			wantRequests(t, mode+", "+name, s.log(), want)
			outcomes[mode] = append(outcomes[mode], got)
		}
		// Locate: record, latest, digest. Plan: a manifest and five blobs. Layers: POST, PATCH, PUT. Config: POST, PUT.
		// The manifest. The record: two small blobs, a manifest under two tags. The tag.
		run("first push", img, "", map[string]int{"GET": 3, "HEAD": 6, "POST": 7, "PATCH": 4, "PUT": 11})
		// The record's manifest, latest.
		run("unchanged, latest and recorded", img, byLatest, map[string]int{"GET": 2})
		// Also the record of latest's digest, latest's config and its four blobs. Of five blobs, three are known.
		run("last layer changed", changed, "", map[string]int{"GET": 5, "HEAD": 7, "POST": 4, "PATCH": 1, "PUT": 8})
		// The manifest that the record names, too.
		run("unchanged, recorded", img, byRecord, map[string]int{"GET": 3})

		s = newServer(t)
		s.seed(t, repoPath+":latest", img)
		run("unchanged, filled by another tool", img, byLatest, map[string]int{"GET": 2})
		// It has no record, so its layers, which were asked for with that, aren't used; the record under its config is written
		// before the tag moves.
		run("last layer changed of another tool's", changed, "", map[string]int{"GET": 6, "HEAD": 10, "POST": 6, "PATCH": 1, "PUT": 11})
	}
	if diff := cmp.Diff(outcomes["one repository"], outcomes["one for each step"]); diff != "" {
		t.Errorf("one repository, and one for each step (-one +each):\n%s", diff)
	}
}

// TestHintsAreShared: several images of a run are looked for with the hints of those before, which a step leaves as they
// were.
func TestHintsAreShared(t *testing.T) {
	s := newServer(t)
	known := randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", known)
	var hints Hints
	for i, step := range []struct {
		img  v1.Image
		want map[string]int
	}{
		{randomImage(t, 100, 1), map[string]int{"GET": 5, "HEAD": 1}}, // latest, its record, config and layer; the image's record, its digest
		{randomImage(t, 100, 1), map[string]int{"GET": 2}},            // the image's record, its digest
		{known, map[string]int{"GET": 1}},                             // the image's record
	} {
		r, _ := s.open(t)
		before := hints.clone()
		found, err := r.Locate(t.Context(), identityOf(t, step.img), hints)
		if err != nil {
			t.Fatal(err)
		}
		wantRequests(t, fmt.Sprintf("image %d", i), s.log(), step.want)
		if len(hints.records) != len(before.records) || len(hints.manifests) != len(before.manifests) || hints.asked != before.asked {
			t.Errorf("image %d: Locate changed the hints that it was given", i)
		}
		hints = found.Hints
	}
	r, _ := s.open(t)
	_, err := r.Locate(t.Context(), identityOf(t, known), hints)
	if requests := s.log(); err != nil || len(requests) > 0 {
		t.Errorf("the same again: %q, %v; want no request", requests, err)
	}
}

// wantRequests compares the requests' number by method.
func wantRequests(t *testing.T, what string, requests []string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, request := range requests {
		if method, path, _ := strings.Cut(request, " "); path != "/v2/" { // which opening asks for
			got[method]++
		}
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
	for _, blob := range r.Layers(t.Context(), Hints{}) {
		if blob.Digest == lost {
			t.Errorf("%s is known, but not there", lost)
		}
	}
	p := mustPush(t, r, mustAppend(t, layers...))
	if len(p.Reused) != 1 || len(p.Missing) != 3 {
		t.Errorf("%d blobs reused, %d sent, want the config, the new layer and the lost one sent", len(p.Reused), len(p.Missing))
	}
}

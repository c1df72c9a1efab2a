package registry

import (
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

func TestLatestMoves(t *testing.T) {
	s := newServer(t)
	older, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", older)
	s.seed(t, repoPath+":newer", newer)
	r, _ := s.open(t)
	for _, img := range []v1.Image{newer, older, newer} {
		if err := r.MoveLatest(t.Context(), img, latestHints(t, r)); err != nil {
			t.Fatal(err)
		}
		fresh, _ := s.open(t)
		if got := fresh.latest(t.Context()); got == nil || got.Digest != digestOf(t, img) {
			t.Errorf("latest is %+v, want %s", got, digestOf(t, img))
		}
	}
	wantError(t, r.MoveLatest(t.Context(), randomImage(t, 10, 1), Hints{}), "sending the manifest")
}

// An answer about the tag is good for a run, whatever it is.
func TestLatestIsAskedForOnce(t *testing.T) {
	for name, status := range map[string]int{"absent": 404, "refused": 403, "broken": 500} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/latest") && answer(w, status, "MANIFEST_UNKNOWN")
			})
			id := identityOf(t, randomImage(t, 10, 1))
			var hints Hints
			for range 2 {
				found, err := r.Locate(t.Context(), id, hints)
				if found.Image != nil || err != nil {
					t.Fatalf("Locate = %+v, %v", found, err)
				}
				hints = found.Hints
				r.Layers(t.Context(), hints)
			}
			if got := s.log(); len(got) != 3 {
				t.Errorf("%q, want one request each for the record, the tag and the digest", got)
			}
		})
	}
}

// The image that another tool pushed is found by its config before and after the tag leaves it.
func TestMovedLatestLeavesARecord(t *testing.T) {
	s := newServer(t)
	older, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", older)
	r, _ := s.open(t)
	locate := func(by string) {
		t.Helper()
		r, _ := s.open(t)
		got, err := r.Locate(t.Context(), identityOf(t, older), Hints{})
		if err != nil || foundBy(t, got) != by || digestOf(t, got.Image) != digestOf(t, older) {
			t.Errorf("Locate = %+v, %v; want it by the %s", got, err, by)
		}
	}
	locate(byLatest)
	found, err := r.Locate(t.Context(), identityOf(t, newer), Hints{})
	if err != nil {
		t.Fatal(err)
	}
	mustPush(t, r, newer)
	if err := r.MoveLatest(t.Context(), newer, found.Hints); err != nil {
		t.Fatal(err)
	}
	locate(byRecord)
}

func TestMoveLatestWritesNoMoreThanItMust(t *testing.T) {
	img, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	for name, test := range map[string]struct {
		before func(t *testing.T, r *Repository)
		writes int
	}{
		"latest absent": {func(*testing.T, *Repository) {}, 1},
		"latest unseen": {func(t *testing.T, r *Repository) { t.Helper(); push(t, r, img) }, 1},
		"no record":     {func(t *testing.T, r *Repository) { t.Helper(); push(t, r, img) }, 6},
		"an index":      {func(t *testing.T, r *Repository) { t.Helper(); push(t, r, index) }, 1},
		"a record": {func(t *testing.T, r *Repository) {
			t.Helper()
			push(t, r, img)
			recordAs(t, r, configOf(t, img), digestOf(t, img))
		}, 1},
		"a record of another": {func(t *testing.T, r *Repository) {
			t.Helper()
			push(t, r, img)
			recordAs(t, r, configOf(t, img), digestOf(t, newer))
		}, 6},
		"the same": {func(t *testing.T, r *Repository) { t.Helper(); push(t, r, newer) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			earlier, _ := s.open(t)
			test.before(t, earlier)
			r, _ := s.open(t)
			var hints Hints
			if name != "latest unseen" {
				hints = latestHints(t, r)
			}
			mustPush(t, r, newer)
			s.log()
			if err := r.MoveLatest(t.Context(), newer, hints); err != nil {
				t.Fatal(err)
			}
			if got := s.log(); count(got, "P") != test.writes {
				t.Errorf("%q, want %d writes", got, test.writes)
			}
		})
	}
}

// push pushes an image as the latest.
func push(t *testing.T, r *Repository, img image.ImageOrIndex) {
	t.Helper()
	mustPush(t, r, img)
	if err := r.MoveLatest(t.Context(), img, Hints{}); err != nil {
		t.Fatal(err)
	}
}

// latestHints are what a step reads that only asks for the tag.
func latestHints(t *testing.T, r *Repository) Hints {
	t.Helper()
	return Hints{asked: true, latest: r.latest(t.Context())}
}

func recordAs(t *testing.T, r *Repository, source, remote v1.Hash) {
	t.Helper()
	if err := r.record(t.Context(), remote, false, Hints{}, []v1.Hash{source}); err != nil {
		t.Fatal(err)
	}
}

// The two hints don't depend on each other.
func TestLatestMovesWithoutARecord(t *testing.T) {
	s := newServer(t)
	older, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", older)
	r, _ := s.open(t)
	hints := latestHints(t, r)
	mustPush(t, r, newer)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".imgpkg") && answer(w, 409, "TAG_INVALID")
	})
	wantError(t, r.MoveLatest(t.Context(), newer, hints), "writing the locations record", "TAG_INVALID")
	fresh, _ := s.open(t)
	if got := fresh.latest(t.Context()); got == nil || got.Digest != digestOf(t, newer) {
		t.Errorf("latest is %+v, want the newer", got)
	}
}

package registry

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

var (
	aKey    = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	aSource = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("cd", 32)}
)

// keyed pushes an image, records it under aKey, and forgets the requests.
func keyed(t *testing.T, s *server, img image.ImageOrIndex) *Repository {
	t.Helper()
	r, _ := s.open(t)
	mustPush(t, r, img)
	if err := r.RecordKey(t.Context(), aKey, img, aSource); err != nil {
		t.Fatal(err)
	}
	s.log()
	return r
}

func TestKeyed(t *testing.T) {
	one := randomImage(t, 100, 2)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: one}, mutate.IndexAddendum{Add: randomImage(t, 100, 1)})
	for name, test := range map[string]struct {
		img  image.ImageOrIndex
		want map[string]int
	}{
		"image": {one, map[string]int{"GET": 3, "HEAD": 2}},   // record, manifest, config; two layers
		"index": {index, map[string]int{"GET": 6, "HEAD": 3}}, // record, index, and of two images manifest and config; three layers
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r := keyed(t, s, test.img)
			img, source, err := r.Keyed(t.Context(), aKey)
			if err != nil || img == nil {
				t.Fatalf("%v, %v", img, err)
			}
			if got, want := digestOf(t, img), digestOf(t, test.img); got != want || source != aSource {
				t.Errorf("got %s of %s, want %s of %s", got, source, want, aSource)
			}
			wantRequests(t, name, s.log(), test.want)
			if err := r.RecordKey(t.Context(), aKey, test.img, aSource); err != nil {
				t.Fatal(err)
			}
			wantRequests(t, name+", the same record again", s.log(), map[string]int{"GET": 1})
			other := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ef", 32)}
			if img, _, err := r.Keyed(t.Context(), other); img != nil || err != nil {
				t.Errorf("under another key: %v, %v", img, err)
			}
		})
	}
}

// TestKeyedIsUnknown: a record that can't be believed, or an image that isn't complete any more, is no image.
func TestKeyedIsUnknown(t *testing.T) {
	img := randomImage(t, 100, 1)
	record := func(annotations map[string]string) func(t *testing.T, r *Repository) {
		return func(t *testing.T, r *Repository) {
			t.Helper()
			written, err := newRecord(r.name.Digest(digestOf(t, img).String()), annotations)
			if err == nil {
				err = r.pushAs(t.Context(), written, recordTag(aKey))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	gone := func(path string) func(t *testing.T, s *server) {
		return func(t *testing.T, s *server) {
			t.Helper()
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, path) && answer(w, http.StatusNotFound, "NOT_FOUND")
			})
		}
	}
	for name, test := range map[string]struct {
		record func(t *testing.T, r *Repository)
		spoil  func(t *testing.T, s *server)
	}{
		"record of imgpkg":    {record: record(nil)},
		"record without hash": {record: record(map[string]string{imageAnnotation: "latest"})},
		"of another charm":    {record: record(map[string]string{imageAnnotation: aSource.String(), sourceAnnotation: aSource.String()})},
		"manifest gone":       {spoil: gone("/manifests/" + digestOf(t, img).String())},
		"config gone":         {spoil: gone("/blobs/" + configOf(t, img).String())},
		"layer gone":          {spoil: gone("/blobs/" + layerOf(t, img).String())},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r := keyed(t, s, img)
			if test.record != nil {
				test.record(t, r)
			}
			if test.spoil != nil {
				test.spoil(t, s)
			}
			if got, _, err := r.Keyed(t.Context(), aKey); got != nil || err != nil {
				t.Errorf("got %v, %v; want no image", got, err)
			}
		})
	}
}

func TestKeyedFails(t *testing.T) {
	img := randomImage(t, 100, 1)
	for _, path := range []string{fmt.Sprintf("/manifests/%s", digestOf(t, img)), fmt.Sprintf("/blobs/%s", layerOf(t, img))} {
		s := newServer(t)
		r := keyed(t, s, img)
		s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, path) && answer(w, http.StatusForbidden, "DENIED")
		})
		_, _, err := r.Keyed(t.Context(), aKey)
		wantError(t, err, "looking for the image that the key means")
	}
	s := newServer(t)
	r, _ := s.open(t)
	mustPush(t, r, img)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, recordTag(aKey)) && answer(w, http.StatusForbidden, "DENIED")
	})
	wantError(t, r.RecordKey(t.Context(), aKey, img, aSource), "recording the key of")
}

package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

var (
	aKey    = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	aSource = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("cd", 32)}
)

// keyed pushes an image, records it under aKey, and forgets the requests.
func keyed(t *testing.T, s *server, img image.ImageOrIndex) *View {
	t.Helper()
	r, _ := s.open(t)
	mustPush(t, r, img)
	if err := r.RecordKey(t.Context(), aKey, img, aSource); err != nil {
		t.Fatal(err)
	}
	s.log()
	return r.again()
}

func TestFindKey(t *testing.T) {
	one := randomImage(t, 100, 2)
	index := mutate.AppendManifests(
		empty.Index, mutate.IndexAddendum{Add: one}, mutate.IndexAddendum{Add: randomImage(t, 100, 1)})
	for name, test := range map[string]struct {
		img  image.ImageOrIndex
		want map[string]int
	}{
		// The record, the manifest, the config; two layers.
		"image": {one, map[string]int{"GET": 3, "HEAD": 2}},
		// The record, the index, and of two images manifest and config; three layers.
		"index": {index, map[string]int{"GET": 6, "HEAD": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r := keyed(t, s, test.img)
			found, err := r.FindKey(t.Context(), aKey)
			if err != nil || found.Image == nil {
				t.Fatalf("%+v, %v", found, err)
			}
			if got, want := digestOf(t, found.Image), digestOf(t, test.img); got != want || found.Source != aSource {
				t.Errorf("got %s of %s, want %s of %s", got, found.Source, want, aSource)
			}
			wantRequests(t, name, s.log(), test.want)
			if err := r.RecordKey(t.Context(), aKey, test.img, aSource); err != nil {
				t.Fatal(err)
			}
			wantRequests(t, name+", the same record again", s.log(), map[string]int{})
			other := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ef", 32)}
			if found, err := r.FindKey(t.Context(), other); found.Image != nil || err != nil {
				t.Errorf("under another key: %+v, %v", found, err)
			}
		})
	}
}

// TestRecordKeyAgain: tokens keep each other's proofs of the same statement, and a key that means something else has
// the new proof alone.
func TestRecordKeyAgain(t *testing.T) {
	t.Parallel()
	img, other := randomImage(t, 100, 1), randomImage(t, 100, 1)
	for name, test := range map[string]struct {
		img    v1.Image
		source v1.Hash
		both   bool // tokens find it
	}{
		"the same":       {img, aSource, true},
		"another image":  {other, aSource, false},
		"another source": {img, aKey, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			v := keyed(t, s, img)
			mustPush(t, v, other)
			second := NewView(v.Repository, []byte("another key"), noProgress)
			if err := second.RecordKey(t.Context(), aKey, test.img, test.source); err != nil {
				t.Fatal(err)
			}
			found, err := NewView(v.Repository, []byte("another key"), noProgress).FindKey(t.Context(), aKey)
			if err != nil || found.Image == nil {
				t.Fatalf("with the second token: %+v, %v", found, err)
			}
			if got := digestOf(t, found.Image); got != digestOf(t, test.img) || found.Source != test.source {
				t.Errorf("with the second token: %s of %s", got, found.Source)
			}
			found, err = v.again().FindKey(t.Context(), aKey)
			if err != nil || (found.Image != nil) != test.both {
				t.Errorf("with the first token: %+v, %v; want an image: %t", found, err, test.both)
			}
		})
	}
	v, _ := newServer(t).open(t)
	wantError(t, v.RecordKey(t.Context(), aKey, unreadable{img}, aSource), "gone")
}

// TestKeyIsUnknown: a record without a proof of this token leads to no image, nor does one whose image isn't complete
// any more.
func TestKeyIsUnknown(t *testing.T) {
	img := randomImage(t, 100, 1)
	record := func(annotations map[string]string) func(t *testing.T, r *View) {
		return func(t *testing.T, r *View) {
			t.Helper()
			written, err := newRecord(r.name.Digest(digestOf(t, img).String()), annotations)
			if err == nil {
				err = r.pushRecords(t.Context(), map[string]v1.Image{recordTag(aKey): written})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	proven := func(p prover, kind string, key, source v1.Hash) func(t *testing.T, r *View) {
		return record(map[string]string{
			imageAnnotation: digestOf(t, img).String(), sourceAnnotation: aSource.String(),
			proofsAnnotation: p.proof(kind, key, digestOf(t, img), source),
		})
	}
	unproven := func(digest v1.Hash) func(t *testing.T, r *View) {
		return record(map[string]string{imageAnnotation: digest.String(), sourceAnnotation: aSource.String()})
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
		record func(t *testing.T, r *View)
		spoil  func(t *testing.T, s *server)
	}{
		"record of imgpkg":    {record: record(nil)},
		"record without hash": {record: record(map[string]string{imageAnnotation: "latest"})},
		"without a proof":     {record: unproven(digestOf(t, img))},
		"another token's":     {record: proven(prover{[]byte("another key"), repoPath}, keyKind, aKey, aSource)},
		"another charm's":     {record: proven(prover{aTokensKey, "charm/other/my-image"}, keyKind, aKey, aSource)},
		"another key's":       {record: proven(prover{aTokensKey, repoPath}, keyKind, aSource, aSource)},
		"another source's":    {record: proven(prover{aTokensKey, repoPath}, keyKind, aKey, aKey)},
		"of layers":           {record: proven(prover{aTokensKey, repoPath}, layersKind, aKey, aSource)},
		"of another charm":    {record: unproven(aSource)},
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
			if got, err := r.again().FindKey(t.Context(), aKey); got.Image != nil || err != nil {
				t.Errorf("got %+v, %v; want no image", got, err)
			}
		})
	}
}

// TestKeyOfAnIncompleteAttestation: the config of what isn't an image to run isn't read with it, so it is asked for.
func TestKeyOfAnIncompleteAttestation(t *testing.T) {
	t.Parallel()
	attestation := mustAppend(t, static.NewLayer([]byte("{}"), "application/vnd.in-toto+json"))
	index := mutate.AppendManifests(
		empty.Index, mutate.IndexAddendum{Add: randomImage(t, 100, 1)}, mutate.IndexAddendum{Add: attestation})
	for _, path := range []string{
		"/blobs/" + configOf(t, attestation).String(), "/manifests/" + digestOf(t, attestation).String(),
	} {
		s := newServer(t)
		v := keyed(t, s, index)
		if found, err := v.FindKey(t.Context(), aKey); found.Image == nil || err != nil {
			t.Errorf("the complete index: %+v, %v", found, err)
		}
		s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, path) && answer(w, http.StatusNotFound, "NOT_FOUND")
		})
		if found, err := v.again().FindKey(t.Context(), aKey); found.Image != nil || err != nil {
			t.Errorf("without %s: %+v, %v", path, found, err)
		}
	}
}

func TestFindKeyFails(t *testing.T) {
	img := randomImage(t, 100, 1)
	for _, path := range []string{
		"/manifests/" + recordTag(aKey), "/manifests/" + digestOf(t, img).String(), "/blobs/" + layerOf(t, img).String(),
		"/blobs/" + configOf(t, img).String(),
	} {
		for status, advice := range map[int]string{
			http.StatusForbidden:          "check that the store token's account may upload to this charm",
			http.StatusServiceUnavailable: runAgain,
		} {
			s := newServer(t)
			r := keyed(t, s, img)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, path) && answer(w, status, "DENIED")
			})
			_, err := r.FindKey(t.Context(), aKey)
			wantError(t, err, "looking for the image that the key means")
			if err != nil && (strings.Count(err.Error(), advice) != 1 ||
				strings.Count(err.Error(), "refused the credentials") > 1) {
				t.Errorf("%d for %s: %v, want %q once", status, path, err, advice)
			}
		}
	}
	stopped := errors.New("stopped")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(stopped)
	if found, err := keyed(t, newServer(t), img).FindKey(ctx, aKey); !errors.Is(err, stopped) {
		t.Errorf("got %+v, %v; want the end of the run", found, err)
	}
	s := newServer(t)
	r, _ := s.open(t)
	mustPush(t, r, img)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		isRecord := r.Method == http.MethodPut && strings.Contains(r.URL.Path, recordTag(aKey))
		return isRecord && answer(w, http.StatusForbidden, "DENIED")
	})
	wantError(t, r.RecordKey(t.Context(), aKey, img, aSource), "writing the locations record")
}

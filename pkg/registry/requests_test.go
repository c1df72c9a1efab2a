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
	Found           bool
	Learned         Layers
	Missing, Reused []v1.Descriptor
	Compared        bool
}

// uploadOnce does what a run does with an image that an engine knows by its config, each step with a view of open's.
func uploadOnce(t *testing.T, open func() *View, img v1.Image) (o outcome) {
	t.Helper()
	found, err := open().Find(t.Context(), byID(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if o.Found, o.Compared = found.Image != nil, found.Compared; !o.Found {
		v := open()
		o.Learned = v.Layers(t.Context())
		p, err := v.Plan(t.Context(), img, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Missing, o.Reused = p.Missing, p.Reused
		if o.Compared, err = v.Push(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		if err := moveLatest(t, open(), img); err != nil {
			t.Fatal(err)
		}
	}
	if o.Compared {
		if err := recordImage(t, open(), img, true); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// smallMax is the size in bytes up to which a blob is sent by the request that ends its upload.
const smallMax = 1 << 20

// someLayers returns layers that are each sent by a request of their own.
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

// TestRequests: each request is a round trip of a user's job; opening takes two more. A view has no memory but of
// what it asked: if each step has one of its own, the steps return the same.
func TestRequests(t *testing.T) {
	t.Parallel()
	layers := someLayers(t, 5)
	img := mustAppend(t, layers[:4]...)
	changed := mustAppend(t, append(slices.Clone(layers[:3]), layers[4])...)
	outcomes := map[bool][]outcome{}
	for _, shared := range []bool{true, false} {
		s := newServer(t)
		run := func(name string, img v1.Image, want map[string]int) {
			t.Helper()
			s.log()
			first := s.connect(t, &counter{})
			got := uploadOnce(t, func() *View {
				if shared {
					return first
				}
				return first.again()
			}, img)
			if shared {
				wantRequests(t, name, s.log(), want)
			}
			outcomes[shared] = append(outcomes[shared], got)
		}
		// Find: record, latest. Plan: a manifest and five blobs. Layers: POST, PATCH, PUT. Config: POST, PUT. The manifest.
		// The record: two small blobs and a manifest. The tag.
		run("first push", img, map[string]int{"GET": 2, "HEAD": 6, "POST": 7, "PATCH": 4, "PUT": 10})
		// The record's manifest, latest.
		run("unchanged, latest and recorded", img, map[string]int{"GET": 2})
		// Also the record of latest, its config and its four blobs. Of the five blobs of the image three are known then.
		run("last layer changed", changed, map[string]int{"GET": 4, "HEAD": 7, "POST": 4, "PATCH": 1, "PUT": 7})
		// The manifest that the record names, too.
		run("unchanged, recorded", img, map[string]int{"GET": 3})

		s = newServer(t)
		s.seed(t, repoPath+":latest", img)
		// Record, latest, config and four layers, which are compared; the record.
		run("filled by another tool", img, map[string]int{"GET": 7, "POST": 2, "PUT": 3})
		run("filled by another tool, again", img, map[string]int{"GET": 2})

		s = newServer(t)
		s.seed(t, repoPath+":latest", img)
		// Nothing is asked of an image that isn't proven. Its record is written before the tag moves.
		want := map[string]int{"GET": 3, "HEAD": 6, "POST": 4, "PATCH": 1, "PUT": 7}
		run("last layer changed of another tool's", changed, want)
	}
	if diff := cmp.Diff(outcomes[true], outcomes[false]); diff != "" {
		t.Errorf("one view, and one for each step (-one +each):\n%s", diff)
	}
}

// TestRunsShareAnswers: several images of a run are looked for with the answers of those before.
func TestRunsShareAnswers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	known := randomImage(t, 100, 1)
	v, _ := s.open(t)
	uploaded(t, v, known)
	v, _ = s.open(t)
	for i, step := range []struct {
		img  v1.Image
		want map[string]int
	}{
		{randomImage(t, 100, 1), map[string]int{"GET": 2}}, // latest, the image's record
		{randomImage(t, 100, 1), map[string]int{"GET": 1}}, // the image's record
		{known, map[string]int{"GET": 1}},                  // the image's record
		{known, map[string]int{}},
	} {
		if _, err := v.Find(t.Context(), byID(t, step.img)); err != nil {
			t.Fatal(err)
		}
		wantRequests(t, fmt.Sprintf("image %d", i), s.log(), step.want)
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
	uploader, _ := s.open(t)
	uploaded(t, uploader, mustAppend(t, layers[:2]...))
	lost := digestOf(t, layers[0])
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, lost.String()) &&
			answer(w, http.StatusNotFound, "BLOB_UNKNOWN")
	})
	r, _ := s.open(t)
	for _, blob := range r.again().Layers(t.Context()) {
		if blob.Digest == lost {
			t.Errorf("%s is known, but not there", lost)
		}
	}
	p := mustPush(t, r, mustAppend(t, layers...))
	if len(p.Reused) != 1 || len(p.Missing) != 3 {
		t.Errorf("%d blobs reused, %d sent, want the config, the new layer and the lost one sent",
			len(p.Reused), len(p.Missing))
	}
}

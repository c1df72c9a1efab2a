package registry

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layersIn returns the layers of an image.
func layersIn(t *testing.T, img v1.Image) []v1.Layer {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return layers
}

// TestSendBlob: what is sent before the plan is known isn't sent again, and is shown as sent.
func TestSendBlob(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 1000, 6)
	layers := layersIn(t, img)
	mustPush(t, v, mustAppend(t, layers[0])) // which the repository has then
	v = v.again()
	s.log()
	var g sync.WaitGroup
	for _, layer := range append(layers[:3], layers[1]) {
		g.Go(func() {
			if err := v.SendBlob(t.Context(), layer); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := count(s.log(), "POST"); n != 2 {
		t.Errorf("%d uploads, want 2", n)
	}
	p, err := v.Plan(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	var shown int64
	if _, err := v.Push(t.Context(), p, func(n int64) { shown += n }); err != nil {
		t.Fatal(err)
	}
	if n := count(s.log(), "POST"); n != 4 {
		t.Errorf("%d uploads after that, want the config's and three", n)
	}
	if want := Size(p.Missing); shown != want || len(p.Missing) != 6 {
		t.Errorf("%d bytes shown of %d blobs, want %d of 6", shown, len(p.Missing), want)
	}
}

// TestSendBlobFails: Push sends what could not be sent early.
func TestSendBlobFails(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 1000, 1)
	var posts atomic.Int64
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPost && posts.Add(1) == 1 && answer(w, http.StatusForbidden, "DENIED")
	})
	layer := layersIn(t, img)[0]
	wantError(t, v.SendBlob(t.Context(), layer), "DENIED")
	wantError(t, v.SendBlob(t.Context(), undigested{layer}), "gone")
	p, err := v.Plan(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Push(t.Context(), p, nil); err != nil {
		t.Error(err)
	}
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodHead && answer(w, http.StatusForbidden, "DENIED")
	})
	wantError(t, v.again().SendBlob(t.Context(), layer), "asking whether")
}

// undigested is a layer whose digest can't be computed.
type undigested struct{ v1.Layer }

// Digest always fails.
func (undigested) Digest() (v1.Hash, error) { return v1.Hash{}, errors.New("gone") }

func TestLacks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 10, 1)
	if lacks, err := v.Lacks(t.Context(), configOf(t, img)); !lacks || err != nil {
		t.Errorf("%t, %v", lacks, err)
	}
	mustPush(t, v, img)
	if lacks, err := v.again().Lacks(t.Context(), configOf(t, img)); lacks || err != nil {
		t.Errorf("pushed: %t, %v", lacks, err)
	}
	s.spoil(func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, http.StatusForbidden, "DENIED") })
	if lacks, err := v.again().Lacks(t.Context(), configOf(t, img)); lacks || err == nil {
		t.Errorf("refused: %t, %v", lacks, err)
	}
}

// unnamed is a layer of which the digest and the size are known alone.
type unnamed struct{ v1.Layer }

// MediaType returns no media type.
func (unnamed) MediaType() (types.MediaType, error) { return "", nil }

// TestSendBlobComparesLater: a layer that is sent before its image is known is compared with the image's config by
// Push.
func TestSendBlobComparesLater(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 1000, 2)
	layers := layersIn(t, img)
	plain := static.NewLayer([]byte("not compressed"), types.DockerLayer) // a static layer is its own diff ID
	other := layersIn(t, randomImage(t, 10, 1))[0]
	for name, test := range map[string]struct {
		img      v1.Image
		packed   Layers
		sent     v1.Layer
		compared bool
		err      string
	}{
		"right":      {img: img, sent: layers[1], compared: true},
		"of packing": {img: img, packed: layersOf(t, img), sent: layers[1], compared: true},
		"another layer's": {
			img: withLayers(t, img, layers[0], other), sent: other, err: "the image's config gives the layer the diff ID",
		},
		"labelled gzip, none": {img: mustAppend(t, layers[0], plain), sent: plain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			v, _ := s.open(t)
			if err := v.SendBlob(t.Context(), unnamed{test.sent}); err != nil {
				t.Fatal(err)
			}
			p, err := v.Plan(t.Context(), test.img, test.packed)
			if err != nil {
				t.Fatal(err)
			}
			s.log()
			compared, err := v.Push(t.Context(), p, nil)
			if test.err != "" {
				wantError(t, err, test.err)
				if n := count(s.log(), "PUT /v2/"+repoPath+"/manifests/"); n > 0 {
					t.Error("the manifest was sent")
				}
			} else if err != nil || compared != test.compared {
				t.Errorf("compared: %t, error %v", compared, err)
			}
		})
	}
}

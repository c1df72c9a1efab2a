package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
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
		t.Fatalf("%d waits, want 2", len(c.waits))
	}
	if first := transport.Backoff(0, nil); c.waits[0] > first*3/2 {
		t.Errorf("the first wait is %s, want the shortest, such as %s", c.waits[0], first)
	}
	puts.Store(0)
	r.wait = func(context.Context, time.Duration) error { return errors.New("stopped") }
	wantError(t, pushError(t, r, mustPlan(t, r, randomImage(t, 100, 1))), "stopped")
	if n := puts.Load(); n != 1 {
		t.Errorf("sent %d times by a run that is stopped, want 1", n)
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

// TestMislabelledLayersAreNotVerified: engines tell by the content how a layer is compressed, but not every engine
// knows every format. An image may have such a layer, and no other gets it from there.
func TestMislabelledLayersAreNotVerified(t *testing.T) {
	content := []byte("a layer")
	diffID, _, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	blob := append([]byte("???"), content...) // of a compression of three bytes, and no more
	for _, mediaType := range []types.MediaType{types.DockerLayer, types.OCILayer, types.OCILayerZStd} {
		s := newServer(t)
		r, _ := s.open(t)
		r.decompress = func(blob io.Reader) (io.ReadCloser, bool, error) {
			_, err := io.ReadFull(blob, make([]byte, 3))
			return io.NopCloser(blob), true, err
		}
		img := mustAppend(t, named{static.NewLayer(blob, mediaType), diffID})
		verified, err := r.Push(t.Context(), mustPlan(t, r, img), nil)
		if verified || err != nil {
			t.Errorf("%s of another compression is verified: %t, %v", mediaType, verified, err)
		}
	}
}

// TestPushProvesWhatFindCompares: an image is proven by sending it only if all of it was compared, and if Find would
// compare an image of that form.
func TestPushProvesWhatFindCompares(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 2)
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	const content = "a layer"
	diffID, _, err := v1.SHA256(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	zstandard := encoder.EncodeAll([]byte(content), nil)
	of := func(mediaTypes ...types.MediaType) v1.Image {
		var layers []v1.Layer
		for _, mediaType := range mediaTypes {
			layers = append(layers, named{static.NewLayer(zstandard, mediaType), diffID})
		}
		return mustAppend(t, layers...)
	}
	first := func(change func(layer *v1.Descriptor)) v1.Image {
		return tamper(t, img, func(m *v1.Manifest) { change(&m.Layers[0]) })
	}
	for name, test := range map[string]struct {
		img  image.ImageOrIndex
		want bool
	}{
		"gzip":        {img, true},
		"zstd":        {of(types.OCILayerZStd), true},
		"zstd, twice": {of(types.OCILayerZStd, types.OCILayerZStd), true},
		"an index":    {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}), true},
		"an index with a foreign one": {mutate.AppendManifests(empty.Index,
			mutate.IndexAddendum{Add: foreign(t, "https://example.com/layer")}), true},
		"zstd, labelled gzip":     {of(types.OCILayer), false},
		"zstd, labelled gzip too": {of(types.OCILayerZStd, types.OCILayer), false},
		"gzip, labelled zstd":     {first(func(layer *v1.Descriptor) { layer.MediaType = types.OCILayerZStd }), false},
		"foreign":                 {foreign(t, "https://example.com/layer"), false},
		"encrypted": {mustAppend(t, layersIn(t, img)[0],
			static.NewLayer([]byte("?"), types.OCILayer+"+encrypted")), false},
		"embedded": {first(func(layer *v1.Descriptor) { layer.Data = []byte("x") }), false},
		"annotated": {first(func(layer *v1.Descriptor) {
			layer.Annotations = map[string]string{"x": "y"}
		}), false},
		"without layers":        {empty.Image, false},
		"config of an artifact": {mutate.ConfigMediaType(img, "application/vnd.artifact"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := newServer(t).open(t)
			v.decompress = new(compression.Bounds).Decompress
			p := mustPlan(t, v, test.img)
			p.WillRecord = true
			compared, err := v.Push(t.Context(), p, nil)
			if err != nil || compared != test.want {
				t.Errorf("compared: %t, %v; want %t", compared, err, test.want)
			}
			if compared, err = v.Push(t.Context(), mustPlan(t, v, test.img), nil); err != nil || compared {
				t.Errorf("again: compared: %t, %v; want false, since nothing was read", compared, err)
			}
		})
	}
}

// named is a layer that has another diff ID than it would have by itself.
type named struct {
	v1.Layer
	diffID v1.Hash
}

// DiffID returns the test's diff ID.
func (n named) DiffID() (v1.Hash, error) { return n.diffID, nil }

// TestWillCompare: each layer that has to be compared is sent, and not mounted.
func TestWillCompare(t *testing.T) {
	t.Parallel()
	v, _ := newServer(t).open(t)
	layer := layersIn(t, randomImage(t, 10, 1))[0]
	missing := []v1.Descriptor{{Digest: aKey}}
	mountable := func(registry name.Registry) partial.CompressedLayer {
		return &remote.MountableLayer{Layer: layer, Reference: registry.Repo("other/image").Tag("1")}
	}
	elsewhere, err := name.NewRegistry("registry.example")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		missing []v1.Descriptor
		layer   partial.CompressedLayer
		err     error
		want    bool
	}{
		"sent":                       {missing: missing, layer: layer, want: true},
		"there already":              {layer: layer},
		"can't be opened":            {missing: missing, err: errors.New("gone")},
		"mountable":                  {missing: missing, layer: mountable(v.name.Registry)},
		"mountable, but not by this": {missing: missing, layer: mountable(elsewhere), want: true},
	} {
		open := func() (partial.CompressedLayer, error) { return test.layer, test.err }
		p := &Plan{
			Missing: test.missing, blobs: map[v1.Hash]blob{aKey: {layer: open}},
			comparable: true, expectedDiffIDs: map[v1.Hash]v1.Hash{aKey: aSource},
		}
		if got := v.willCompare(p); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if !v.willCompare(&Plan{comparable: true}) {
		t.Error("a plan without such a layer isn't proven")
	}
	if v.willCompare(&Plan{}) {
		t.Error("an image that can't be compared is proven")
	}
}

// TestSenders: more blobs are sent at once where answers take long.
func TestSenders(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]int{time.Millisecond: senders, time.Second: mostSenders} {
		s := newServer(t)
		v, _ := s.open(t)
		var mu sync.Mutex
		atOnce, most := 0, 0
		full, enough := make(chan struct{}), make(chan struct{})
		s.spoil(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			mu.Lock()
			if atOnce++; atOnce > most {
				if most = atOnce; most == want {
					close(full)
				}
			}
			mu.Unlock()
			<-enough
			mu.Lock()
			atOnce--
			mu.Unlock()
			return false
		})
		img := randomImage(t, 100, 2*mostSenders)
		p := mustPlan(t, v, img)
		v.seen.fastest.Store(&took)
		done := make(chan error, 1)
		go func() {
			_, err := v.Push(t.Context(), p, nil)
			done <- err
		}()
		select {
		case <-full:
		case <-time.After(time.Minute):
			t.Errorf("fewer than %d blobs are sent at once with answers within %s", want, took)
		}
		close(enough)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if most != want {
			t.Errorf("%d blobs were sent at once with answers within %s, want %d", most, took, want)
		}
	}
}

package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"

	"bytes"
	"io"
)

// packed is an image whose layers are compressed at that level.
func packed(t *testing.T, contents ...string) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for _, content := range contents {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte(content))), nil
		}, tarball.WithCompressionLevel(1))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	return mustAppend(t, layers...)
}

// layersOf are the layers of images, as these say themselves.
func layersOf(t *testing.T, images ...v1.Image) map[v1.Hash]v1.Descriptor {
	t.Helper()
	want := map[v1.Hash]v1.Descriptor{}
	for _, img := range images {
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			diffID, _ := l.DiffID()
			size, _ := l.Size()
			mediaType, _ := l.MediaType()
			want[diffID] = v1.Descriptor{MediaType: mediaType, Digest: digestOf(t, l), Size: size}
		}
	}
	return want
}

// pushVerified pushes an image or index as this program does.
func pushVerified(t *testing.T, r *Repository, img image.ImageOrIndex) {
	t.Helper()
	verified, err := r.Push(t.Context(), mustPlan(t, r, img), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Record(t.Context(), img, verified, Hints{}, digestOf(t, img)); err != nil {
		t.Fatal(err)
	}
	if err := r.MoveLatest(t.Context(), img, Hints{}); err != nil {
		t.Fatal(err)
	}
}

func TestLayers(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	img := packed(t, "base", "app")
	pushVerified(t, r, img)
	r, _ = s.open(t)
	if diff := cmp.Diff(layersOf(t, img), r.Layers(t.Context(), Hints{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLayersFromAnIndex(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	a, b := packed(t, "for amd64"), packed(t, "for arm64")
	pushVerified(t, r, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: a}, mutate.IndexAddendum{Add: b}))
	if diff := cmp.Diff(layersOf(t, a, b), r.Layers(t.Context(), Hints{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What another program pushed, and what this one looked at in part only, isn't used.
func TestLayersFromVerifiedAlone(t *testing.T) {
	img := packed(t, "base", "app")
	for name, prepare := range map[string]func(t *testing.T, s *server, r *Repository){
		"pushed by others": func(t *testing.T, s *server, _ *Repository) { t.Helper(); s.seed(t, repoPath+":latest", img) },
		"with a plain record": func(t *testing.T, s *server, r *Repository) {
			t.Helper()
			s.seed(t, repoPath+":latest", img)
			if err := r.Record(t.Context(), img, false, Hints{}, digestOf(t, img)); err != nil {
				t.Fatal(err)
			}
		},
		"with a record of another": func(t *testing.T, s *server, r *Repository) {
			t.Helper()
			s.seed(t, repoPath+":latest", img)
			if err := r.record(t.Context(), configOf(t, img), true, Hints{}, []v1.Hash{digestOf(t, img)}); err != nil {
				t.Fatal(err)
			}
		},
		"a layer was there": func(t *testing.T, _ *server, r *Repository) {
			t.Helper()
			mustPush(t, r, packed(t, "base"))
			pushVerified(t, r, img)
		},
		"a manifest was there": func(t *testing.T, _ *server, r *Repository) {
			t.Helper()
			mustPush(t, r, img)
			pushVerified(t, r, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			prepare(t, s, r)
			r, _ = s.open(t)
			if held := r.Layers(t.Context(), Hints{}); len(held) > 0 {
				t.Errorf("layers %v of what isn't verified", held)
			}
		})
	}
}

func TestLayersDistrusts(t *testing.T) {
	good, err := random.Layer(100, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]v1.Image{
		// A static layer is its own diff ID.
		"uncompressed, labelled gzip": mustAppend(t, good, static.NewLayer([]byte("plain"), types.DockerLayer)),
		"uncompressed":                mustAppend(t, static.NewLayer([]byte("plain"), types.DockerUncompressedLayer)),
		"elsewhere":                   foreign(t, "https://example.com/layer"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			pushVerified(t, r, img)
			want := map[v1.Hash]v1.Descriptor{}
			if name == "elsewhere" { // its other layer is in order
				want = layersOf(t, img)
				for diffID, d := range want {
					if d.MediaType == types.DockerForeignLayer {
						delete(want, diffID)
					}
				}
			}
			if diff := cmp.Diff(want, r.Layers(t.Context(), Hints{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"bytes"
	"io"
)

// packed is an image whose layers are compressed at that level.
func packed(t *testing.T, level int, contents ...string) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for _, content := range contents {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader([]byte(content))), nil
		}, tarball.WithCompressionLevel(level))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	return mustAppend(t, layers...)
}

// lessons is what an image teaches, computed from its layers.
func lessons(t *testing.T, images ...v1.Image) map[v1.Hash]v1.Descriptor {
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

func TestKnown(t *testing.T) {
	s := newServer(t)
	newest := packed(t, 1, "base of them all, and long enough to compress: aaaaaaaaaaaaaaaaaaaaaaa", "app 1")
	older := packed(t, 9, "base of them all, and long enough to compress: aaaaaaaaaaaaaaaaaaaaaaa", "app 2")
	s.seed(t, repoPath+":old", older)
	s.seed(t, repoPath+":latest", newest)
	r, _ := s.open(t)

	absent := v1.Hash{Algorithm: "sha256", Hex: digestOf(t, newest).Hex[1:] + "0"}
	got := r.Known(t.Context(), absent, digestOf(t, older), digestOf(t, older))
	if diff := cmp.Diff(lessons(t, older, newest), got); diff != "" {
		t.Errorf("the latest first (-want +got):\n%s", diff)
	}
	if err := r.Record(t.Context(), configOf(t, older), digestOf(t, older)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lessons(t, newest, older), r.Known(t.Context())); diff != "" {
		t.Errorf("what a record names first (-want +got):\n%s", diff)
	}
}

func TestKnownFromAnIndex(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	a, b := packed(t, 1, "for amd64"), packed(t, 1, "for arm64")
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: a}, mutate.IndexAddendum{Add: b})
	mustPush(t, r, index)
	if diff := cmp.Diff(lessons(t, a, b), r.Known(t.Context(), digestOf(t, index))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestKnownDistrusts(t *testing.T) {
	good, err := random.Layer(100, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	fewer, err := mutate.ConfigFile(mustAppend(t, good), &v1.ConfigFile{})
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]v1.Image{
		// A static layer is its own diff ID.
		"uncompressed, labelled gzip": mustAppend(t, good, static.NewLayer([]byte("plain"), types.DockerLayer)),
		"uncompressed":                mustAppend(t, static.NewLayer([]byte("plain"), types.DockerUncompressedLayer)),
		"more layers than diff IDs":   fewer,
		"elsewhere":                   foreign(t, "https://example.com/layer"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			mustPush(t, r, img)
			want := map[v1.Hash]v1.Descriptor{}
			if name == "elsewhere" { // its other layer is in order
				want = lessons(t, img)
				for diffID, d := range want {
					if d.MediaType == types.DockerForeignLayer {
						delete(want, diffID)
					}
				}
			}
			if diff := cmp.Diff(want, r.Known(t.Context(), digestOf(t, img))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
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
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
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

func TestLayers(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	img := packed(t, "base", "app")
	uploaded(t, r, img)
	r, _ = s.open(t)
	if diff := cmp.Diff(layersOf(t, img), r.again().Layers(t.Context())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLayersFromAnIndex(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	a, b := packed(t, "for amd64"), packed(t, "for arm64")
	uploaded(t, r, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: a}, mutate.IndexAddendum{Add: b}))
	if diff := cmp.Diff(layersOf(t, a, b), r.again().Layers(t.Context())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What another program or token pushed, and what was looked at in part only, isn't used, and nothing is asked of it.
func TestLayersFromProvenAlone(t *testing.T) {
	t.Parallel()
	img := packed(t, "base", "app")
	for name, prepare := range map[string]func(t *testing.T, s *server, v *View){
		"pushed by others": func(t *testing.T, s *server, _ *View) { t.Helper(); s.seed(t, repoPath+":latest", img) },
		"another token's": func(t *testing.T, _ *server, v *View) {
			t.Helper()
			uploaded(t, NewView(v.Repository, []byte("another key"), noProgress), img)
		},
		"with a plain record": func(t *testing.T, s *server, v *View) {
			t.Helper()
			s.seed(t, repoPath+":latest", img)
			if err := recordImage(t, v, img, false, configOf(t, img)); err != nil {
				t.Fatal(err)
			}
		},
		"with a record of another": func(t *testing.T, s *server, v *View) {
			t.Helper()
			s.seed(t, repoPath+":latest", img)
			other := statement{image: configOf(t, img), kind: layersKind}
			if err := v.writeRecords(t.Context(), map[v1.Hash]statement{configOf(t, img): other}); err != nil {
				t.Fatal(err)
			}
		},
		"a layer was there": func(t *testing.T, _ *server, v *View) {
			t.Helper()
			mustPush(t, v, packed(t, "base"))
			uploaded(t, v, img)
		},
		"a manifest was there": func(t *testing.T, _ *server, v *View) {
			t.Helper()
			mustPush(t, v, img)
			uploaded(t, v, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			v, _ := s.open(t)
			prepare(t, s, v)
			s.log()
			if learned := v.again().Layers(t.Context()); len(learned) > 0 {
				t.Errorf("layers %v of what isn't proven", learned)
			}
			wantRequests(t, name, s.log(), map[string]int{"GET": 2})
		})
	}
}

// TestLayersAreBounded: an image of many layers costs as many requests as are worth it.
func TestLayersAreBounded(t *testing.T) {
	t.Parallel()
	var contents []string
	for n := range maxLearned + 50 {
		contents = append(contents, fmt.Sprint(n))
	}
	img := packed(t, contents...)
	s := newServer(t)
	v, _ := s.open(t)
	uploaded(t, v, img)
	s.log()
	if n := len(v.again().Layers(t.Context())); n != maxLearned {
		t.Errorf("%d layers", n)
	}
	wantRequests(t, "many layers", s.log(), map[string]int{"GET": 3, "HEAD": maxLearned})
}

// TestLayersAskForEachOnce: a layer that can be reused is asked for once, and no other.
func TestLayersAskForEachOnce(t *testing.T) {
	t.Parallel()
	img := packed(t, "base", "base", "app")
	plain := static.NewLayer([]byte("plain"), types.DockerUncompressedLayer)
	mixed, err := mutate.AppendLayers(img, plain)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	v, _ := s.open(t)
	uploaded(t, v, mixed)
	s.log()
	if diff := cmp.Diff(layersOf(t, img), v.again().Layers(t.Context())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantRequests(t, "a layer twice, and one that isn't packed", s.log(), map[string]int{"GET": 3, "HEAD": 2})
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
			uploaded(t, r, img)
			if got := r.again().Layers(t.Context()); len(got) > 0 {
				t.Errorf("got %v, want no layer", got)
			}
		})
	}
}

// TestLayersOfComparableImages: in an index, an image that can't be compared as a whole shows nothing.
func TestLayersOfComparableImages(t *testing.T) {
	t.Parallel()
	good := randomImage(t, 100, 1)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: foreign(t, "https://example.com/layer")}, mutate.IndexAddendum{Add: good})
	v, _ := newServer(t).open(t)
	uploaded(t, v, index)
	if diff := cmp.Diff(layersOf(t, good), v.again().Layers(t.Context())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestLayersLeaveOutWhatIsUnreadable: what can't be read of an index is a line of the debug log, and the rest is
// learned.
func TestLayersLeaveOutWhatIsUnreadable(t *testing.T) {
	t.Parallel()
	const damaged = "[]"
	damagedDigest, _, err := v1.SHA256(strings.NewReader(damaged))
	if err != nil {
		t.Fatal(err)
	}
	good := packed(t, "base", "app")
	listed := func(mediaType types.MediaType, digest v1.Hash) v1.Descriptor {
		return v1.Descriptor{MediaType: mediaType, Digest: digest}
	}
	for name, test := range map[string]struct {
		other v1.Descriptor // listed before the good image
		gone  v1.Hash       // a blob
		lines int
		want  Layers
	}{
		"all in order": {other: listed(types.OCIImageIndex, aSource), want: layersOf(t, good)},
		"a damaged manifest": {
			other: listed(types.DockerManifestSchema2, damagedDigest), lines: 1, want: layersOf(t, good),
		},
		"no config":           {other: listed(types.OCIImageIndex, aSource), gone: configOf(t, good), lines: 1},
		"an artifact is good": {other: listed("application/vnd.artifact", aSource), want: layersOf(t, good)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.seed(t, repoPath+":good", good)
			raw := jsonOf(v1.IndexManifest{SchemaVersion: 2, MediaType: types.DockerManifestList, Manifests: []v1.Descriptor{
				test.other, {MediaType: types.DockerManifestSchema2, Digest: digestOf(t, good)},
			}})
			digest, _, err := v1.SHA256(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			v, _ := s.open(t)
			if err := v.writeRecords(t.Context(), map[v1.Hash]statement{digest: {image: digest, kind: layersKind}}); err != nil {
				t.Fatal(err)
			}
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case strings.HasSuffix(r.URL.Path, "/manifests/latest"):
					w.Header().Set("Content-Type", string(types.DockerManifestList))
					_, _ = w.Write(raw)
				case strings.HasSuffix(r.URL.Path, "/manifests/"+damagedDigest.String()):
					w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
					_, _ = io.WriteString(w, damaged)
				default:
					isGone := strings.HasSuffix(r.URL.Path, "/blobs/"+test.gone.String())
					return isGone && answer(w, http.StatusNotFound, "BLOB_UNKNOWN")
				}
				return true
			})
			core, logs := observer.New(zap.DebugLevel)
			v.log = zap.New(core)
			if diff := cmp.Diff(test.want, v.again().Layers(t.Context()), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if n := logs.FilterMessage("An image's layers can't be reused").Len(); n != test.lines {
				t.Errorf("%d lines say that layers can't be reused, want %d", n, test.lines)
			}
		})
	}
}

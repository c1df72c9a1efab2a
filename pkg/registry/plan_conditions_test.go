package registry

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// somePacked are layers of packing, which no image has.
var somePacked = Layers{aKey: {Digest: aSource}}

// TestPlanFails: each question that the registry refuses is an error of the plan, and isn't asked again.
func TestPlanFails(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	for name, test := range map[string]struct {
		img    image.ImageOrIndex
		packed Layers
		path   string
	}{
		"the manifest":          {img, nil, "/manifests/" + digestOf(t, img).String()},
		"a manifest of a child": {index, nil, "/manifests/" + digestOf(t, img).String()},
		"a blob":                {img, nil, "/blobs/" + layerOf(t, img).String()},
		"a blob of few":         {img, somePacked, "/blobs/" + layerOf(t, img).String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			v, _ := s.open(t)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, test.path) && answer(w, http.StatusForbidden, "DENIED")
			})
			_, err := v.Plan(t.Context(), test.img, test.packed)
			wantError(t, err, "asking whether")
			if n := count(s.log(), "HEAD /v2/"+repoPath+test.path); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// TestPlanReadsImages: an image is read if the repository lacks it, and a packed one always.
func TestPlanReadsImages(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	damaged := asConfig{img, []byte("{}")}
	s := newServer(t)
	v, _ := s.open(t)
	_, err := v.Plan(t.Context(), damaged, nil)
	wantError(t, err, "reading the image "+digestOf(t, img).String())
	mustPush(t, v, img)
	if p, err := v.again().Plan(t.Context(), damaged, nil); err != nil || !p.Present {
		t.Errorf("one that is there: %+v, %v", p, err)
	}
	_, err = v.again().Plan(t.Context(), damaged, somePacked)
	wantError(t, err, "reading the image "+digestOf(t, img).String())
}

// TestPlanAsksForFewBlobs: few blobs of a packed image are asked for together with its manifest, each once.
func TestPlanAsksForFewBlobs(t *testing.T) {
	t.Parallel()
	layers := someLayers(t, 3)
	for name, test := range map[string]struct {
		img  v1.Image
		want int
	}{
		"as many as few":  {mustAppend(t, layers[:2]...), 3},
		"one more":        {mustAppend(t, layers...), 0},
		"the same thrice": {mustAppend(t, layers[0], layers[0], layers[0]), 2},
	} {
		s := newServer(t)
		v, _ := s.open(t)
		mustPush(t, v, test.img)
		s.log()
		p, err := v.again().Plan(t.Context(), test.img, somePacked)
		if n := count(s.log(), "HEAD /v2/"+repoPath+"/blobs/"); n != test.want || err != nil || !p.Present {
			t.Errorf("%s: asked for %d blobs, want %d; %+v, %v", name, n, test.want, p, err)
		}
	}
}

// TestPlanExpectsDiffIDs: what packing made, and what a proven image has, need not be compared when it is sent.
func TestPlanExpectsDiffIDs(t *testing.T) {
	t.Parallel()
	img := packed(t, "base", "app")
	known := layersOf(t, packed(t, "base"))
	app := layersOf(t, packed(t, "app"))
	for name, prepare := range map[string]func(v *View) Layers{
		"packed": func(*View) Layers { return known },
		"packed, and labelled otherwise": func(*View) Layers {
			otherwise := maps.Clone(known)
			for diffID, d := range otherwise {
				d.MediaType = types.OCILayerZStd
				otherwise[diffID] = d
			}
			return otherwise
		},
		"proven": func(v *View) Layers { uploaded(t, v, packed(t, "base")); v.Layers(t.Context()); return nil },
	} {
		v, _ := newServer(t).open(t)
		layers := prepare(v)
		p, err := v.Plan(t.Context(), img, layers)
		if err != nil {
			t.Fatal(err)
		}
		want := map[v1.Hash]v1.Hash{}
		for diffID, blob := range app {
			want[blob.Digest] = diffID
		}
		for diffID, blob := range known {
			if name == "packed, and labelled otherwise" {
				want[blob.Digest] = diffID
			}
		}
		if diff := cmp.Diff(want, p.expectedDiffIDs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestParseRecord: a record names an image, and may have a source and proofs.
func TestParseRecord(t *testing.T) {
	t.Parallel()
	proofs := []string{"a", "b"}
	for name, test := range map[string]struct {
		mediaType   types.MediaType
		annotations map[string]string
		want        record
		fails       bool
	}{
		"all": {
			types.DockerManifestSchema2,
			map[string]string{
				imageAnnotation: aKey.String(), sourceAnnotation: aSource.String(), proofsAnnotation: "a,b",
			},
			record{image: aKey, source: aSource, proofs: proofs}, false,
		},
		"no source": {
			types.DockerManifestSchema2,
			map[string]string{imageAnnotation: aKey.String(), proofsAnnotation: "a,b"},
			record{image: aKey, proofs: proofs}, false,
		},
		"no image":    {types.DockerManifestSchema2, nil, record{}, true},
		"of an index": {types.DockerManifestList, map[string]string{imageAnnotation: aKey.String()}, record{}, true},
	} {
		d := &remote.Descriptor{Manifest: jsonOf(v1.Manifest{
			SchemaVersion: 2, Config: v1.Descriptor{Digest: aKey}, Annotations: test.annotations,
		})}
		d.MediaType = test.mediaType
		got, err := parseRecord(d)
		if (err != nil) != test.fails {
			t.Errorf("%s: %v", name, err)
		}
		if !test.fails {
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(record{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

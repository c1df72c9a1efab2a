package registry

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

func TestPushThenPresent(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	img := randomImage(t, 1000, 3)

	p := mustPlan(t, r, img)
	if p.Present || len(p.Missing) != 4 || len(p.Reused) != 0 || len(p.Manifests) != 1 {
		t.Fatalf("plan of an unknown image: %+v", p)
	}
	var received int64
	if _, err := r.Push(t.Context(), p, func(n int64) { received += n }); err != nil {
		t.Fatal(err)
	}
	if want := Size(p.Missing); received != want {
		t.Errorf("progress of %d bytes, want %d", received, want)
	}
	got, err := remote.Image(r.name.Digest(p.Image.Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Errorf("what was pushed: %v", err)
	}

	s.log()
	if p := mustPlan(t, r, img); !p.Present || p.Missing != nil || p.Manifests != nil {
		t.Errorf("plan of a present image: %+v", p)
	}
	if got := s.log(); len(got) != 1 {
		t.Errorf("a present image took %q, want one HEAD", got)
	}
}

func TestPlanSendsOnlyWhatChanged(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	base := randomImage(t, 1000, 3)
	mustPush(t, r, base)
	extra, err := random.Layer(500, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := mutate.AppendLayers(base, extra)
	if err != nil {
		t.Fatal(err)
	}
	s.log()
	p := mustPush(t, r, changed)
	if len(p.Missing) != 2 || len(p.Reused) != 3 {
		t.Errorf("missing %d, reused %d; want the config and a layer, and three", len(p.Missing), len(p.Reused))
	}
	if n := count(s.log(), "POST"); n != 2 {
		t.Errorf("%d uploads, want 2", n)
	}
}

func TestNestedIndexGoesBottomUp(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	inner, err := random.Index(100, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	img := randomImage(t, 100, 1)
	outer := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: inner}, mutate.IndexAddendum{Add: img},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Annotations: map[string]string{"named": "twice"}}})
	mustPush(t, r, img) // so one child is there already
	s.log()
	p := mustPush(t, r, outer)

	var want, got []string
	m, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		want = append(want, d.Digest.String())
	}
	want = append(want, digestOf(t, inner).String(), digestOf(t, outer).String())
	for _, request := range s.log() {
		if _, digest, ok := strings.Cut(request, "/manifests/"); ok && strings.HasPrefix(request, "PUT") {
			got = append(got, digest)
		}
	}
	slices.Sort(want[:2]) // images are sent at once
	slices.Sort(got[:min(2, len(got))])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests sent (-want +got):\n%s", diff)
	}
	if len(p.Missing) != 6 || p.Reused != nil {
		t.Errorf("missing %d, reused %d; want two images' blobs, and none", len(p.Missing), len(p.Reused))
	}
	pulled, err := remote.Index(r.name.Digest(p.Image.Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(pulled); err != nil {
		t.Error(err)
	}
}

// foreign is an image with a layer that is to be had elsewhere.
func foreign(t *testing.T, urls ...string) v1.Image {
	t.Helper()
	img, err := mutate.Append(randomImage(t, 100, 1), mutate.Addendum{
		Layer: static.NewLayer([]byte("of Windows"), types.DockerForeignLayer), URLs: urls,
		MediaType: types.DockerForeignLayer,
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestForeignLayersStayWhereTheyAre(t *testing.T) {
	r, _ := newServer(t).open(t)
	if p := mustPush(t, r, foreign(t, "https://example.com/layer")); len(p.Missing) != 2 {
		t.Errorf("%d blobs missing, want the config and the ordinary layer", len(p.Missing))
	}
	if p := mustPlan(t, r, foreign(t)); len(p.Missing) != 3 {
		t.Errorf("%d blobs missing, want all three when nobody says where else the layer is", len(p.Missing))
	}
}

// altered is an image with another manifest than its digest says.
type altered struct{ v1.Image }

// RawManifest returns a manifest other than the one that has the digest.
func (altered) RawManifest() ([]byte, error) { return []byte(`{"schemaVersion":2}`), nil }

func TestPlanErrors(t *testing.T) {
	img := randomImage(t, 10, 1)
	wrongSize := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Size: 7}})
	unknown := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add:        static.NewLayer([]byte("{}"), "application/x-unknown"),
		Descriptor: v1.Descriptor{MediaType: "application/x-unknown"},
	})
	damaged := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: altered{img}})
	for name, test := range map[string]struct {
		img  image.ImageOrIndex
		want []string
	}{
		"damaged manifest": {altered{img}, []string{digestOf(t, img).String(), "damaged"}},
		"damaged child":    {damaged, []string{digestOf(t, img).String(), "damaged"}},
		"wrong size":       {wrongSize, []string{"the index says 7 bytes"}},
		"unknown child":    {closed{unknown}, []string{"application/x-unknown", "neither an image nor an index"}},
		"unknown digest":   {renamed{img, v1.Hash{Algorithm: "md5", Hex: "00"}}, []string{"md5"}},
		"no manifest":      {illegible{img}, []string{"reading the image", "gone"}},
		"no list":          {unlisted{wrongSize}, []string{"reading the image", "gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			_, err := r.Plan(t.Context(), test.img, nil)
			wantError(t, err, test.want...)
			if n := count(s.log(), "P"); n != 0 {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// renamed is an image that has another digest than its own.
type renamed struct {
	v1.Image
	digest v1.Hash
}

// Digest returns the test's digest.
func (r renamed) Digest() (v1.Hash, error) { return r.digest, nil }

// illegible is an image whose manifest can't be parsed.
type illegible struct{ v1.Image }

// Manifest always fails.
func (illegible) Manifest() (*v1.Manifest, error) { return nil, errors.New("gone") }

// unlisted is an index whose manifest can't be parsed.
type unlisted struct{ index }

// IndexManifest always fails.
func (unlisted) IndexManifest() (*v1.IndexManifest, error) { return nil, errors.New("gone") }

// index is embedded under another name than that of its method.
type index = v1.ImageIndex

// closed is an index that gives nothing but images and indexes.
type closed struct{ index }

// shelf is an index that gives any blob.
type shelf struct {
	index
	blobs map[v1.Hash]v1.Layer
}

// Layer returns the blob with the digest, nil if there is none.
func (s shelf) Layer(h v1.Hash) (v1.Layer, error) { return s.blobs[h], nil }

func TestArtifactsTravelWithTheirBlobs(t *testing.T) {
	signature := static.NewLayer([]byte("signed"), "application/x-signature")
	desc := func(l v1.Layer) v1.Descriptor {
		size, _ := l.Size()
		mediaType, _ := l.MediaType()
		return v1.Descriptor{MediaType: mediaType, Digest: digestOf(t, l), Size: size}
	}
	artifact := static.NewLayer([]byte(`{"blobs":[{"mediaType":"application/x-signature","digest":"`+
		digestOf(t, signature).String()+`","size":6}]}`), "application/x-artifact")
	index := shelf{
		mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: artifact, Descriptor: desc(artifact)}),
		map[v1.Hash]v1.Layer{digestOf(t, artifact): artifact, digestOf(t, signature): signature},
	}
	r, _ := newServer(t).open(t)
	p := mustPlan(t, r, index)
	if diff := cmp.Diff([]v1.Descriptor{desc(signature)}, p.Missing); diff != "" {
		t.Errorf("missing blobs (-want +got):\n%s", diff)
	}
	if len(p.Manifests) != 2 || p.Manifests[0].Digest != digestOf(t, artifact) {
		t.Errorf("manifests %+v, want the artifact's, then the index", p.Manifests)
	}
}

// TestArtifactsFail: an artifact in an index is read like any manifest.
func TestArtifactsFail(t *testing.T) {
	t.Parallel()
	text := static.NewLayer([]byte("text"), "application/x-artifact")
	desc := v1.Descriptor{MediaType: "application/x-artifact", Digest: digestOf(t, text), Size: 4}
	list := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: text, Descriptor: desc})
	for want, artifact := range map[string]struct {
		layer v1.Layer
		err   error
	}{
		"isn't there":  {err: errors.New("isn't there")},
		"isn't opened": {layer: unreadableLayer{err: errors.New("isn't opened")}},
		"is cut off":   {layer: unreadableLayer{content: iotest.ErrReader(errors.New("is cut off"))}},
		"is damaged":   {layer: static.NewLayer([]byte("other"), desc.MediaType)},
		"isn't JSON":   {layer: text},
	} {
		_, err := newTree(shelfOf{list, artifact.layer, artifact.err})
		wantError(t, err, want)
	}
}

// shelfOf is an index that gives one blob, or none.
type shelfOf struct {
	index
	blob v1.Layer
	err  error
}

// Layer returns the test's blob, whatever the digest, and the test's error.
func (s shelfOf) Layer(v1.Hash) (v1.Layer, error) { return s.blob, s.err }

// unreadableLayer is a layer that can't be opened, or read.
type unreadableLayer struct {
	v1.Layer
	content io.Reader
	err     error
}

// Compressed returns the test's content and error.
func (l unreadableLayer) Compressed() (io.ReadCloser, error) { return io.NopCloser(l.content), l.err }

// TestTreeDepth: indexes nest as deep as image.MaxDepth.
func TestTreeDepth(t *testing.T) {
	t.Parallel()
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: randomImage(t, 10, 1)})
	for depth := 1; depth <= image.MaxDepth; depth++ {
		if _, err := newTree(nested); err != nil {
			t.Fatalf("depth %d: %v", depth, err)
		}
		nested = mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: nested})
	}
	_, err := newTree(nested)
	wantError(t, err, "nested more than 8 deep")
}

// TestTreeHasEachManifestOnce: what an index lists twice is visited once, and what comes after it too.
func TestTreeHasEachManifestOnce(t *testing.T) {
	t.Parallel()
	first, second := randomImage(t, 10, 1), randomImage(t, 10, 1)
	twice := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: first}, mutate.IndexAddendum{Add: first}, mutate.IndexAddendum{Add: second})
	root, err := newTree(twice)
	if err != nil {
		t.Fatal(err)
	}
	var got []v1.Hash
	for _, n := range root.all() {
		got = append(got, n.desc.Digest)
	}
	want := []v1.Hash{digestOf(t, first), digestOf(t, second), digestOf(t, twice)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests (-want +got):\n%s", diff)
	}
}

// TestTreeSizes: a blob may be empty, but not less than that.
func TestTreeSizes(t *testing.T) {
	t.Parallel()
	for size, fails := range map[int64]bool{1: false, 0: false, -1: true} {
		_, err := newTree(tamper(t, randomImage(t, 10, 1), func(m *v1.Manifest) { m.Layers[0].Size = size }))
		if (err != nil) != fails {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestPushRefused(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	p := mustPlan(t, r, randomImage(t, 10, 1))
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPost && answer(w, http.StatusForbidden, "DENIED")
	})
	wantError(t, pushError(t, r, p), "sending the blob sha256:", "refused the credentials that Charmhub gave")
	if requests := s.log(); slices.ContainsFunc(requests, func(r string) bool { return strings.HasPrefix(r, "PUT") }) {
		t.Errorf("something was put: %q", requests)
	}
}

func TestPutChecksWhatWasStored(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Docker-Content-Digest", "sha256:0")
		w.WriteHeader(http.StatusCreated)
		return true
	})
	p := mustPlan(t, r, randomImage(t, 10, 1))
	wantError(t, pushError(t, r, p), "sending the manifest", `stored it as "sha256:0"`)
}

func TestMount(t *testing.T) {
	for name, refuse := range map[string]bool{"granted": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			img := randomImage(t, 1000, 2)
			s.seed(t, "other/image:1", img)
			r, _ := s.open(t)
			if refuse {
				s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
					return r.URL.Query().Has("mount") && answer(w, http.StatusForbidden, "DENIED")
				})
			}
			source, err := remote.Image(r.name.Registry.Repo("other/image").Tag("1"))
			if err != nil {
				t.Fatal(err)
			}
			compared, err := r.Push(t.Context(), mustPlan(t, r, source), nil)
			if err != nil || compared != refuse { // nobody has looked into what was mounted
				t.Errorf("compared: %t, %v", compared, err)
			}
			if n := count(s.log(), "PUT /v2/"+repoPath+"/blobs/"); (n != 0) != refuse {
				t.Errorf("%d blobs sent", n)
			}
		})
	}
}

// A manifest that was looked for isn't asked for again.
func TestPlanAfterFind(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 100, 1)
	for _, present := range []bool{false, true} {
		v = v.again()
		wantFound(t, v, image.Identity{Manifest: digestOf(t, img)}, map[bool]image.ImageOrIndex{true: img}[present], false)
		s.log()
		p, err := v.Plan(t.Context(), img, nil)
		if err != nil || p.Present != present {
			t.Fatalf("present %t: %+v, %v", present, p, err)
		}
		if n := count(s.log(), "HEAD /v2/"+repoPath+"/manifests/"); n > 0 {
			t.Errorf("present %t: asked %d times", present, n)
		}
		mustPush(t, v, img)
	}
}

// TestDiffIDsToCompare: a config lists diff IDs if its type says so, and something is to be compared with them.
func TestDiffIDsToCompare(t *testing.T) {
	t.Parallel()
	plain := static.NewLayer([]byte("plain"), types.DockerUncompressedLayer)
	encrypted := static.NewLayer([]byte("?"), types.OCILayer+"+encrypted")
	packedLayer, err := random.Layer(100, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	diffID, err := packedLayer.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	one := []v1.Layer{packedLayer}
	otherDiffID := `{"rootfs":{"diff_ids":["` + diffID.String() + `"]}}`
	const docker, oci = types.DockerConfigJSON, types.OCIConfigJSON
	for name, test := range map[string]struct {
		layers     []v1.Layer
		configType types.MediaType
		config     string // instead of the image's own
		unread     bool
		want       []v1.Hash
		err        string
	}{
		"Docker's":              {layers: []v1.Layer{packedLayer, plain}, configType: docker, want: []v1.Hash{diffID, {}}},
		"OCI's":                 {layers: []v1.Layer{plain, packedLayer}, configType: oci, want: []v1.Hash{{}, diffID}},
		"of an artifact":        {layers: one, configType: "application/vnd.artifact", config: "text"},
		"of nothing to compare": {layers: []v1.Layer{encrypted}, configType: oci, config: "text"},
		"partly encrypted":      {layers: []v1.Layer{encrypted, packedLayer}, configType: oci, want: []v1.Hash{{}, diffID}},
		"damaged":               {layers: one, configType: oci, config: "text", err: "config is damaged"},
		"that can't be read":    {layers: one, configType: oci, unread: true, err: "gone"},
		"of fewer layers":       {layers: one, configType: oci, config: "{}", err: "lists 0 diff IDs"},
		"of another, uncompressed": {
			layers: []v1.Layer{plain}, configType: docker, config: otherDiffID, err: "has the diff ID|but it has",
		},
	} {
		img := mustAppend(t, test.layers...)
		m, err := mutate.ConfigMediaType(img, test.configType).Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if test.config != "" {
			img = asConfig{img, []byte(test.config)}
		}
		if test.unread {
			img = unreadable{img}
		}
		got, err := diffIDsOf(img, m)
		if test.err != "" {
			if err == nil || !regexp.MustCompile(test.err).MatchString(err.Error()) {
				t.Errorf("%s: %v, want an error that says %q", name, err, test.err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// TestExpectedDiffIDs: images may share a layer, if they agree on what it holds.
func TestExpectedDiffIDs(t *testing.T) {
	t.Parallel()
	shared := blob{desc: v1.Descriptor{Digest: aKey}, diffID: aSource}
	other := blob{desc: v1.Descriptor{Digest: aKey}, diffID: aKey}
	config := blob{desc: v1.Descriptor{Digest: aSource}}
	got, err := expectedDiffIDs([]*node{{blobs: []blob{config, shared}}, {blobs: []blob{shared, config}}})
	if diff := cmp.Diff(map[v1.Hash]v1.Hash{aKey: aSource}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	_, err = expectedDiffIDs([]*node{{blobs: []blob{shared}}, {blobs: []blob{other}}})
	wantError(t, err, "but it has "+aSource.String())
}

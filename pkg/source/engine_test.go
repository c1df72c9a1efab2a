package source

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	engineimage "github.com/moby/moby/api/types/image"
	godigest "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// fakeEngine speaks as much of Docker's API as Find needs.
type fakeEngine struct {
	images map[string]fakeImage // by ID
	calls  []string
}

// fakeImage is an image as the engine lists, inspects and exports it.
type fakeImage struct {
	repoDigests []string
	inspect     map[string]any
	export      []byte
	dies        bool // during the export
}

// start makes the engine the one that DOCKER_HOST names.
func (e *fakeEngine) start(t *testing.T) {
	t.Helper()
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_HOST", "tcp://"+server.Listener.Addr().String())
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.48")
	_, call, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	e.calls = append(e.calls, call)
	switch {
	case r.URL.Path == "/_ping":
	case call == "images/json":
		e.list(w)
	case call == "images/get":
		e.save(w, e.images[r.URL.Query().Get("names")])
	default:
		e.inspect(w, strings.TrimSuffix(strings.TrimPrefix(call, "images/"), "/json"))
	}
}

// list answers with the IDs and digests of all images.
func (e *fakeEngine) list(w http.ResponseWriter) {
	var all []map[string]any
	for _, id := range slices.Sorted(maps.Keys(e.images)) {
		all = append(all, map[string]any{"Id": id, "RepoDigests": e.images[id].repoDigests})
	}
	answer(w, http.StatusOK, all)
}

// save answers with the export of an image. If the image dies, the connection breaks at the end.
func (e *fakeEngine) save(w http.ResponseWriter, image fakeImage) {
	_, _ = w.Write(image.export)
	if image.dies {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// inspect answers with the details of an image, or an error of the engine.
func (e *fakeEngine) inspect(w http.ResponseWriter, id string) {
	image, ok := e.images[id]
	switch {
	case !ok:
		answer(w, http.StatusNotFound, map[string]string{"message": "No such image: " + id})
	case image.inspect == nil:
		answer(w, http.StatusInternalServerError, map[string]string{"message": "the disk is full"})
	default:
		answer(w, http.StatusOK, image.inspect)
	}
}

// answer writes a response with the body in JSON.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// graphDriver returns an image as engines with a graph driver have it.
func graphDriver(s imagetest.Saved, repoDigests ...string) fakeImage {
	return fakeImage{
		repoDigests: repoDigests, export: imagetest.Tar(s.DockerOld()...),
		inspect: map[string]any{
			"Id": s.ID(), "Size": 1234, "Os": "linux", "Architecture": "arm64", "Variant": "v8",
			"RootFS": map[string]any{"Type": "layers", "Layers": s.DiffIDs},
		},
	}
}

// containerdStore returns an image as engines with the containerd image store have
// it.
func containerdStore(l imagetest.Layout, d v1.Descriptor) fakeImage {
	return fakeImage{
		export: l.Of(d).Tar(), inspect: map[string]any{
			"Id": d.Digest, "Descriptor": map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size},
		},
	}
}

func TestLocalID(t *testing.T) {
	image := imagetest.Example()
	tagged := graphDriver(image)
	tagged.inspect["RepoTags"] = []string{"my-image:1", "localhost/built:latest"}
	engine := &fakeEngine{images: map[string]fakeImage{"my-image:1": tagged, "docker.io/library/my-image:1": tagged,
		"built": tagged, "49": tagged}} // the engine takes the beginning of an ID for it
	engine.start(t)
	for _, name := range []string{"my-image:1", "docker.io/library/my-image:1", "built"} {
		if id, err := LocalID(t.Context(), name); err != nil || id != image.ID() {
			t.Errorf("%s: got %s, error %v, want %s", name, id, err, image.ID())
		}
	}
	for _, name := range []string{"my-image:2", "../my-image:1", "", "A", "49"} {
		if id, err := LocalID(t.Context(), name); err == nil {
			t.Errorf("%q has the ID %s", name, id)
		}
	}
}

func TestEngineFinds(t *testing.T) {
	image := imagetest.Example()
	repo := strings.Repeat("ab", 32)
	id := image.ID().String()
	engine := &fakeEngine{images: map[string]fakeImage{
		id:                                  graphDriver(image, "example.com/a@sha256:"+repo, "example.com/b@sha256:"+repo),
		"sha256:" + strings.Repeat("0", 64): {},
	}}
	engine.start(t)
	for _, text := range []string{
		id, image.ID().Hex, image.ID().Hex[:12], "sha256:" + image.ID().Hex[:20],
		repo, "sha256:" + repo, repo[:13], "docker-daemon:" + id, "docker-daemon:example.com/a@sha256:" + repo,
	} {
		src, err := openText(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		u := unpackedOf(src)
		if src.Identity().Digest() != image.ID() || imageOf(t, src) != nil || u == nil {
			t.Errorf("%s: opened as %+v", text, src)
			continue
		}
		if u.ID != src.Identity().Digest() || u.Size != 1234 || u.Platform.String() != "linux/arm64/v8" ||
			!slices.Equal(u.DiffIDs, image.DiffIDs) {
			t.Errorf("%s: described as %+v", text, u)
		}
	}
	if slices.Contains(engine.calls, "images/get") {
		t.Error("an image was exported before it was needed")
	}
	src, err := openText(t, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := readLayers(t, unpackedOf(src)); err != nil {
		t.Error(err)
	}
}

func TestEngineFindsNot(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 63)+"1", "sha256:"+strings.Repeat("a", 63)+"2"
	engine := &fakeEngine{images: map[string]fakeImage{
		a: {}, b: {}, "sha256:" + hex64: {inspect: map[string]any{"Id": "no digest"}},
	}}
	engine.start(t)
	for text, want := range map[string]string{
		strings.Repeat("a", 12):    "is the beginning of several images|" + a + ", " + b,
		a:                          "failed to inspect image " + a + "|the disk is full",
		hex64:                      `"no digest", which is no digest`,
		strings.Repeat("c", 12):    "the container engine at tcp://|has no image cccccccccccc",
		strings.Repeat("cafe", 16): "has no image " + strings.Repeat("cafe", 16),
	} {
		_, err := openText(t, text)
		imagetest.WantError(t, err, want)
		var unknown *NotFoundError
		if errors.As(err, &unknown) != strings.Contains(want, "has no image") {
			t.Errorf("%s: %T", text, err)
		}
	}
}

// Some engines list an image once for each of its names.
func TestMatchesEachOnce(t *testing.T) {
	id := "sha256:" + hex64
	summary := engineimage.Summary{ID: id, RepoDigests: []string{"example.com/a@" + id}}
	if diff := cmp.Diff([]string{id}, matches([]engineimage.Summary{summary, summary}, hex64[:12])); diff != "" {
		t.Error(diff)
	}
}

// TestImagesOf: what isn't for the platform unknown/unknown may be run, whatever the engine calls it.
func TestImagesOf(t *testing.T) {
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	listed := func(kind engineimage.ManifestKind, platform string) engineimage.ManifestSummary {
		m := engineimage.ManifestSummary{Kind: kind, Descriptor: specs.Descriptor{
			MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: godigest.Digest(digest.String()), Size: 7,
		}}
		if os, architecture, ok := strings.Cut(platform, "/"); ok {
			m.Descriptor.Platform = &specs.Platform{OS: os, Architecture: architecture}
		}
		return m
	}
	amd64 := v1.Descriptor{
		MediaType: types.OCIManifestSchema1, Digest: digest, Size: 7, Platform: &v1.Platform{OS: "linux",
			Architecture: "amd64"},
	}
	const img, attestation = engineimage.ManifestKindImage, engineimage.ManifestKindAttestation
	type all = []engineimage.ManifestSummary
	for name, test := range map[string]struct {
		listed all
		want   []v1.Descriptor
	}{
		"an image": {all{listed(img, "linux/amd64")}, []v1.Descriptor{amd64}},
		"with an attestation": {all{listed(img, "linux/amd64"), listed(attestation, "unknown/unknown")},
			[]v1.Descriptor{amd64}},
		"an attestation of a platform":    {all{listed(img, "linux/amd64"), listed(attestation, "linux/arm64")}, nil},
		"an attestation without platform": {all{listed(img, "linux/amd64"), listed(attestation, "")}, nil},
		"an image without a platform":     {all{listed(img, "linux/amd64"), listed(img, "")}, nil},
		"a kind that the engine can't say": {all{listed(img, "linux/amd64"),
			listed(engineimage.ManifestKindUnknown, "linux/arm64")}, nil},
	} {
		got, err := imagesOf(test.listed)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	if _, err := imagesOf(all{{Kind: img, Descriptor: specs.Descriptor{Digest: "latest"}}}); err == nil {
		t.Error("a tag is taken for a digest")
	}
}

func TestEngineUnreachable(t *testing.T) {
	host := "tcp://" + testkit.ReservePort(t)
	socket := "unix://" + t.TempDir() + "/docker.sock"
	for _, host := range []string{host, socket} {
		t.Setenv("DOCKER_HOST", host)
		for _, text := range []string{hex64, hex64[:12]} {
			_, err := openText(t, text)
			imagetest.WantError(t, err, "no container engine answers at "+host+"|start one, or set DOCKER_HOST")
		}
	}
	t.Setenv("DOCKER_HOST", "carrier pigeon")
	_, err := openText(t, hex64)
	imagetest.WantError(t, err, "DOCKER_HOST")
}

func TestEngineDiesDuringExport(t *testing.T) {
	image := imagetest.Example()
	dying := graphDriver(image)
	dying.export, dying.dies = dying.export[:2<<20], true
	l, root := imagetest.Rich()
	addressed := containerdStore(l, root)
	addressed.export, addressed.dies = addressed.export[:2000], true
	engine := &fakeEngine{images: map[string]fakeImage{image.ID().String(): dying, root.Digest.String(): addressed}}
	engine.start(t)

	src, err := openText(t, image.ID().String())
	if err != nil {
		t.Fatal(err)
	}
	imagetest.WantError(t, readLayers(t, unpackedOf(src)),
		"the container engine at tcp://|failed to export image "+image.ID().String()+": its answer broke off")

	src, err = openText(t, root.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.(Backed).Manifest(t.Context())
	imagetest.WantError(t, err, "the container engine at tcp://|its answer broke off")
	if _, again := src.(Backed).Manifest(t.Context()); again == nil {
		t.Error("half an export is used")
	}
}

func TestEngineContainerdStore(t *testing.T) {
	l, root := imagetest.Rich()
	engine := &fakeEngine{images: map[string]fakeImage{root.Digest.String(): containerdStore(l, root)}}
	engine.start(t)
	src, err := openText(t, root.Digest.Hex[:12])
	if err != nil {
		t.Fatal(err)
	}
	if src.Identity().Digest() != root.Digest || unpackedOf(src) != nil {
		t.Fatalf("opened as %+v", src)
	}
	if slices.Contains(engine.calls, "images/get") {
		t.Error("the image was exported before it was needed")
	}
	imagetest.SameTree(t, imageOf(t, src), l)
	if engine.exports() != 1 {
		t.Errorf("the image was exported %d times", engine.exports())
	}
	if err := errors.Join(src.Close(), (&Unpacked{}).Close()); err != nil {
		t.Error(err)
	}
}

func TestEngineContainerdStoreLacksPlatform(t *testing.T) {
	l := imagetest.NewLayout()
	here, gone := imagetest.WithPlatform(l.Image("linux/amd64"), "linux/amd64"),
		imagetest.WithPlatform(l.Image("linux/arm64"), "linux/arm64")
	root := l.Index(here, gone)
	delete(l, imagetest.BlobName(gone.Digest))
	engine := &fakeEngine{images: map[string]fakeImage{root.Digest.String(): containerdStore(l, root)}}
	engine.start(t)
	src, err := openText(t, root.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v1.Platform{*gone.Platform}, image.Missing(imageOf(t, src))); diff != "" {
		t.Error(diff)
	}
	child, err := imageOf(t, src).(v1.ImageIndex).Image(gone.Digest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = child.RawManifest()
	imagetest.WantError(t, err, gone.Digest.String()+" for linux/arm64 is listed, but not there")
}

// exports returns how many exports were requested.
func (e *fakeEngine) exports() int {
	return len(slices.DeleteFunc(slices.Clone(e.calls), func(call string) bool { return call != "images/get" }))
}

// TestEngineStream: one export gives every blob that is no document, in turn; manifests and configs are kept from it,
// and what isn't kept can still be read, from another export.
func TestEngineStream(t *testing.T) {
	l, root := imagetest.Rich()
	engine := &fakeEngine{images: map[string]fakeImage{root.Digest.String(): containerdStore(l, root)}}
	engine.start(t)
	src, err := openText(t, root.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	given := map[v1.Hash][]byte{}
	err = src.(Streamed).Stream(t.Context(), func(d v1.Descriptor, content io.Reader) {
		if len(given) == 0 { // one that isn't read
			given[d.Digest] = nil
			return
		}
		raw, err := io.ReadAll(content)
		if err != nil || int64(len(raw)) != d.Size || imagetest.Sum(raw) != d.Digest {
			t.Errorf("%s of %d bytes: read %d, %v", d.Digest, d.Size, len(raw), err)
		}
		given[d.Digest] = raw
	})
	if err != nil || len(given) < 2 {
		t.Fatalf("%d blobs, error %v", len(given), err)
	}
	m := imageOf(t, src)
	if _, err := image.Platforms(m); err != nil {
		t.Error(err)
	}
	if _, err := image.Digests(m); err != nil || engine.exports() != 1 {
		t.Errorf("after the manifests and configs: %d exports, error %v", engine.exports(), err)
	}
	imagetest.SameTree(t, m, l)
	if engine.exports() != 2 {
		t.Errorf("after the layers: %d exports", engine.exports())
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

// What the engine doesn't have isn't looked for in another export.
func TestEngineStreamLacksPlatform(t *testing.T) {
	l := imagetest.NewLayout()
	here, gone := imagetest.WithPlatform(l.Image("linux/amd64"), "linux/amd64"),
		imagetest.WithPlatform(l.Image("linux/arm64"), "linux/arm64")
	root := l.Index(here, gone)
	delete(l, imagetest.BlobName(gone.Digest))
	engine := &fakeEngine{images: map[string]fakeImage{root.Digest.String(): containerdStore(l, root)}}
	engine.start(t)
	src, err := openText(t, root.Digest.String())
	if err == nil {
		err = src.(Streamed).Stream(t.Context(), func(v1.Descriptor, io.Reader) {})
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v1.Platform{*gone.Platform}, image.Missing(imageOf(t, src))); diff != "" ||
		engine.exports() != 1 {
		t.Errorf("%d exports, missing (-want +got):\n%s", engine.exports(), diff)
	}
}

// A stream that breaks off is an error, and nothing of it is used.
func TestEngineStreamBreaks(t *testing.T) {
	l, root := imagetest.Rich()
	dying := containerdStore(l, root)
	dying.export, dying.dies = dying.export[:len(dying.export)/2], true
	engine := &fakeEngine{images: map[string]fakeImage{root.Digest.String(): dying}}
	engine.start(t)
	src, err := openText(t, root.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	err = src.(Streamed).Stream(t.Context(), func(_ v1.Descriptor, content io.Reader) {
		_, _ = io.Copy(io.Discard,
			content)
	})
	imagetest.WantError(t, err, "the container engine at tcp://|its answer broke off")
}

func TestOpenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by a signal")
	cancel(stop)
	file := imagetest.TempFile(t, "a.tar", imagetest.Tar(imagetest.Example().DockerOld()...))
	for _, kind := range []Kind{KindPath, KindDockerArchive, KindOCIArchive} {
		if _, err := testOpener().Open(ctx, Reference{Kind: kind, Path: file}); !errors.Is(err, stop) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

package image

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	engineimage "github.com/moby/moby/api/types/image"
)

// fakeEngine speaks as much of Docker's API as Find needs.
type fakeEngine struct {
	images map[string]fakeImage // by ID
	calls  []string
}

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

func (e *fakeEngine) list(w http.ResponseWriter) {
	var all []map[string]any
	for _, id := range slices.Sorted(maps.Keys(e.images)) {
		all = append(all, map[string]any{"Id": id, "RepoDigests": e.images[id].repoDigests})
	}
	answer(w, http.StatusOK, all)
}

func (e *fakeEngine) save(w http.ResponseWriter, image fakeImage) {
	_, _ = w.Write(image.export)
	if image.dies {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

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

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// graphDriver returns an image as engines with a graph driver have it.
func (s saved) graphDriver(repoDigests ...string) fakeImage {
	return fakeImage{
		repoDigests: repoDigests, export: tarOf(s.dockerOld()...),
		inspect: map[string]any{
			"Id": s.id(), "Size": 1234, "Os": "linux", "Architecture": "arm64", "Variant": "v8",
			"RootFS": map[string]any{"Type": "layers", "Layers": s.diffIDs},
		},
	}
}

// containerd returns an image as engines with the containerd image store have
// it.
func (l ociFiles) containerd(d v1.Descriptor) fakeImage {
	return fakeImage{
		export: l.of(d).tar(), inspect: map[string]any{
			"Id": d.Digest, "Descriptor": map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size},
		},
	}
}

func TestEngineFinds(t *testing.T) {
	image := example()
	repo := strings.Repeat("ab", 32)
	id := image.id().String()
	engine := &fakeEngine{images: map[string]fakeImage{
		id:                                  image.graphDriver("example.com/a@sha256:"+repo, "example.com/b@sha256:"+repo),
		"sha256:" + strings.Repeat("0", 64): {},
	}}
	engine.start(t)
	for _, text := range []string{
		id, image.id().Hex, image.id().Hex[:12], "sha256:" + image.id().Hex[:20],
		repo, "sha256:" + repo, repo[:13], "docker-daemon:" + id, "docker-daemon:example.com/a@sha256:" + repo,
	} {
		src, err := openText(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		u := src.Unpacked
		if src.Digest != image.id() || src.Name != text || src.Addressed != nil || u == nil {
			t.Errorf("%s: opened as %+v", text, src)
			continue
		}
		if u.ID != src.Digest || u.Size != 1234 || u.Platform.String() != "linux/arm64/v8" || !slices.Equal(u.DiffIDs, image.diffIDs) {
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
	if got := digestOf(t, pack(t, src.Unpacked, PackOptions{})); got != golden {
		t.Errorf("packed as %s, want %s", got, golden)
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
		wantError(t, err, want)
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

func TestEngineUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := "tcp://" + listener.Addr().String()
	_ = listener.Close()
	socket := "unix://" + t.TempDir() + "/docker.sock"
	for _, host := range []string{host, socket} {
		t.Setenv("DOCKER_HOST", host)
		for _, text := range []string{hex64, hex64[:12]} {
			_, err := openText(t, text)
			var unreachable *UnreachableError
			if !errors.As(err, &unreachable) || unreachable.Host != host || unreachable.Unwrap() == nil {
				t.Errorf("%s: %T: %v", host, err, err)
			}
			wantError(t, err, "no container engine answers at "+host+": start one, or set DOCKER_HOST")
		}
	}
	t.Setenv("DOCKER_HOST", "carrier pigeon")
	_, err = openText(t, hex64)
	wantError(t, err, "DOCKER_HOST")
}

func TestEngineDiesDuringExport(t *testing.T) {
	image := example()
	dying := image.graphDriver()
	dying.export, dying.dies = dying.export[:2<<20], true
	l, root := rich()
	addressed := l.containerd(root)
	addressed.export, addressed.dies = addressed.export[:2000], true
	engine := &fakeEngine{images: map[string]fakeImage{image.id().String(): dying, root.Digest.String(): addressed}}
	engine.start(t)

	src, err := openText(t, image.id().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Pack(t.Context(), src.Unpacked, PackOptions{Dir: t.TempDir()})
	wantError(t, err, "cannot pack image "+image.id().String()+"|a layer is cut short")

	src, err = openText(t, root.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.Addressed.RawManifest()
	wantError(t, err, "cannot read it to its end")
	_, again := src.Addressed.RawManifest()
	if again == nil {
		t.Error("half an export is used")
	}
}

func TestEngineContainerdStore(t *testing.T) {
	l, root := rich()
	engine := &fakeEngine{images: map[string]fakeImage{root.Digest.String(): l.containerd(root)}}
	engine.start(t)
	src, err := openText(t, root.Digest.Hex[:12])
	if err != nil {
		t.Fatal(err)
	}
	if src.Digest != root.Digest || src.Unpacked != nil {
		t.Fatalf("opened as %+v", src)
	}
	if slices.Contains(engine.calls, "images/get") {
		t.Error("the image was exported before it was needed")
	}
	sameTree(t, src.Addressed, l)
	exports := slices.DeleteFunc(slices.Clone(engine.calls), func(call string) bool { return call != "images/get" })
	if len(exports) != 1 {
		t.Errorf("the image was exported %d times", len(exports))
	}
	if err := errors.Join(src.Close(), (&Source{}).Close()); err != nil {
		t.Error(err)
	}
}

func TestEngineContainerdStoreLacksPlatform(t *testing.T) {
	l := newLayout()
	here, gone := withPlatform(l.image("linux/amd64"), "linux/amd64"), withPlatform(l.image("linux/arm64"), "linux/arm64")
	root := l.index(here, gone)
	delete(l, blobName(gone.Digest))
	engine := &fakeEngine{images: map[string]fakeImage{root.Digest.String(): l.containerd(root)}}
	engine.start(t)
	src, err := openText(t, root.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v1.Platform{*gone.Platform}, Missing(src.Addressed)); diff != "" {
		t.Error(diff)
	}
	child, err := src.Addressed.(v1.ImageIndex).Image(gone.Digest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = child.RawManifest()
	wantError(t, err, gone.Digest.String()+" for linux/arm64 is listed, but not there")
}

func TestOpenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by a signal")
	cancel(stop)
	file := tempFile(t, "a.tar", tarOf(example().dockerOld()...))
	for _, kind := range []Kind{KindPath, KindDockerArchive, KindOCIArchive} {
		if _, err := testOpener().Open(ctx, Reference{Kind: kind, Path: file}); !errors.Is(err, stop) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

package image

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// testRegistry is a registry on loopback that remembers what was read.
type testRegistry struct {
	http.Handler
	host string

	mu    sync.Mutex
	reads []string
	forge map[string][]byte // manifests served instead, by path
	auth  string            // the only Authorization that is let in, unless empty
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), forge: map[string][]byte{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.host = address.Host
	return r
}

func (r *testRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.auth != "" && req.Header.Get("Authorization") != r.auth {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if req.Method == http.MethodGet && req.URL.Path != "/v2/" {
		r.reads = append(r.reads, path.Base(path.Dir(req.URL.Path))+"/"+path.Base(req.URL.Path))
	}
	if forged, ok := r.forge[req.URL.Path]; ok {
		w.Header().Set("Content-Type", string(ociManifest))
		_, _ = w.Write(forged)
		return
	}
	r.Handler.ServeHTTP(w, req)
}

// put pushes an image or index as repository:tag.
func (r *testRegistry) put(t *testing.T, tag string, m Manifest) {
	t.Helper()
	ref, err := name.ParseReference(r.host + "/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	if index, ok := m.(v1.ImageIndex); ok {
		err = remote.WriteIndex(ref, index)
	} else {
		err = remote.Write(ref, m.(v1.Image))
	}
	if err != nil {
		t.Fatal(err)
	}
	r.reads = nil
}

// serve pushes a small index as repo:1 and returns what it is made of.
func (r *testRegistry) serve(t *testing.T) (l ociFiles, root v1.Descriptor) {
	t.Helper()
	l = newLayout()
	root = l.index(withPlatform(l.image("linux/amd64"), "linux/amd64"), withPlatform(l.image("linux/arm64"), "linux/arm64"))
	r.put(t, "repo:1", l.of(root).open(t))
	return l, root
}

// openLogged opens a reference and returns the warnings, too.
func openLogged(t *testing.T, access RegistryAccess, text string) (*Source, []string, error) {
	t.Helper()
	ref, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none.sock")
	core, logs := observer.New(zapcore.InfoLevel)
	src, err := NewOpener(zap.New(core), access).Open(t.Context(), ref)
	if err == nil {
		t.Cleanup(func() { _ = src.Close() })
	}
	var messages []string
	for _, entry := range logs.All() {
		messages = append(messages, entry.Message)
	}
	return src, messages, err
}

func TestRegistryOpens(t *testing.T) {
	r := newTestRegistry(t)
	l, root := r.serve(t)
	for _, prefix := range []string{"", "docker://"} {
		r.reads = nil
		text := prefix + r.host + "/repo@" + root.Digest.String()
		src, messages, err := openLogged(t, RegistryAccess{}, text)
		if err != nil {
			t.Fatal(err)
		}
		if src.Digest != root.Digest || src.Name != text || src.Unpacked != nil || len(messages) != 0 {
			t.Errorf("opened as %+v, saying %q", src, messages)
		}
		if want := []string{"manifests/" + root.Digest.String()}; !slices.Equal(r.reads, want) {
			t.Errorf("%s: read %q, want %q", text, r.reads, want)
		}
		sameTree(t, src.Addressed, l)
	}
}

// Layers say where they are, so that the target registry can mount them.
func TestRegistryLayersAreMountable(t *testing.T) {
	r := newTestRegistry(t)
	l := newLayout()
	image := l.image("linux/amd64")
	r.put(t, "repo:1", l.of(image).open(t))
	src, _, err := openLogged(t, RegistryAccess{}, r.host+"/repo@"+image.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	layers, err := src.Addressed.(v1.Image).Layers()
	if err != nil || len(layers) != 1 {
		t.Fatal(layers, err)
	}
	digest, _ := layers[0].Digest()
	found, err := src.Addressed.(v1.Image).LayerByDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range []v1.Layer{layers[0], found} {
		mountable, ok := layer.(*remote.MountableLayer)
		if !ok || mountable.Reference.Context().String() != r.host+"/repo" {
			t.Errorf("%T says it is in %+v", layer, mountable)
		}
	}
}

func TestRegistryChecksTag(t *testing.T) {
	r := newTestRegistry(t)
	_, root := r.serve(t)
	pinned := r.host + "/repo:1@" + root.Digest.String()
	if _, messages, err := openLogged(t, RegistryAccess{}, pinned); err != nil || len(messages) != 0 {
		t.Errorf("with the tag in place: %q, %v", messages, err)
	}
	_, messages, err := openLogged(t, RegistryAccess{}, r.host+"/repo:2@"+root.Digest.String())
	if err != nil || len(messages) != 1 || !strings.Contains(messages[0], "the tag could not be checked") {
		t.Errorf("with no such tag: %q, %v", messages, err)
	}
	l := newLayout()
	other := l.image("linux/s390x")
	r.put(t, "repo:1", l.of(other).open(t))
	src, messages, err := openLogged(t, RegistryAccess{}, pinned)
	if err != nil || src.Digest != root.Digest {
		t.Fatalf("opened as %+v, %v", src, err)
	}
	if len(messages) != 1 || !strings.Contains(messages[0], "the digest in "+pinned+" decides; the tag has moved on to "+other.Digest.String()) {
		t.Errorf("with a moved tag: %q", messages)
	}
}

func TestRegistryResolve(t *testing.T) {
	r := newTestRegistry(t)
	_, root := r.serve(t)
	if got, err := (RegistryAccess{}).Resolve(t.Context(), r.host+"/repo:1"); err != nil || got != root.Digest {
		t.Errorf("resolved to %s, %v, want %s", got, err, root.Digest)
	}
	for _, tagged := range []string{r.host + "/repo:2", "No Name:1"} {
		if got, err := (RegistryAccess{}).Resolve(t.Context(), tagged); err == nil {
			t.Errorf("%s resolved to %s", tagged, got)
		}
	}
}

func TestRegistryRefused(t *testing.T) {
	r := newTestRegistry(t)
	l, root := r.serve(t)
	digest := root.Digest.String()
	served := "/v2/repo/manifests/" + digest
	for name, try := range map[string]struct {
		manifest []byte
		text     string
		want     string
	}{
		"another manifest": {[]byte(`{"schemaVersion":2}`), "/repo@" + digest, "cannot read |" + digest + " has the digest|damaged"},
		"a changed byte":   {bytes.Replace(l[blobName(root.Digest)], []byte("amd64"), []byte("amd65"), 1), "/repo@" + digest, "has the digest"},
		"a huge one":       {make([]byte, 16<<20), "/repo@" + digest, "cannot |/repo@" + digest},
		"no such digest":   {nil, "/repo@sha256:" + hex64, "cannot open |manifest unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			delete(r.forge, served)
			if try.manifest != nil {
				r.forge[served] = try.manifest
			}
			_, _, err := openLogged(t, RegistryAccess{}, r.host+try.text)
			wantError(t, err, try.want)
		})
	}
}

func TestRegistryCredentials(t *testing.T) {
	r := newTestRegistry(t)
	_, root := r.serve(t)
	r.auth = "Basic dXNlcjpzZWNyZXQ=" // user:secret
	text := r.host + "/repo:1@" + root.Digest.String()
	if _, messages, err := openLogged(t, RegistryAccess{Username: "user", Password: "secret"}, text); err != nil || len(messages) != 0 {
		t.Errorf("with credentials: %q, %v", messages, err)
	}
	_, messages, err := openLogged(t, RegistryAccess{Username: "user", Password: "hidden"}, text)
	if err == nil || strings.Contains(err.Error()+strings.Join(messages, ""), "hidden") {
		t.Errorf("with wrong ones: %q, %v", messages, err)
	}
}

// What the registry can't give, the engine may have pulled.
func TestRegistryFallsBackToEngine(t *testing.T) {
	r := newTestRegistry(t)
	image := example()
	text := r.host + "/gone@sha256:" + hex64
	ref, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	engine := &fakeEngine{images: map[string]fakeImage{image.id().String(): image.graphDriver(text)}}
	engine.start(t)
	core, logs := observer.New(zapcore.WarnLevel)
	src, err := NewOpener(zap.New(core), RegistryAccess{}).Open(t.Context(), ref)
	if err != nil || src.Digest != image.id() || src.Name != text {
		t.Fatalf("opened as %+v, %v", src, err)
	}
	if logs.Len() != 1 || !strings.Contains(logs.All()[0].Message, "using the container engine's copy") {
		t.Errorf("logged %v", logs.All())
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true, "127.1.2.3": true, "[::1]:5000": true,
		"example.com": false, "localhost.example.com": false, "127.0.0.1.example.com": false, "10.0.0.1:5000": false, "docker.io": false,
	} {
		if got := loopback(host); got != want {
			t.Errorf("loopback(%q) = %t", host, got)
		}
		sys := RegistryAccess{UserAgent: "test"}.system(host)
		if insecure := sys.DockerInsecureSkipTLSVerify != 0; insecure != want {
			t.Errorf("%s may be asked without TLS: %t", host, insecure)
		}
	}
}

// TestRegistryRealm: credentials don't go to a token service without TLS.
func TestRegistryRealm(t *testing.T) {
	t.Parallel()
	for realm, refused := range map[string]bool{
		"https://auth.example/token": false,
		"http://127.0.0.1:1/token":   false,
		"http://auth.example/token":  true,
		"http://[::1/token":          true,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=\"x\"", realm))
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(server.Close)
		err := checkRealm(t.Context(), strings.TrimPrefix(server.URL, "http://"))
		if (err != nil) != refused {
			t.Errorf("%s: error %v, want one: %v", realm, err, refused)
		}
	}
}

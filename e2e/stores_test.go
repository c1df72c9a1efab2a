package e2e

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// engine is a container engine behind a proxy that counts what is asked of it.
type engine struct {
	direct string   // its own DOCKER_HOST=…
	env    []string // what has the action use it

	mu    sync.Mutex
	calls []string
}

// watch puts a proxy before an engine.
func watch(t *testing.T, host string, env ...string) *engine {
	t.Helper()
	e := &engine{direct: "DOCKER_HOST=" + host}
	target, err := url.Parse(host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", target.Path)
		}},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.calls = append(e.calls, r.Method+" "+r.URL.Path)
		e.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	e.env = append([]string{"DOCKER_HOST=tcp://" + front.Listener.Addr().String()}, env...)
	return e
}

// exports returns how many images the engine was asked to export, and begins
// to count anew.
func (e *engine) exports() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.calls
	e.calls = nil
	return len(slices.DeleteFunc(all, func(call string) bool { return !strings.HasSuffix(call, "/get") }))
}

func (e *engine) docker(t *testing.T, args ...string) string {
	t.Helper()
	need(t, "docker")
	return run(t, "docker", append([]string{"--host", strings.TrimPrefix(e.direct, "DOCKER_HOST=")}, args...)...)
}

// load gives an image to the engine and returns its ID.
func (e *engine) load(t *testing.T, img v1.Image) string {
	t.Helper()
	tag, err := name.NewTag("stores.test/image:" + strings.ToLower(digestOfImage(t, img)[len("sha256:"):][:20]))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	load := exec.CommandContext(t.Context(), "docker", "load")
	load.Env, load.Stdin = append(os.Environ(), e.direct), &archive
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", load, err, out)
	}
	id := e.docker(t, "inspect", "--format", "{{.Id}}", tag.Name())
	t.Cleanup(func() {
		remove := exec.Command("docker", "rmi", "--force", tag.Name())
		remove.Env = append(os.Environ(), e.direct)
		_ = remove.Run()
	})
	if !strings.HasPrefix(id, "sha256:") {
		id = "sha256:" + id
	}
	return id
}

// eachEngine runs a test with every engine that there is: Docker with a graph
// driver, with the containerd image store, with that as engines 25 to 27 speak
// about it, and podman.
func eachEngine(t *testing.T, test func(t *testing.T, e *engine)) {
	t.Helper()
	of := func(variable string) string { return strings.TrimPrefix(variable, "DOCKER_HOST=") }
	for name, start := range map[string]func(t *testing.T) *engine{
		"graph driver": graphDriver,
		"containerd store": func(t *testing.T) *engine {
			t.Helper()
			return watch(t, of(containerdStore(t)))
		},
		"containerd store of engine 27": func(t *testing.T) *engine {
			t.Helper()
			return watch(t, of(containerdStore(t)), "DOCKER_API_VERSION=1.47")
		},
		"podman": func(t *testing.T) *engine {
			t.Helper()
			return watch(t, of(newPodman(t).serve(t)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// graphDriver returns the machine's own engine, which keeps layers unpacked.
func graphDriver(t *testing.T) *engine {
	t.Helper()
	need(t, "docker")
	return watch(t, run(t, "docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"))
}

// withLayers makes an image for this machine out of base and another layer.
func withLayers(t *testing.T, base v1.Image) v1.Image {
	t.Helper()
	layer, err := random.Layer(50_000, types.DockerLayer)
	if err != nil {
		t.Fatal(err)
	}
	img := withLayer(t, base, layer)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestEngines: an image of any engine is published whole, found again without
// an export, by each name that it has there, and recognised in what changed.
func TestEngines(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e *engine) {
		t.Helper()
		base := withLayers(t, empty.Image)
		id := e.load(t, base)
		sandbox := startSandbox(t, server.Options{InMemory: true})
		given := func(inputs ...string) []string { return append(slices.Clone(e.env), inputs...) }

		first := action(t, sandbox, given("resource="+imageResource, "digest="+id)...)
		first.succeeded(t)
		first.has(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
		recordedFor(t, sandbox, runtime.GOARCH)
		layersAreHonest(t, sandbox, first.outputs["remote-digest"])
		e.exports()

		rerun(t, sandbox, first, given("digest="+id)...)
		rerun(t, sandbox, first, given("digest="+id[len("sha256:"):][:20])...)
		rerun(t, sandbox, first, given("image=docker-daemon:"+id)...)
		if n := e.exports(); n > 0 {
			t.Errorf("the unchanged image was exported %d times", n)
		}

		changed := e.load(t, withLayers(t, base))
		second := action(t, sandbox, given("resource="+imageResource, "digest="+changed)...)
		second.succeeded(t)
		second.has(t, map[string]string{"revision": "2", "source-digest": changed, "uploaded": "true"})
		layersAreHonest(t, sandbox, second.outputs["remote-digest"])
	})
}

// attested is an index of one image and an attestation for it, as buildx makes
// one in each build.
func attested(t *testing.T, img v1.Image, statement string) v1.ImageIndex {
	t.Helper()
	attestation := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	attestation, err := mutate.AppendLayers(attestation, static.NewLayer([]byte(statement), "application/vnd.in-toto+json"))
	if err != nil {
		t.Fatal(err)
	}
	return mutate.IndexMediaType(mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}},
		mutate.IndexAddendum{Add: attestation, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{
				"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digestOfImage(t, img),
			},
		}}), types.OCIImageIndex)
}

// TestRebuiltIndex: what a cached build changes, its attestations, makes no
// revision.
func TestRebuiltIndex(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"engine 29": nil, "engine 27": {"DOCKER_API_VERSION=1.47"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := strings.TrimPrefix(containerdStore(t), "DOCKER_HOST=")
			e := watch(t, host, env...)
			registry := anonymousRegistry(t)
			pull := func(index v1.ImageIndex) string {
				digest := push(t, registry+"/image", index)
				e.docker(t, "pull", "--quiet", registry+"/image@"+digest)
				return digest
			}
			img := platformImage(t, "linux/"+runtime.GOARCH)
			built, rebuilt := pull(attested(t, img, `{"build": 1}`)), pull(attested(t, img, `{"build": 2}`))
			other := pull(attested(t, platformImage(t, "linux/"+runtime.GOARCH), `{"build": 3}`))
			sandbox := startSandbox(t, server.Options{InMemory: true})
			with := func(digest string) result {
				return action(t, sandbox, append(slices.Clone(e.env), "resource="+imageResource, "digest="+digest)...)
			}
			first := with(built)
			first.has(t, map[string]string{"revision": "1", "remote-digest": built})
			e.exports()
			again := with(rebuilt)
			again.has(t, map[string]string{
				"revision": "1", "revision-created": "false", "uploaded": "false", "source-digest": rebuilt, "remote-digest": built,
			})
			if !strings.Contains(again.log, "only attestations differ") || !strings.Contains(again.log, built) {
				t.Errorf("the log doesn't say what differs:\n%s", again.log)
			}
			if n := e.exports(); env == nil && n > 0 {
				t.Errorf("%d exports of an image that is there", n)
			}
			with(other).has(t, map[string]string{"revision": "2", "remote-digest": other})
			// The tag has moved on, the record has not.
			with(rebuilt).has(t, map[string]string{"revision": "1", "uploaded": "false", "remote-digest": built})
		})
	}
}

// savedImage returns an image's archive, the image, and its ID in an engine.
func savedImage(t *testing.T) (archive string, img v1.Image, id string) {
	t.Helper()
	archive = writeArchive(t, 1000, 2)
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return archive, img, config.String()
}

// TestGoneFromEngine: an image ID that no engine has any more is found where
// it went.
func TestGoneFromEngine(t *testing.T) {
	t.Parallel()
	archive, _, id := savedImage(t)
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, "resource="+imageResource, "image="+archive)
	first.succeeded(t)
	// The digest may be a manifest's, so that is asked first; the config that the
	// tag leads to has the number of layers, which an engine would tell.
	rerunWithin(t, 12, sandbox, first, "digest="+id, fakeEngine(t))
	rerunWithin(t, 12, sandbox, first, "digest="+id, noEngine(t))

	// Not by the tag, but by the record.
	pushedByOthers(t, sandbox, platformImage(t, "linux/amd64"))
	rerunWithin(t, 13, sandbox, first, "digest="+id, fakeEngine(t))
}

// TestOverwrittenRecord: somebody overwrote the record and tagged an image latest that has the config's digest and not its
// layers. The honest image is unchanged, and a warning names the other.
func TestOverwrittenRecord(t *testing.T) {
	t.Parallel()
	archive, img, id := savedImage(t)
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, "resource="+imageResource, "image="+archive)
	first.succeeded(t)
	forgeRecord(t, sandbox, id, digestOf([]byte("nothing")), first.outputs["remote-digest"])
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	fewer, err := mutate.AppendLayers(empty.Image, layers[0])
	if err != nil {
		t.Fatal(err)
	}
	fewer, err = mutate.ConfigFile(fewer, config)
	if err != nil {
		t.Fatal(err)
	}
	pushedByOthers(t, sandbox, fewer)
	again := action(t, sandbox, "resource="+imageResource, "image="+archive)
	again.logged(t, logKnown, logUnchanged(imageResource, first.outputs["revision"]))
	if want := "but other layers; it isn't used"; !strings.Contains(again.log, want) {
		t.Errorf("the log lacks %q:\n%s", want, again.log)
	}
	if diff := cmp.Diff(first.unchanged(), again.outputs); diff != "" {
		t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
	}
}

package sources

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// eachEngine runs a test with every engine that there is: Docker with a graph driver, with the containerd image store,
// with that as engines 25 to 27 speak about it, and podman.
func eachEngine(t *testing.T, test func(t *testing.T, e *harness.Engine)) {
	t.Helper()
	of := func(variable string) string { return strings.TrimPrefix(variable, "DOCKER_HOST=") }
	for name, start := range map[string]func(t *testing.T) *harness.Engine{
		"graph driver": harness.GraphDriverEngine,
		"containerd store": func(t *testing.T) *harness.Engine {
			t.Helper()
			return harness.WatchEngine(t, of(harness.StartContainerdStore(t)))
		},
		"containerd store of engine 27": func(t *testing.T) *harness.Engine {
			t.Helper()
			return harness.WatchEngine(t, of(harness.StartContainerdStore(t)), "DOCKER_API_VERSION=1.47")
		},
		"podman": func(t *testing.T) *harness.Engine {
			t.Helper()
			return harness.WatchEngine(t, of(harness.NewPodman(t).Serve(t)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
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

// TestEngines: an image of any engine is published whole, found again without an export, by each name that it has
// there, and recognised in what changed.
func TestEngines(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, e *harness.Engine) {
		t.Helper()
		base := withLayers(t, empty.Image)
		id := e.Load(t, base)
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		given := func(inputs ...string) []string { return append(slices.Clone(e.Env), inputs...) }

		first := harness.Upload(t, sandbox, given("resource="+harness.ImageResource, "digest="+id)...)
		first.Succeeded(t)
		first.HasOutputs(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
		harness.RecordedFor(t, sandbox, runtime.GOARCH)
		harness.LayersMatchDiffIDs(t, sandbox, first.Outputs["remote-digest"])
		e.Exports()

		harness.Rerun(t, sandbox, first, given("digest="+id)...)
		harness.Rerun(t, sandbox, first, given("digest="+id[len("sha256:"):][:20])...)
		harness.Rerun(t, sandbox, first, given("image=docker-daemon:"+id)...)
		if n := e.Exports(); n > 0 {
			t.Errorf("the unchanged image was exported %d times", n)
		}

		changed := e.Load(t, withLayers(t, base))
		second := harness.Upload(t, sandbox, given("resource="+harness.ImageResource, "digest="+changed)...)
		second.Succeeded(t)
		second.HasOutputs(t, map[string]string{"revision": "2", "source-digest": changed, "uploaded": "true"})
		harness.LayersMatchDiffIDs(t, sandbox, second.Outputs["remote-digest"])
	})
}

// TestRebuiltIndex: what a cached build changes, its attestations, makes no revision.
func TestRebuiltIndex(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"engine 29": nil, "engine 27": {"DOCKER_API_VERSION=1.47"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := strings.TrimPrefix(harness.StartContainerdStore(t), "DOCKER_HOST=")
			e := harness.WatchEngine(t, host, env...)
			registry := harness.StartRegistry(t)
			pull := func(index v1.ImageIndex) string {
				digest := harness.Push(t, registry+"/image", index)
				e.Docker(t, "pull", "--quiet", registry+"/image@"+digest)
				return digest
			}
			img := harness.PlatformImage(t, "linux/"+runtime.GOARCH)
			built, rebuilt := pull(harness.WithAttestation(t, img, `{"build": 1}`)),
				pull(harness.WithAttestation(t, img, `{"build": 2}`))
			other := pull(harness.WithAttestation(t, harness.PlatformImage(t, "linux/"+runtime.GOARCH), `{"build": 3}`))
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			with := func(digest string) harness.Result {
				return harness.Upload(t, sandbox, append(slices.Clone(e.Env), "resource="+harness.ImageResource,
					"digest="+digest)...)
			}
			first := with(built)
			first.HasOutputs(t, map[string]string{"revision": "1", "remote-digest": built})
			e.Exports()
			again := with(rebuilt)
			again.HasOutputs(t, map[string]string{
				"revision": "1", "revision-created": "false", "uploaded": "false", "source-digest": rebuilt, "remote-digest": built,
			})
			if !strings.Contains(again.Log, "only attestations differ") || !strings.Contains(again.Log, built) {
				t.Errorf("the log doesn't say what differs:\n%s", again.Log)
			}
			if n := e.Exports(); env == nil && n > 0 {
				t.Errorf("%d exports of an image that is there", n)
			}
			with(other).HasOutputs(t, map[string]string{"revision": "2", "remote-digest": other})
			// The tag has moved on, the record has not.
			with(rebuilt).HasOutputs(t, map[string]string{"revision": "1", "uploaded": "false", "remote-digest": built})
		})
	}
}

// TestGoneFromEngine: an image ID that no engine has any more is found where it went.
func TestGoneFromEngine(t *testing.T) {
	t.Parallel()
	archive, _, id := harness.SaveImage(t)
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	first.Succeeded(t)
	// The digest may be a manifest's, so that is asked first; the config that the tag leads to has the number of layers,
	// which an engine would tell.
	harness.RerunWithin(t, 12, sandbox, first, "digest="+id, harness.FakeEngine(t))
	harness.RerunWithin(t, 12, sandbox, first, "digest="+id, harness.NoEngine(t))

	// Not by the tag, but by the record.
	harness.PushToResource(t, sandbox, harness.PlatformImage(t, "linux/amd64"))
	harness.RerunWithin(t, 13, sandbox, first, "digest="+id, harness.FakeEngine(t))
}

// TestOverwrittenRecord: somebody overwrote the record and tagged an image latest that has the config's digest and not
// its layers. The honest image is unchanged, and a warning names the other.
func TestOverwrittenRecord(t *testing.T) {
	t.Parallel()
	archive, img, id := harness.SaveImage(t)
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	first.Succeeded(t)
	harness.ForgeRecord(t, sandbox, id, harness.DigestOf([]byte("nothing")), first.Outputs["remote-digest"])
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
	harness.PushToResource(t, sandbox, fewer)
	again := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	again.Logged(t, harness.LogKnown, harness.LogUnchanged(harness.ImageResource, first.Outputs["revision"]))
	if want := "but other layers; it isn't used"; !strings.Contains(again.Log, want) {
		t.Errorf("the log lacks %q:\n%s", want, again.Log)
	}
	if diff := cmp.Diff(first.UnchangedOutputs(), again.Outputs); diff != "" {
		t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
	}
}

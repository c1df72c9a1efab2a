package uploads

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestKey: what was uploaded under a key is found by it, without the image and
// without an engine, and with the same outputs.
func TestKey(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		sandbox := harness.StartSandbox(t, options)
		ask := func(t *testing.T, key string) harness.Result {
			t.Helper()
			sandbox.ResetRequests()
			r := harness.Upload(t, sandbox, harness.NoEngine(t), "resource="+harness.ImageResource, "key="+key)
			r.Succeeded(t)
			if sent := harness.Changes(sandbox); len(sent) > 0 {
				t.Errorf("looking up a key changed something:\n%s", strings.Join(sent, "\n"))
			}
			if n := len(sandbox.Requests()); n > 10 {
				t.Errorf("%d requests: %v", n, sandbox.Requests())
			}
			return r
		}
		unknown := ask(t, "rock at commit 1")
		unknown.Logged(t, "No image is recorded under this key; digest and image are empty, so this was a look-up")
		unknown.HasOutputs(t, map[string]string{
			"revision": "", "remote-digest": "", "remote-image": "", "source-digest": "", "digests": "", "resources": "[]",
			"resource-flag": "", "resource-flags": "", "revision-created": "false", "uploaded": "false",
		})
		first := harness.Upload(t, sandbox, "resource="+harness.ImageResource,
			"image="+harness.WriteImageArchive(t, 100_000, 1), "key=rock at commit 1")
		first.Succeeded(t)
		known := ask(t, "rock at commit 1")
		if diff := cmp.Diff(first.UnchangedOutputs(), known.Outputs); diff != "" {
			t.Errorf("outputs (-uploaded +looked up):\n%s", diff)
		}
		if other := ask(t, "rock at commit 2"); other.Outputs["revision"] != "" {
			t.Errorf("another key has revision %s", other.Outputs["revision"])
		}
		// The same image under another key: the first record stays.
		harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteImageArchive(t, 100_000, 1),
			"key=rock at commit 2").Succeeded(t)
		if again := ask(t, "rock at commit 1"); again.Outputs["remote-digest"] != first.Outputs["remote-digest"] {
			t.Errorf("the key means %s now", again.Outputs["remote-digest"])
		}
	})
}

// TestKeyOfEngineImage: the source's digest is that of the upload, an image ID.
func TestKeyOfEngineImage(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker")
	id := harness.BuildImage(t, "scratch")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id, "key=k")
	first.Succeeded(t)
	known := harness.Upload(t, sandbox, harness.NoEngine(t), "resource="+harness.ImageResource, "key=k")
	known.Succeeded(t)
	if diff := cmp.Diff(first.UnchangedOutputs(), known.Outputs); diff != "" {
		t.Errorf("outputs (-uploaded +looked up):\n%s", diff)
	}
	// Its record is there: nothing is written again.
	harness.RerunWithin(t, 12, sandbox, first, "digest="+id, "key=k")
}

// TestPushOnly: two jobs push an image each, and a third joins them by their
// digests without a layer.
func TestPushOnly(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{})
	var digests []string
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		rock := harness.WriteRock(t, harness.PlatformImage(t, platform))
		pushed := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+rock, "push-only=true")
		pushed.Succeeded(t)
		pushed.HasOutputs(t, map[string]string{"revision": "", "revision-created": "false", "uploaded": "true",
			"resource-flag": ""})
		digests = append(digests, pushed.Outputs["remote-digest"])
		again := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+rock, "push-only=true")
		again.Succeeded(t)
		again.HasOutputs(t, map[string]string{"remote-digest": digests[len(digests)-1], "uploaded": "false"})
	}
	if n := len(sandbox.Revisions(harness.Charm, harness.ImageResource)); n != 0 {
		t.Fatalf("%d revisions, want none yet", n)
	}
	sandbox.ResetRequests()
	joined := harness.Upload(t, sandbox, harness.NoEngine(t), "resource="+harness.ImageResource,
		"image="+strings.Join(digests, "\n"))
	joined.Succeeded(t)
	made := sandbox.Revisions(harness.Charm, harness.ImageResource)
	if len(made) != 1 || !cmp.Equal(made[0].Architectures(), []string{"amd64", "arm64"}) {
		t.Errorf("revisions %+v, want one for amd64 and arm64", made)
	}
	if layers := harness.SentLayers(t, sandbox); layers > 0 {
		t.Errorf("%d layers were sent", layers)
	}
	var reported []string
	if err := json.Unmarshal([]byte(joined.Outputs["digests"]), &reported); err != nil {
		t.Fatal(err)
	}
	for _, digest := range append(digests, joined.Outputs["remote-digest"]) {
		if !slices.Contains(reported, digest) {
			t.Errorf("digests %v lack %s", reported, digest)
		}
	}
	if len(reported) != 5 { // the index, and of two images manifest and config
		t.Errorf("%d digests: %v", len(reported), reported)
	}
}

package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestKey: what was uploaded under a key is found by it, without the image and
// without an engine, and with the same outputs.
func TestKey(t *testing.T) {
	t.Parallel()
	eachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		sandbox := startSandbox(t, options)
		ask := func(t *testing.T, key string) result {
			t.Helper()
			sandbox.ResetRequests()
			r := action(t, sandbox, noEngine(t), "resource="+imageResource, "key="+key)
			r.succeeded(t)
			if sent := changes(sandbox); len(sent) > 0 {
				t.Errorf("looking up a key changed something:\n%s", strings.Join(sent, "\n"))
			}
			if n := len(sandbox.Requests()); n > 10 {
				t.Errorf("%d requests: %v", n, sandbox.Requests())
			}
			return r
		}
		unknown := ask(t, "rock at commit 1")
		unknown.logged(t, "No image is recorded under this key, and none is given: nothing to upload")
		unknown.has(t, map[string]string{
			"revision": "", "remote-digest": "", "remote-image": "", "source-digest": "", "digests": "", "resources": "[]",
			"resource-flag": "", "resource-flags": "", "revision-created": "false", "uploaded": "false",
		})
		first := action(t, sandbox, "resource="+imageResource, "image="+writeArchive(t, 100_000, 1), "key=rock at commit 1")
		first.succeeded(t)
		known := ask(t, "rock at commit 1")
		if diff := cmp.Diff(first.unchanged(), known.outputs); diff != "" {
			t.Errorf("outputs (-uploaded +looked up):\n%s", diff)
		}
		if other := ask(t, "rock at commit 2"); other.outputs["revision"] != "" {
			t.Errorf("another key has revision %s", other.outputs["revision"])
		}
		// The same image under another key: the first record stays.
		action(t, sandbox, "resource="+imageResource, "image="+writeArchive(t, 100_000, 1), "key=rock at commit 2").succeeded(t)
		if again := ask(t, "rock at commit 1"); again.outputs["remote-digest"] != first.outputs["remote-digest"] {
			t.Errorf("the key means %s now", again.outputs["remote-digest"])
		}
	})
}

// TestKeyOfEngineImage: the source's digest is that of the upload, an image ID.
func TestKeyOfEngineImage(t *testing.T) {
	t.Parallel()
	need(t, "docker")
	id := buildImage(t, "scratch")
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, "resource="+imageResource, "digest="+id, "key=k")
	first.succeeded(t)
	known := action(t, sandbox, noEngine(t), "resource="+imageResource, "key=k")
	known.succeeded(t)
	if diff := cmp.Diff(first.unchanged(), known.outputs); diff != "" {
		t.Errorf("outputs (-uploaded +looked up):\n%s", diff)
	}
	// Its record is there: nothing is written again.
	rerunWithin(t, 12, sandbox, first, "digest="+id, "key=k")
}

// TestPushOnly: two jobs push an image each, and a third joins them by their
// digests without a layer.
func TestPushOnly(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{})
	var digests []string
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		rock := writeRock(t, platformImage(t, platform))
		pushed := action(t, sandbox, "resource="+imageResource, "image="+rock, "push-only=true")
		pushed.succeeded(t)
		pushed.has(t, map[string]string{"revision": "", "revision-created": "false", "uploaded": "true", "resource-flag": ""})
		digests = append(digests, pushed.outputs["remote-digest"])
		again := action(t, sandbox, "resource="+imageResource, "image="+rock, "push-only=true")
		again.succeeded(t)
		again.has(t, map[string]string{"remote-digest": digests[len(digests)-1], "uploaded": "false"})
	}
	if n := len(sandbox.Revisions(charm, imageResource)); n != 0 {
		t.Fatalf("%d revisions, want none yet", n)
	}
	sandbox.ResetRequests()
	joined := action(t, sandbox, noEngine(t), "resource="+imageResource, "image="+strings.Join(digests, "\n"))
	joined.succeeded(t)
	made := sandbox.Revisions(charm, imageResource)
	if len(made) != 1 || !cmp.Equal(made[0].Architectures(), []string{"amd64", "arm64"}) {
		t.Errorf("revisions %+v, want one for amd64 and arm64", made)
	}
	if layers := sentLayers(sandbox); layers > 0 {
		t.Errorf("%d layers were sent", layers)
	}
	var reported []string
	if err := json.Unmarshal([]byte(joined.outputs["digests"]), &reported); err != nil {
		t.Fatal(err)
	}
	for _, digest := range append(digests, joined.outputs["remote-digest"]) {
		if !slices.Contains(reported, digest) {
			t.Errorf("digests %v lack %s", reported, digest)
		}
	}
	if len(reported) != 5 { // the index, and of two images manifest and config
		t.Errorf("%d digests: %v", len(reported), reported)
	}
}

package uploads

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestMetadata: one image of six fails, and the others are uploaded and reported
// as if nothing were.
func TestMetadata(t *testing.T) {
	t.Parallel()
	s := harness.NewUpstreamCharm(t, 6)
	together := meet(t, 4)
	s.Sandbox.Fault(func(r server.Request) *server.Fault {
		if strings.HasSuffix(r.Path, "/upload-credentials") {
			together()
		}
		return nil
	})

	first := harness.Upload(t, s.Sandbox, "charm=", "metadata="+s.Metadata)
	s.PartlyFailed(t, first)
	first.Logged(t, "image-1: "+harness.LogCreated("image-1", "1"), "image-6: "+harness.LogCreated("image-6", "1"))
	s.Complete(t, first, true)
	if !strings.Contains(first.Log, "5 created, 1 failed, 2 left out\n") {
		t.Errorf("the last line doesn't count:\n%s", first.Log)
	}
	if !strings.Contains(first.Summary, "<code>"+harness.FileResource+"</code> | left out: of type file") {
		t.Errorf("the summary doesn't say what was left out:\n%s", first.Summary)
	}

	s.Sandbox.Fault(nil)
	s.Sandbox.ResetRequests()
	again := harness.Upload(t, s.Sandbox, "charm="+harness.Charm, "metadata="+s.Metadata)
	s.PartlyFailed(t, again)
	again.Logged(t, "image-1: "+harness.LogUnchanged("image-1", "1"))
	s.Complete(t, again, false)
	if sent := harness.Changes(s.Sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
	if asked := calls(s.Sandbox, "/v1/charm/"+harness.Charm+"/resources"); asked != 1 {
		t.Errorf("the list of resources was asked for %d times, want once for all", asked)
	}
}

// meet returns what makes its first n callers wait for each other. A caller
// that waits for too long fails the test.
func meet(t *testing.T, n int) func() {
	t.Helper()
	var mu sync.Mutex
	all := make(chan struct{})
	came := 0
	return func() {
		mu.Lock()
		if came++; came == n {
			close(all)
		}
		mu.Unlock()
		select {
		case <-all:
		case <-time.After(30 * time.Second):
			t.Errorf("not all %d came", n)
		}
	}
}

// calls counts the requests for a path.
func calls(sandbox *server.Server, path string) (n int) {
	for _, r := range sandbox.Requests() {
		if r.Path == path {
			n++
		}
	}
	return n
}

// TestMetadataAfterAFailure: the values of the one success aren't reported as if they were the
// only resource; that the other's image was sent is.
func TestMetadataAfterAFailure(t *testing.T) {
	t.Parallel()
	s := harness.NewUpstreamCharm(t, 2)
	harness.Upload(t, s.Sandbox, "metadata="+s.Metadata).Succeeded(t)
	harness.Push(t, s.Host+"/image-2", harness.PlatformImage(t, "linux/arm64"))
	s.Sandbox.Fault(func(r server.Request) *server.Fault {
		if strings.HasSuffix(r.Path, "/resources/image-2/oci-image/blob") {
			return &server.Fault{Status: http.StatusBadRequest}
		}
		return nil
	})
	r := harness.Upload(t, s.Sandbox, "metadata="+s.Metadata)
	if r.Exit != 1 {
		t.Fatalf("exit %d, want 1:\n%s", r.Exit, r.Log)
	}
	r.HasOutputs(t, map[string]string{
		"revision": "", "remote-digest": "", "remote-image": "", "source-digest": "", "resource-flag": "",
		"resource-flags": "--resource=image-1:1", "revision-created": "false", "uploaded": "true",
	})
	if strings.Contains(r.Outputs["resources"], "image-2") {
		t.Errorf("the one that failed is among %s", r.Outputs["resources"])
	}
}

// A tag that moved is another image in the next run; one that didn't, is not.
func TestMetadataFollowsTags(t *testing.T) {
	t.Parallel()
	s := harness.NewUpstreamCharm(t, 2)
	harness.Upload(t, s.Sandbox, "metadata="+s.Metadata).Succeeded(t)
	moved := harness.Push(t, s.Host+"/image-2", harness.PlatformImage(t, "linux/arm64"))
	second := harness.Upload(t, s.Sandbox, "metadata="+s.Metadata)
	second.Succeeded(t)
	second.Logged(t, "image-1: "+harness.LogUnchanged("image-1", "1"), "image-2: "+harness.LogCreated("image-2", "2"))
	if !strings.Contains(second.Outputs["resources"], moved) {
		t.Errorf("the moved image %s isn't in %s", moved, second.Outputs["resources"])
	}
	second.HasOutputs(t, map[string]string{"resource-flags": "--resource=image-1:1 --resource=image-2:2"})
}

func TestMetadataDryRun(t *testing.T) {
	t.Parallel()
	s := harness.NewUpstreamCharm(t, 2)
	r := harness.DryRun(t, s.Sandbox, []string{"metadata=" + s.Metadata})
	r.Logged(t, "image-2: Dry run: would create a revision of resource 'image-2' for charm '"+harness.Charm+"'")
	r.HasOutputs(t, map[string]string{"resource-flags": ""})
	for _, digest := range s.Digests {
		if !strings.Contains(r.Outputs["resources"], digest) {
			t.Errorf("%s isn't in %s", digest, r.Outputs["resources"])
		}
	}
}

func TestMetadataFailures(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text   string
		inputs []string
		want   string
	}{
		"no images": {"name: " + harness.Charm, nil, "no resource of type oci-image with an upstream-source"},
		"no name": {"resources: {a: {type: oci-image, upstream-source: x}}", []string{"charm="},
			"give the charm's with the input charm"},
		"unknown charm": {"name: other\nresources: {a: {type: oci-image, upstream-source: x@" + harness.SomeDigest + "}}",
			[]string{"charm="}, "knows no charm 'other'"},
		"not YAML":       {"a: [", nil, "charmcraft.yaml: yaml:"},
		"two sources":    {"", []string{"digest=" + harness.SomeDigest}, "inputs digest, metadata: given together"},
		"and a resource": {"", []string{"resource=" + harness.ImageResource}, "leave out resource"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "charmcraft.yaml")
			harness.WriteFile(t, path, test.text)
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, append(test.inputs, "metadata="+path)...)
			if r.Exit != 1 || harness.CountErrors(r) != 1 || !strings.Contains(harness.ErrorText(r), test.want) {
				t.Errorf("exit %d, want 1 with one error that says %q:\n%s", r.Exit, test.want, r.Log)
			}
		})
	}
}

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestDryRun(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	path := filepath.Join(t.TempDir(), "model.bin")
	writeFile(t, path, "content")
	tests := map[string]struct{ resource, source string }{
		"image": {imageResource, "image=" + archive},
		"file":  {fileResource, "filepath=" + path},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			inputs := []string{"resource=" + test.resource, test.source}
			would := "Dry run: would create a revision of resource '" + test.resource + "' for charm '" + charm + "'"

			planned := dryRun(t, sandbox, inputs)
			planned.logged(t, would)
			if n := revisions(sandbox); n != 0 {
				t.Errorf("%d revisions after the dry run", n)
			}
			planned.has(t, map[string]string{"revision": "", "resource-flag": "", "revision-created": "false", "uploaded": "false"})

			done := action(t, sandbox, inputs...)
			done.succeeded(t)
			for _, output := range []string{"source-digest", "remote-digest", "remote-image"} {
				planned.has(t, map[string]string{output: done.outputs[output]})
			}

			known := dryRun(t, sandbox, inputs)
			known.logged(t, logUnchanged(test.resource, "1"))
			known.has(t, done.unchanged())
			for _, dry := range []result{planned, known} {
				if !strings.HasPrefix(dry.summary, "### Dry run: ") || !strings.Contains(dry.log, "\nDry run: done in ") {
					t.Errorf("the title of the summary, or the last line of the log, doesn't tell of a dry run:\n%s\n%s", dry.summary, dry.log)
				}
			}
			if strings.Contains(known.log, "would") {
				t.Errorf("nothing would be done:\n%s", known.log)
			}
		})
	}
}

// dryRun fails the test if anything changes.
func dryRun(t *testing.T, sandbox *server.Server, inputs []string) result {
	t.Helper()
	sandbox.ResetRequests()
	r := action(t, sandbox, append([]string{"dry-run=true"}, inputs...)...)
	r.succeeded(t)
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the dry run changed something:\n%s", strings.Join(sent, "\n"))
	}
	return r
}

// TestDryRunImagePushed: an image can be in the repository without being a
// revision.
func TestDryRunImagePushed(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	sandbox := startSandbox(t, server.Options{InMemory: true, NeverReview: true})
	stopInReview(t, sandbox, "resource="+imageResource, "image="+archive)
	r := dryRun(t, sandbox, []string{"resource=" + imageResource, "image=" + archive})
	r.logged(t, logKnown, "Dry run: would create a revision of resource '"+imageResource+"' for charm '"+charm+"'")
}

func TestDryRunPush(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	sandbox := startSandbox(t, server.Options{InMemory: true})
	r := dryRun(t, sandbox, []string{"resource=" + imageResource, "image=" + archive})
	r.logged(t, "Remote image not found, would upload from local registry", "Dry run: would push "+r.outputs["remote-digest"])
	if strings.Contains(r.log, "uploading") {
		t.Errorf("nothing is uploaded:\n%s", r.log)
	}
}

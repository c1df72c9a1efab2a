package uploads

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestDryRun(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	path := filepath.Join(t.TempDir(), "model.bin")
	harness.WriteFile(t, path, "content")
	tests := map[string]struct{ resource, source string }{
		"image": {harness.ImageResource, "image=" + archive},
		"file":  {harness.FileResource, "filepath=" + path},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			inputs := []string{"resource=" + test.resource, test.source}
			would := "Dry run: would create a revision of resource '" + test.resource + "' for charm '" + harness.Charm + "'"

			planned := harness.DryRun(t, sandbox, inputs)
			planned.Logged(t, would)
			if n := harness.CountRevisions(sandbox); n != 0 {
				t.Errorf("%d revisions after the dry run", n)
			}
			planned.HasOutputs(t, map[string]string{"revision": "", "resource-flag": "", "revision-created": "false",
				"uploaded": "false"})

			done := harness.Upload(t, sandbox, inputs...)
			done.Succeeded(t)
			for _, output := range []string{"source-digest", "remote-digest", "remote-image"} {
				planned.HasOutputs(t, map[string]string{output: done.Outputs[output]})
			}

			known := harness.DryRun(t, sandbox, inputs)
			known.Logged(t, harness.LogUnchanged(test.resource, "1"))
			known.HasOutputs(t, done.UnchangedOutputs())
			for _, dry := range []harness.Result{planned, known} {
				if !strings.HasPrefix(dry.Summary, "### Dry run: ") || !strings.Contains(dry.Log, "\nDry run: done in ") {
					t.Errorf("the title of the summary, or the last line of the log, doesn't tell of a dry run:\n%s\n%s",
						dry.Summary, dry.Log)
				}
			}
			if strings.Contains(known.Log, "would") {
				t.Errorf("nothing would be done:\n%s", known.Log)
			}
		})
	}
}

// TestDryRunImagePushed: an image can be in the repository without being a
// revision.
func TestDryRunImagePushed(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, NeverReview: true})
	stopInReview(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	r := harness.DryRun(t, sandbox, []string{"resource=" + harness.ImageResource, "image=" + archive})
	r.Logged(t, harness.LogKnown, "Dry run: would create a revision of resource '"+harness.ImageResource+"' for charm '"+
		harness.Charm+"'")
}

func TestDryRunPush(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.DryRun(t, sandbox, []string{"resource=" + harness.ImageResource, "image=" + archive})
	r.Logged(t, "Remote image not found, would upload from local registry",
		"Dry run: would push "+r.Outputs["remote-digest"])
	if strings.Contains(r.Log, "uploading") {
		t.Errorf("nothing is uploaded:\n%s", r.Log)
	}
}

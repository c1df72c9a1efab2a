package uploads

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// outline returns the titles of a log's groups, and the lines that a reader
// sees while all of them are folded.
func outline(t *testing.T, log string) (groups, lines []string) {
	t.Helper()
	open := false
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		title, starts := strings.CutPrefix(line, "::group::")
		switch {
		case starts && open:
			t.Errorf("group %s is in another", title)
		case starts:
			groups, open = append(groups, title), true
		case line == "::endgroup::":
			open = false
		case !open && !strings.HasPrefix(line, "::add-mask::") && !strings.HasPrefix(line, "::debug::"):
			lines = append(lines, line)
		}
	}
	if open {
		t.Error("the last group doesn't end")
	}
	return groups, lines
}

// TestLogFolded: details are in groups; with these folded, what remains tells
// what came of the run, and one line ends it.
func TestLogFolded(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	inputs := []string{"resource=" + harness.ImageResource, "image=" + archive}

	first := harness.Upload(t, sandbox, inputs...)
	if strings.Contains(first.Log, "=<nil>") {
		t.Errorf("a field of the debug lines is no error:\n%s", first.Log)
	}
	groups, lines := outline(t, first.Log)
	if diff := cmp.Diff([]string{"Pack the image", "Send the image"}, groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	ends(t, lines, harness.LogUnknown, harness.LogUploaded(first), harness.LogCreated(harness.ImageResource, "1"))

	again := harness.Upload(t, sandbox, inputs...)
	groups, lines = outline(t, again.Log)
	if len(groups) > 0 {
		t.Errorf("groups %q for an image that is there", groups)
	}
	ends(t, lines, harness.LogKnown, harness.LogUnchanged(harness.ImageResource, "1"))
}

// ends fails the test unless the lines are these and one that closes the log.
func ends(t *testing.T, lines []string, want ...string) {
	t.Helper()
	if len(lines) == 0 || !strings.HasPrefix(lines[len(lines)-1], "Done in ") {
		t.Fatalf("no closing line: %q", lines)
	}
	if diff := cmp.Diff(want, lines[:len(lines)-1]); diff != "" {
		t.Errorf("lines outside of groups (-want +got):\n%s", diff)
	}
}

// The annotation of a failure isn't folded away with the details before it.
func TestLogFailure(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Server == "registry" && r.Method == http.MethodPost {
			return &server.Fault{Status: http.StatusForbidden}
		}
		return nil
	})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteImageArchive(t, 1000, 1))
	_, lines := outline(t, r.Log)
	if r.Exit != 1 || len(lines) == 0 || !strings.HasPrefix(lines[len(lines)-1], "::error ") {
		t.Errorf("exit %d, want 1 with an error outside of groups:\n%s", r.Exit, r.Log)
	}
}

// TestSummaryUnwritable: the summary repeats what has happened, so that its
// loss is no failure.
func TestSummaryUnwritable(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteImageArchive(t, 1000, 1),
		"GITHUB_STEP_SUMMARY="+t.TempDir()+"/missing/summary")
	r.HasOutputs(t, map[string]string{"revision": "1"})
	if r.Exit != 0 || harness.CountErrors(r) != 0 ||
		!strings.Contains(r.Log, "\n::warning::cannot add to the step's summary: ") {
		t.Errorf("exit %d with %d errors, want 0 with a warning:\n%s", r.Exit, harness.CountErrors(r), r.Log)
	}
}

// TestTagInDigest: one mistake is one complaint.
func TestTagInDigest(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest=my-image:latest")
	r.Failed(t, sandbox, "input digest: \"my-image:latest\" looks like a name or a tag")
	if n := strings.Count(r.Log, "my-image:latest"); n != 1 {
		t.Errorf("%d complaints, want 1:\n%s", n, r.Log)
	}
}

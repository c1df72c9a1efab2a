package harness

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// Warned fails the test unless the run succeeded with these warnings.
func (r Result) Warned(t *testing.T, warnings ...string) {
	t.Helper()
	if n := strings.Count(r.Log, "::warning"); r.Exit != 0 || n != len(warnings) {
		t.Errorf("exit %d with %d warnings, want 0 with %d:\n%s", r.Exit, n, len(warnings), WithoutMasks(r.Log))
	}
	for _, warning := range warnings {
		if !strings.Contains(r.Log, "::warning::"+warning) {
			t.Errorf("no warning %q:\n%s", warning, WithoutMasks(r.Log))
		}
	}
}

// ReleaseFailed fails the test unless the run ended in one error with these
// fragments, and set no output.
func (r Result) ReleaseFailed(t *testing.T, fragments ...string) {
	t.Helper()
	if r.Exit != 1 || CountErrors(r) != 1 || len(r.Outputs) != 0 {
		t.Errorf("exit %d with %d errors and outputs %v, want 1, 1 and none:\n%s", r.Exit, CountErrors(r), r.Outputs,
			WithoutMasks(r.Log))
	}
	for _, fragment := range fragments {
		if !strings.Contains(ErrorText(r), fragment) {
			t.Errorf("the error has no %q:\n%s", fragment, WithoutMasks(r.Log))
		}
	}
}

// RerunsChangeNothing checks that each run after the first sends nothing and
// says what the first said: the container and the binary are one.
func RerunsChangeNothing(t *testing.T, sandbox *server.Server, first Result, reruns ...func() Result) {
	t.Helper()
	for _, rerun := range reruns {
		sandbox.ResetRequests()
		again := rerun()
		again.Succeeded(t)
		if diff := cmp.Diff(first.UnchangedOutputs(), again.Outputs); diff != "" {
			t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
		}
		if sent := Changes(sandbox); len(sent) > 0 {
			t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
		}
	}
}

// IDs and digests of images that aren't anywhere. Both begin with
// the same twelve digits, which make a short ID.
const (
	SomeDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	OtherID    = "sha256:0123456789ab0000000000000000000000000000000000000000000000000000"
)

// Failed fails the test unless the run ended in one error that has the
// fragments, and left nothing behind.
func (r Result) Failed(t *testing.T, sandbox *server.Server, fragments ...string) {
	t.Helper()
	if r.Exit != 1 || CountErrors(r) != 1 {
		t.Fatalf("exit %d with %d errors, want 1 with 1:\n%s", r.Exit, CountErrors(r), r.Log)
	}
	for _, fragment := range fragments {
		if !strings.Contains(ErrorText(r), fragment) {
			t.Errorf("the error doesn't say %q:\n%s", fragment, ErrorText(r))
		}
	}
	if len(r.Outputs) > 0 {
		t.Errorf("the failed run has outputs: %v", r.Outputs)
	}
	// A store that loses its answer to a review and refuses the next may have made a revision; the error says so then.
	if n := CountRevisions(sandbox); n > 1 || n == 1 &&
		!strings.Contains(ErrorText(r), "the revision may exist all the same") {
		t.Errorf("the failed run made %d revisions", n)
	}
}

// CountErrors returns how many error annotations a run wrote.
func CountErrors(r Result) int { return strings.Count("\n"+r.Log, "\n::error") }

// ErrorText returns the run's error as a runner shows it.
func ErrorText(r Result) string {
	_, text, _ := strings.Cut("\n"+r.Log, "\n::error")
	text, _, _ = strings.Cut(text, "\n")
	return strings.NewReplacer("%0A", "\n", "%0D", "\r", "%25", "%").Replace(text)
}

// Succeeded fails the test at once unless the run did what it was asked to.
func (r Result) Succeeded(t *testing.T) {
	t.Helper()
	if r.Exit != 0 || strings.Contains(r.Log, "::error") || strings.Contains(r.Log, "::warning") {
		t.Fatalf("exit %d, want 0 without errors and warnings:\n%s", r.Exit, r.Log)
	}
}

// Logged fails the test unless the log has each of the lines.
func (r Result) Logged(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+r.Log, "\n"+line+"\n") {
			t.Errorf("the log has no line %q:\n%s", line, r.Log)
		}
	}
}

// HasOutputs fails the test unless the outputs are these, whatever others there are.
func (r Result) HasOutputs(t *testing.T, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for name := range want {
		got[name] = r.Outputs[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
}

// UnchangedOutputs are the outputs of a run that found everything as another left it.
func (r Result) UnchangedOutputs() map[string]string {
	outputs := map[string]string{}
	for name, value := range r.Outputs {
		outputs[name] = value
	}
	outputs["uploaded"], outputs["revision-created"] = "false", "false"
	outputs["resources"] = strings.NewReplacer(`"created":true`, `"created":false`, `"uploaded":true`, `"uploaded":false`).
		Replace(outputs["resources"])
	return outputs
}

// IsHarmless fails the test if text from outside became more than text.
func (r Result) IsHarmless(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(r.Log) {
		line = strings.TrimSuffix(line, "\n")
		if at := strings.IndexFunc(line, func(c rune) bool {
			return c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0 ||
				c == '\u202e'
		}); at >= 0 {
			t.Errorf("a control character in the line %q", line)
		}
		command := strings.HasPrefix(strings.TrimSpace(line), "::")
		ours := slices.ContainsFunc([]string{"error", "warning", "debug", "add-mask", "group", "endgroup"},
			func(name string) bool {
				return strings.HasPrefix(line, "::"+name+"::") || strings.HasPrefix(line, "::"+name+" ")
			})
		if command && !ours || strings.Contains(line, "##[") || line == MaskCommand+"a" {
			t.Errorf("text from outside became a command: %q", line)
		}
	}
	if strings.Contains(r.Summary, "\x1b") || r.Outputs["revision"] == "99" {
		t.Errorf("text from outside is in the outputs %v or the summary %q", r.Outputs, r.Summary)
	}
}

// The log's lines about an image that the charm's repository has, and about one that it lacks.
const (
	LogKnown   = "Using the OCI image from Canonical's registry"
	LogUnknown = "Remote image not found, uploading from local registry"
)

// LogUploaded is the log's line about the upload of an image.
func LogUploaded(r Result) string {
	return "Image uploaded, new remote digest: " + r.Outputs["remote-digest"]
}

// LogCreated is the log's line about a new revision.
func LogCreated(resource, revision string) string {
	return "Revision " + revision + " created of resource '" + resource + "' for charm '" + Charm + "'"
}

// LogUnchanged is the log's line about a revision that was there.
func LogUnchanged(resource, revision string) string {
	return "Revision " + revision + " of resource '" + resource + "' for charm '" + Charm + "' is unchanged"
}

// Rerun runs with the same image and nothing to do.
func Rerun(t *testing.T, sandbox *server.Server, first Result, inputs ...string) {
	t.Helper()
	RerunWithin(t, 10, sandbox, first, inputs...)
}

// RerunWithin is Rerun for an image that takes more requests, or fewer, to find.
func RerunWithin(t *testing.T, requests int, sandbox *server.Server, first Result, inputs ...string) {
	t.Helper()
	sandbox.ResetRequests()
	again := Upload(t, sandbox, append(inputs, "resource="+ImageResource)...)
	again.Succeeded(t)
	again.Logged(t, LogKnown, LogUnchanged(ImageResource, first.Outputs["revision"]))
	if diff := cmp.Diff(first.UnchangedOutputs(), again.Outputs); diff != "" {
		t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
	}
	if sent := Changes(sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
	if all := sandbox.Requests(); len(all) > requests {
		t.Errorf("the rerun took %d requests: %v", len(all), all)
	}
	if n := CountRevisions(sandbox); n != len(sandbox.Revisions(Charm, ImageResource)) || n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

// AnnotationOf returns the text of the first annotation of a kind.
func AnnotationOf(r Result, kind string) string {
	_, text, _ := strings.Cut("\n"+r.Log, "\n::"+kind)
	_, text, _ = strings.Cut(text, "::")
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// Reported fails the test unless the run ended in one error with this text, and outputs.
func (r Result) Reported(t *testing.T, fragment string) {
	t.Helper()
	if r.Exit != 1 || CountErrors(r) != 1 || len(r.Outputs) == 0 || !strings.Contains(ErrorText(r), fragment) {
		t.Errorf("exit %d with %d errors and outputs %v, want 1, 1 and some, and the text %q:\n%s", r.Exit, CountErrors(r),
			r.Outputs, fragment, WithoutMasks(r.Log))
	}
}

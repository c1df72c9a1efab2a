package action

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

var someOutputs = []Output{{Name: "revision", Value: "7"},
	{Name: "remote-image", Value: "registry.example/charm/x/y@sha256:aa"}, {Name: "uploaded", Value: "true"},
	{Name: "nothing", Value: ""}}

func TestSetOutputsWritesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output")
	r, out := newRunner(t, underActions.With(env{"GITHUB_OUTPUT": path}))
	r.Mask("secret-part")
	out.Reset()
	if err := r.SetOutputs(someOutputs...); err != nil {
		t.Fatal(err)
	}
	if err := r.SetOutputs(Output{Name: "remote-image", Value: "secret-part/x"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "outputs.file", string(content))
	if out.Len() != 0 {
		t.Errorf("printed %q", out)
	}
}

// TestSetOutputsOfSeveralLines: they stay within the output.
func TestSetOutputsOfSeveralLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output")
	r, _ := newRunner(t, env{"GITHUB_OUTPUT": path})
	if err := r.SetOutputs(Output{Name: "notes", Value: "one\ntwo\n", HasLines: true},
		Output{Name: "last", Value: "x"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "outputs.lines", string(content))
	err = r.SetOutputs(Output{Name: "notes", Value: "x\n_GitHubActionsFileCommandDelimeter_\nrevision=9", HasLines: true})
	testkit.WantError(t, err, "cannot set the output notes")
}

func TestSetOutputsPrintsWithoutFile(t *testing.T) {
	r, out := newRunner(t, outside)
	if err := r.SetOutputs(someOutputs...); err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "outputs.printed", out.String())
}

// TestWriteJSON: lists are lists, and nothing of an earlier run is left. The file of a runner gets the outputs, too.
func TestWriteJSON(t *testing.T) {
	path, output := filepath.Join(t.TempDir(), "out.json"), filepath.Join(t.TempDir(), "output")
	if err := os.WriteFile(path, []byte(`{"revision":"6"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, out := newRunner(t, env{"GITHUB_OUTPUT": output})
	r.Mask("secret-part")
	content := func() string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := r.WriteJSON(path); err != nil || content() != "{}\n" {
		t.Errorf("at the start %q: %v", content(), err)
	}
	list := Output{Name: "resources", Value: `[{"name":"secret-part","revision":7}]`}
	if err := r.SetOutputs(append([]Output{list, {Name: "odd", Value: "[no list"}}, someOutputs...)...); err != nil {
		t.Fatal(err)
	}
	testkit.Golden(t, "outputs.json", content())
	if _, err := os.Stat(output); err != nil || out.Len() > 0 {
		t.Errorf("the runner's file: %v; printed %q", err, out)
	}

	alone, printed := newRunner(t, outside)
	if err := alone.WriteJSON(path); err != nil {
		t.Fatal(err)
	}
	if err := alone.SetOutputs(someOutputs...); err != nil || printed.Len() > 0 {
		t.Errorf("%v; printed %q", err, printed)
	}
	err := alone.WriteJSON(t.TempDir())
	testkit.WantError(t, err, "write the outputs: ", "give another file with --json")
}

func TestSetOutputsRefusesToBeTricked(t *testing.T) {
	for name, value := range map[string]string{
		"line break":        "x\nrevision=9",
		"carriage return":   "x\rrevision=9",
		"delimiter":         "_GitHubActionsFileCommandDelimeter_",
		"delimiter in line": "x\n_GitHubActionsFileCommandDelimeter_\nrevision=9",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "output")
			r, _ := newRunner(t, env{"GITHUB_OUTPUT": path})
			err := r.SetOutputs(Output{Name: "revision", Value: "7"}, Output{Name: "remote-image", Value: value})
			if err == nil || !strings.Contains(err.Error(), "remote-image") {
				t.Errorf("got error %v", err)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("something was written nevertheless")
			}
		})
	}
}

func TestSetOutputsSaysThatTheFileIsNotWritable(t *testing.T) {
	r, _ := newRunner(t, env{"GITHUB_OUTPUT": t.TempDir()})
	err := r.SetOutputs(someOutputs...)
	if err == nil || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("got error %v", err)
	}
}

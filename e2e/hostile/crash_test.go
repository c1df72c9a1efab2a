package hostile

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// crashes are functions of the program and their packages, one for each way in
// which they are run: by main, by goroutines of ours, and by one of net/http.
var crashes = map[string]string{
	"func (r *UploadReader) Login(":   harness.Root + "/pkg/publish",
	"func (c *Client) Revisions(":     harness.Root + "/pkg/charmhub",
	"func (r *Repository) has(":       harness.Root + "/pkg/registry",
	"func (r *exactSizeReader) Read(": harness.Root + "/pkg/charmhub",
}

// crashingProgram is the program, built so that the function that CRASH names
// panics with the store's token when it is called first.
func crashingProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	replaced := map[string]string{}
	replace := func(path, text string) {
		absolute, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		replaced[absolute] = filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		harness.WriteFile(t, replaced[absolute], text)
	}
	for function, folder := range crashes {
		path, source := fileWith(t, folder, "\n"+function)
		before, after, _ := strings.Cut(source, "\n"+function)
		signature, body, _ := strings.Cut(after, "{\n")
		replace(path, before+"\n"+function+signature+"{\ncrash(\""+function+"\")\n"+body)
		replace(filepath.Join(folder, "crash.go"), "package "+filepath.Base(folder)+`
import (
	"os"
	"sync/atomic"
)
var crashed atomic.Bool
func crash(function string) {
	if os.Getenv("CRASH") == function && !crashed.Swap(true) {
		panic("the token is " + os.Getenv("CHARMCRAFT_AUTH"))
	}
}
`)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	crashing := filepath.Join(dir, "crashing")
	harness.Tool(t, "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", crashing, harness.Root)
	return crashing
}

// fileWith returns the one file of a package that has a text.
func fileWith(t *testing.T, folder, text string) (path, source string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if content := harness.ReadFile(t, file); strings.Contains(content, text) {
			return file, content
		}
	}
	t.Fatalf("%s has no %q", folder, text)
	return "", ""
}

// TestCrash: a panic, wherever it happens, is reported as other errors are, and
// asks to be reported. What it says of its own may hold secrets.
func TestCrash(t *testing.T) {
	t.Parallel()
	crashing := crashingProgram(t)
	archive := harness.WriteImageArchive(t, 1000, 1)
	for function := range crashes {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Execute(t, exec.CommandContext(t.Context(), crashing), sandbox,
				"CRASH="+function, "resource="+harness.ImageResource, "image="+archive)
			r.Failed(t, sandbox, "the action crashed: the token is ***", "please report it at https://github.com/")
			if !strings.Contains(r.Log, "::debug::goroutine ") || !strings.Contains(r.Log, ".crash(") {
				t.Errorf("no stack in the debug lines:\n%s", r.Log)
			}
		})
	}
	t.Run("in one of several resources", func(t *testing.T) {
		t.Parallel()
		s := harness.NewUpstreamCharm(t, 2)
		r := harness.Execute(t, exec.CommandContext(t.Context(), crashing), s.Sandbox,
			"CRASH=func (c *Client) Revisions(", "metadata="+s.Metadata)
		for _, text := range []string{"1 created, 1 failed, 2 left out\n", "1 of 2 resources failed:",
			"the action crashed: the token is ***"} {
			if !strings.Contains(r.Log, text) {
				t.Errorf("the log doesn't say %q:\n%s", text, r.Log)
			}
		}
		made := append(s.Sandbox.Revisions(harness.Charm, "image-1"), s.Sandbox.Revisions(harness.Charm, "image-2")...)
		if r.Exit != 1 || harness.CountErrors(r) != 1 || len(made) != 1 {
			t.Errorf("exit %d with %d errors and %d revisions, want 1 of each:\n%s", r.Exit, harness.CountErrors(r),
				len(made), r.Log)
		}
	})
}

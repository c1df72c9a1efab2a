package workflows

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestDocumentedWorkflowsAreRun: what people copy is what tests here run, and is
// there once.
func TestDocumentedWorkflowsAreRun(t *testing.T) {
	t.Parallel()
	tests, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range tests {
		source.WriteString(harness.ReadFile(t, file))
	}
	for name := range harness.DocumentedWorkflows(t) {
		if !strings.Contains(source.String(), `harness.NewCheckout(t, sandbox, "`+name+`"`) &&
			!strings.Contains(source.String(), `harness.NewCheckout(t, s.Sandbox, "`+name+`"`) {
			t.Errorf("no test runs the documents' workflow %s", name)
		}
		if _, err := os.Stat("testdata/workflows/" + name); err == nil {
			t.Errorf("the documents' workflow %s is in testdata as well", name)
		}
	}
}

// TestDocumentedWorkflowsAreSound: what people copy has no mistake that actionlint
// knows.
func TestDocumentedWorkflowsAreSound(t *testing.T) {
	t.Parallel()
	harness.Need(t, "actionlint")
	dir := t.TempDir()
	args := []string{"-shellcheck=", "-pyflakes="}
	workflows := harness.DocumentedWorkflows(t)
	for _, name := range slices.Sorted(maps.Keys(workflows)) {
		path := filepath.Join(dir, name)
		harness.WriteFile(t, path, workflows[name])
		args = append(args, path)
	}
	harness.Tool(t, "actionlint", args...)
}

// TestWorkflowRegistry: from a registry that asks for credentials.
func TestWorkflowRegistry(t *testing.T) {
	t.Parallel()
	other := harness.StartSandbox(t, server.Options{InMemory: true})
	uploaded := harness.Upload(t, other, "resource="+harness.ImageResource,
		"image="+harness.WriteRock(t, harness.PlatformIndex(t, "linux/amd64", "linux/arm64")))
	uploaded.Succeeded(t)
	_, username, password := other.RegistryAuth(harness.Charm, harness.ImageResource)

	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	c := harness.NewCheckout(t, sandbox, "registry.yml", nil)
	r := c.Run(t, "workflow_dispatch", "--input", "image="+uploaded.Outputs["remote-image"],
		"--actor", username, "--secret", "GITHUB_TOKEN="+password)
	r.Succeeded(t)
	_, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	r.Logged(t, harness.LogCreated(harness.ImageResource, "1"),
		"revision 1 is "+repository+"@"+uploaded.Outputs["remote-digest"])
	if strings.Contains(r.Log, password) {
		t.Error("the log of the workflow holds the source's password")
	}
	harness.IsComplete(t, sandbox, uploaded.Outputs["remote-digest"])
}

// TestWorkflowMultiArch: a third job joins the rocks of two into one index.
func TestWorkflowMultiArch(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	c := harness.NewCheckout(t, sandbox, "multi-arch.yml", map[string]string{
		"amd64.rock": harness.ReadFile(t, harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))),
		"arm64.rock": harness.ReadFile(t, harness.WriteRock(t, harness.PlatformImage(t, "linux/arm64"))),
	})
	r := c.Run(t, "push")
	r.Succeeded(t)
	r.Logged(t, harness.LogCreated(harness.ImageResource, "1"))
	harness.RecordedFor(t, sandbox, "amd64", "arm64")
}

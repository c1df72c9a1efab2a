package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

var readmeWorkflow = regexp.MustCompile("(?s)<!-- workflow: ([a-z-]+) -->\n+```yaml\n(.*?)```\n")

// readmeWorkflows returns the workflows that the README tells people to copy,
// by file name.
func readmeWorkflows(t *testing.T) map[string]string {
	t.Helper()
	workflows := map[string]string{}
	for _, found := range readmeWorkflow.FindAllStringSubmatch(readFile(t, "../README.md"), -1) {
		workflows[found[1]+".yml"] = found[2]
	}
	if len(workflows) == 0 {
		t.Fatal("README.md has no workflow")
	}
	return workflows
}

// workflowText returns a workflow of the README, or of testdata, which has
// those that nobody should copy.
func workflowText(t *testing.T, name string) string {
	t.Helper()
	if text, ok := readmeWorkflows(t)[name]; ok {
		return text
	}
	return readFile(t, "testdata/workflows/"+name)
}

// TestReadmeWorkflowsAreRun: what people copy is what tests here run, and is
// there once.
func TestReadmeWorkflowsAreRun(t *testing.T) {
	t.Parallel()
	tests, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range tests {
		source.WriteString(readFile(t, file))
	}
	for name := range readmeWorkflows(t) {
		if !strings.Contains(source.String(), `newCheckout(t, sandbox, "`+name+`"`) &&
			!strings.Contains(source.String(), `newCheckout(t, s.sandbox, "`+name+`"`) {
			t.Errorf("no test runs the README's workflow %s", name)
		}
		if _, err := os.Stat("testdata/workflows/" + name); err == nil {
			t.Errorf("the README's workflow %s is in testdata as well", name)
		}
	}
}

// TestReadmeWorkflowsAreSound: what people copy has no mistake that actionlint
// knows.
func TestReadmeWorkflowsAreSound(t *testing.T) {
	t.Parallel()
	need(t, "actionlint")
	dir := t.TempDir()
	args := []string{"-shellcheck=", "-pyflakes="}
	workflows := readmeWorkflows(t)
	for _, name := range slices.Sorted(maps.Keys(workflows)) {
		path := filepath.Join(dir, name)
		writeFile(t, path, workflows[name])
		args = append(args, path)
	}
	run(t, "actionlint", args...)
}

// standInActions are what the README's workflows use besides this action, by
// repository and version: in place of packing and of GitHub's artifacts, files
// are taken from the checkout and passed on in a folder.
var standInActions = map[string]map[string]string{
	"canonical/craft-actions@v1": {
		"rockcraft/pack": `
outputs: {rocks: {value: "${{ steps.pack.outputs.rocks }}"}}
runs: {using: composite, steps: [{id: pack, shell: sh, run: 'echo "rocks=${ARCH:-my}.rock" >> "$GITHUB_OUTPUT"'}]}
`,
		"charmcraft/pack": `
outputs: {charms: {value: "${{ steps.pack.outputs.charms }}"}}
runs: {using: composite, steps: [{id: pack, shell: sh, run: 'echo charms=my-charm.charm >> "$GITHUB_OUTPUT"'}]}
`,
	},
	"actions/upload-artifact@v4": {".": `
inputs: {name: {required: true}, path: {required: true}}
runs: {using: composite, steps: [{shell: sh, run: 'cp "${{ inputs.path }}" /artifacts/'}]}
`},
	"actions/download-artifact@v4": {".": `
inputs: {pattern: {required: true}, merge-multiple: {required: true}}
runs: {using: composite, steps: [{shell: sh, run: cp /artifacts/* .}]}
`},
}

// standInPrograms are what steps run that can't run here: a cluster that has
// what it is to wait for, and a charmcraft that says what it was told.
var standInPrograms = map[string]string{
	"kubectl":    "#!/bin/sh\necho \"$IMAGE\"\n",
	"charmcraft": "#!/bin/sh\necho \"charmcraft $*\"\n",
}

// useStandIns writes the actions and returns the options that make act use
// them.
func useStandIns(t *testing.T) (options []string) {
	t.Helper()
	for repository, actions := range standInActions {
		root := t.TempDir()
		for name, text := range actions {
			dir := filepath.Join(root, name)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, "action.yml"), "name: stand-in\ndescription: stand-in"+text)
		}
		options = append(options, "--local-repository", repository+"="+root)
	}
	for _, label := range []string{"ubuntu-24.04", "ubuntu-24.04-arm"} {
		options = append(options, "--platform", label+"="+runnerImage(t)+":latest")
	}
	return append(options, "--container-options", "--volume="+t.TempDir()+":/artifacts")
}

// TestWorkflowRegistry: from a registry that asks for credentials.
func TestWorkflowRegistry(t *testing.T) {
	t.Parallel()
	other := startSandbox(t, server.Options{InMemory: true})
	uploaded := action(t, other, "resource="+imageResource, "image="+writeRock(t, platformIndex(t, "linux/amd64", "linux/arm64")))
	uploaded.succeeded(t)
	_, username, password := other.RegistryAuth(charm, imageResource)

	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "registry.yml", nil)
	r := c.runs(t, "workflow_dispatch", "--input", "image="+uploaded.outputs["remote-image"],
		"--actor", username, "--secret", "GITHUB_TOKEN="+password)
	r.succeeded(t)
	_, repository := registryLogin(t, sandbox, imageResource)
	r.said(t, toldCreated(imageResource, "1"), "revision 1 is "+repository+"@"+uploaded.outputs["remote-digest"])
	if strings.Contains(r.log, password) {
		t.Error("the log of the workflow holds the source's password")
	}
	isWhole(t, sandbox, uploaded.outputs["remote-digest"])
}

// TestWorkflowMultiArch: rocks of two jobs become one index.
func TestWorkflowMultiArch(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "multi-arch.yml", map[string]string{
		"amd64.rock": readFile(t, writeRock(t, platformImage(t, "linux/amd64"))),
		"arm64.rock": readFile(t, writeRock(t, platformImage(t, "linux/arm64"))),
	})
	r := c.runs(t, "push")
	r.succeeded(t)
	r.said(t, toldCreated(imageResource, "1"))
	recordedFor(t, sandbox, "amd64", "arm64")
}

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

var markedWorkflow = regexp.MustCompile("(?s)<!-- workflow: ([a-z-]+) -->\n+```yaml\n(.*?)```\n")

// documentedWorkflows returns the workflows that the documents tell people to
// copy, by file name.
func documentedWorkflows(t *testing.T) map[string]string {
	t.Helper()
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	workflows := map[string]string{}
	for _, page := range append(pages, "../README.md") {
		for _, found := range markedWorkflow.FindAllStringSubmatch(readFile(t, page), -1) {
			name := found[1] + ".yml"
			if workflows[name] != "" {
				t.Errorf("%s has a second workflow %s", page, found[1])
			}
			workflows[name] = found[2]
		}
	}
	if len(workflows) == 0 {
		t.Fatal("the documents have no workflow")
	}
	return workflows
}

// workflowText returns a workflow of the documents, or of testdata, which has
// those that nobody should copy.
func workflowText(t *testing.T, name string) string {
	t.Helper()
	if text, ok := documentedWorkflows(t)[name]; ok {
		return text
	}
	return readFile(t, "testdata/workflows/"+name)
}

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
		source.WriteString(readFile(t, file))
	}
	for name := range documentedWorkflows(t) {
		if !strings.Contains(source.String(), `newCheckout(t, sandbox, "`+name+`"`) &&
			!strings.Contains(source.String(), `newCheckout(t, s.sandbox, "`+name+`"`) {
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
	need(t, "actionlint")
	dir := t.TempDir()
	args := []string{"-shellcheck=", "-pyflakes="}
	workflows := documentedWorkflows(t)
	for _, name := range slices.Sorted(maps.Keys(workflows)) {
		path := filepath.Join(dir, name)
		writeFile(t, path, workflows[name])
		args = append(args, path)
	}
	run(t, "actionlint", args...)
}

// standInActions are what the documents' workflows use besides this action, by
// repository and version: instead of packing, they take a file of the checkout,
// a rock that is named for the job if there is one.
var standInActions = map[string]map[string]string{
	"actions/attest-build-provenance@v3": {".": `
inputs: {subject-name: {required: true}, subject-digest: {required: true}}
runs: {using: composite, steps: [{shell: sh, run: 'echo "attested ${{ inputs.subject-name }}@${{ inputs.subject-digest }}"'}]}
`},
	"canonical/craft-actions@v1": {
		"rockcraft/pack": `
inputs: {path: {default: .}}
outputs: {rocks: {value: "${{ steps.pack.outputs.rocks }}"}}
runs:
  using: composite
  steps:
    - id: pack
      shell: sh
      run: |
        echo "packing in ${{ inputs.path }}"
        rock=$GITHUB_JOB.rock
        [ -e "$rock" ] || rock=$(echo *.rock)
        echo "rocks=$rock" >> "$GITHUB_OUTPUT"
`,
		"charmcraft/pack": `
outputs: {charms: {value: "${{ steps.pack.outputs.charms }}"}}
runs: {using: composite, steps: [{id: pack, shell: sh, run: 'echo charms=$(echo *.charm) >> "$GITHUB_OUTPUT"'}]}
`,
	},
}

// standInPrograms are what steps run that can't run here: GitHub's gh, a skopeo that
// reads a manifest out of a rock, a cluster that has
// what it is to wait for, and a node that hashes the files of a pattern such as
// rock/**, which act asks for hashFiles. In .ci/cluster, kubectl is the real one.
var standInPrograms = map[string]string{
	"gh": `#!/bin/sh
case "$1 $2" in
"issue list") ;;
"release view") test -e "released-$3" ;;
*) echo "gh $*" ;;
esac
`,
	"skopeo": `#!/bin/sh
rock=${3#oci-archive:}
digest=$(tar -xOf "$rock" index.json | grep -o 'sha256:[0-9a-f]*' | head -n 1 | cut -d : -f 2)
tar -xOf "$rock" "blobs/sha256/$digest"
`,
	"kubectl": "#!/bin/sh\necho \"$IMAGE\"\n",
	"node": `#!/bin/sh
case $* in
*execPath*) echo /bin/node ;;
*/hashfiles/*)
	cd "$GITHUB_WORKSPACE" || exit
	echo "__OUTPUT__$(find "${patterns%%/\**}" -type f | sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1)__OUTPUT__"
esac
`,
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
	return options
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
	r.logged(t, logCreated(imageResource, "1"), "revision 1 is "+repository+"@"+uploaded.outputs["remote-digest"])
	if strings.Contains(r.log, password) {
		t.Error("the log of the workflow holds the source's password")
	}
	isComplete(t, sandbox, uploaded.outputs["remote-digest"])
}

// TestWorkflowMultiArch: a third job joins the rocks of two into one index.
func TestWorkflowMultiArch(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "multi-arch.yml", map[string]string{
		"amd64.rock": readFile(t, writeRock(t, platformImage(t, "linux/amd64"))),
		"arm64.rock": readFile(t, writeRock(t, platformImage(t, "linux/arm64"))),
	})
	r := c.runs(t, "push")
	r.succeeded(t)
	r.logged(t, logCreated(imageResource, "1"))
	recordedFor(t, sandbox, "amd64", "arm64")
}

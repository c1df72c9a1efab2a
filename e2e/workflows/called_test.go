package workflows

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// calledStandIns are for the actions that the workflows for others use by commit: the checkout of this repository has
// its actions, and a packed charm is where the charm's folder is.
var calledStandIns = map[string]string{
	"actions/checkout": `name: stand-in
description: gets the actions
inputs: {repository: {}, ref: {}, path: {}, persist-credentials: {}}
runs:
  using: composite
  steps: [{shell: sh, run: 'mkdir -p ${{ inputs.path }} && cp -r ${{ github.action_path }}/. ${{ inputs.path }}'}]
`,
	"canonical/craft-actions/charmcraft/pack": `name: stand-in
description: packs nothing
inputs: {path: {}}
runs: {using: composite, steps: [{shell: sh, run: 'echo "packing in ${{ inputs.path }}"'}]}
`,
}

var usesCommit = regexp.MustCompile(`uses: (([\w-]+/[\w-]+)([\w./-]*))@([0-9a-f]{40})`)

// called returns act's options for a checkout whose workflow calls one of this repository's.
func called(t *testing.T, c harness.Checkout, workflow string) (options []string) {
	t.Helper()
	text := harness.ReadFile(t, harness.Root+"/.github/workflows/"+workflow)
	path := filepath.Join(c.Action, ".github/workflows", workflow)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, path, text)
	for _, uses := range usesCommit.FindAllStringSubmatch(text, -1) {
		root := t.TempDir()
		if uses[1] == "actions/checkout" {
			if err := os.CopyFS(root, os.DirFS(c.Action)); err != nil {
				t.Fatal(err)
			}
		}
		folder := filepath.Join(root, uses[3])
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		harness.WriteFile(t, filepath.Join(folder, "action.yml"), calledStandIns[uses[1]])
		options = append(options, "--local-repository", uses[2]+"@"+uses[4]+"="+root)
	}
	return options
}

// TestWorkflowCallPublish: a charm's repository calls a workflow that packs and publishes it. The second time nothing
// changes.
func TestWorkflowCallPublish(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
	metadata := "name: my-charm\nresources: {my-file: {type: file}}\n"
	files := map[string]string{"my-charm.charm": charmtest.File(t, metadata, harness.Noble),
		"rules.txt": harness.UniqueContent()}
	c := harness.NewCheckout(t, sandbox, "call-publish.yml", files)
	options := called(t, c, "publish.yml")
	for _, released := range []string{"true", "false"} {
		sandbox.ResetRequests()
		r := c.Run(t, "push", options...)
		r.Succeeded(t)
		r.Logged(t, "packing in .", "charm revisions 1, released "+released)
		harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.FileResource: 1}})
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("the second run changed something: %v", sent)
	}
}

// TestWorkflowCallPromote: a workflow that is called releases what is on a channel to another.
func TestWorkflowCallPromote(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	on := server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 2}}
	sandbox.PutRelease(harness.Charm, on)
	c := harness.NewCheckout(t, sandbox, "call-promote.yml", nil)
	c.Run(t, "workflow_dispatch", append(called(t, c, "promote.yml"), releaseToken(sandbox)...)...).Succeeded(t)
	promoted := on
	promoted.Channel = "latest/candidate"
	harness.HasReleases(t, sandbox, promoted, on)
}

// TestCalledWorkflows: a workflow for others runs the action of its own commit, with inputs that this has, and passes
// on what callers give and get.
func TestCalledWorkflows(t *testing.T) {
	t.Parallel()
	for name, action := range map[string]string{"publish": "publish", "promote": "release"} {
		text := harness.ReadFile(t, harness.Root+"/.github/workflows/"+name+".yml")
		var declared struct{ Inputs, Outputs map[string]any }
		if err := yaml.Unmarshal([]byte(harness.ReadFile(t, harness.Root+"/"+action+"/action.yml")), &declared); err != nil {
			t.Fatal(err)
		}
		var workflow struct {
			On struct {
				Call struct{ Inputs, Secrets, Outputs map[string]any } `yaml:"workflow_call"`
			}
			Jobs map[string]struct{ Outputs map[string]string }
		}
		if err := yaml.Unmarshal([]byte(text), &workflow); err != nil {
			t.Fatal(err)
		}
		steps := readWorkflow(t, harness.Root+"/.github/workflows/"+name+".yml").Jobs[name].Steps
		own, last := steps[len(steps)-2], steps[len(steps)-1]
		want := map[string]any{
			"repository": "${{ job.workflow_repository }}", "ref": "${{ job.workflow_sha }}", "path": ".upload-resource",
			"persist-credentials": false,
		}
		if diff := cmp.Diff(want, own.With); diff != "" {
			t.Errorf("%s.yml gets the action (-want +got):\n%s", name, diff)
		}
		if last.Uses != "./.upload-resource/"+action {
			t.Errorf("%s.yml runs %s", name, last.Uses)
		}
		for input := range last.With {
			if declared.Inputs[input] == nil {
				t.Errorf("%s.yml sets %s, which the action doesn't have", name, input)
			}
		}
		for output := range workflow.On.Call.Outputs {
			if declared.Outputs[output] == nil || workflow.Jobs[name].Outputs[output] != "${{ steps."+last.ID+".outputs."+
				output+" }}" {
				t.Errorf("%s.yml: the output %s isn't the action's", name, output)
			}
		}
		for input := range workflow.On.Call.Inputs {
			if !strings.Contains(text, "${{ inputs."+input+" }}") {
				t.Errorf("%s.yml doesn't use its input %s", name, input)
			}
		}
		for secret := range workflow.On.Call.Secrets {
			if strings.Count(text, "${{ secrets."+secret+" }}") != 1 {
				t.Errorf("%s.yml doesn't use the secret %s once", name, secret)
			}
		}
	}
}

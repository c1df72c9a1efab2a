package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestWorkflowPublish(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "publish.yml", map[string]string{
		"Dockerfile": "FROM scratch\nCOPY unique /\nCMD [\"/unique\"]\n", "unique": uniqueFile(),
	})

	planned := c.runs(t, "pull_request")
	planned.succeeded(t)
	planned.said(t, "Dry run: would create a revision of resource '"+imageResource+"'")
	if n := revisions(sandbox); n != 0 {
		t.Errorf("%d revisions after the pull request", n)
	}

	first := c.runs(t, "push")
	first.succeeded(t)
	made := sandbox.Revisions(charm, imageResource)
	if len(made) != 1 {
		t.Fatalf("%d revisions, want 1:\n%s", len(made), first.log)
	}
	login, repository := registryLogin(t, sandbox, imageResource)
	digest := run(t, "env", "DOCKER_CONFIG="+login, "crane", "digest", repository+":latest")
	first.said(t, toldCreated(imageResource, "1"), "revision 1 runs as "+digest, "waiting for "+repository+"@"+digest)

	sandbox.ResetRequests()
	again := c.runs(t, "push")
	again.succeeded(t)
	again.said(t, toldKnown, toldUnchanged(imageResource, "1"), "revision 1 runs as "+digest, "waiting for "+repository+"@"+digest)
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
}

func TestWorkflowRock(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	image := platformImage(t, "linux/amd64")
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c := newCheckout(t, sandbox, "rock.yml", map[string]string{"my.rock": readFile(t, writeRock(t, image))})
	r := c.runs(t, "push")
	r.succeeded(t)
	r.said(t, toldCreated(imageResource, "1"), "the rock "+digest.String()+" is "+digest.String())
	isWhole(t, sandbox, digest.String())
}

// TestWorkflowResources: jobs of a matrix upload an image and a file.
func TestWorkflowResources(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	rules := uniqueFile()
	c := newCheckout(t, sandbox, "resources.yml", map[string]string{
		"images/my.rock": readFile(t, writeRock(t, platformImage(t, "linux/amd64"))), "files/rules.txt": rules,
	})
	for range 2 {
		r := c.runs(t, "push")
		r.succeeded(t)
		r.said(t, "charmcraft release my-charm --resource="+imageResource+":1", "charmcraft release my-charm --resource="+fileResource+":1")
	}
	if n := revisions(sandbox); n != 2 || sandbox.Revisions(charm, fileResource)[0].SHA256 != sumOf(rules) {
		t.Errorf("%d revisions, want one of each resource, with its content", n)
	}
}

// TestWorkflowFile: the file of an earlier step is found through
// github.workspace.
func TestWorkflowFile(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	rules := uniqueFile()
	c := newCheckout(t, sandbox, "file.yml", map[string]string{"rules.txt": rules})
	for _, created := range []string{"true", "false"} {
		r := c.runs(t, "push")
		r.succeeded(t)
		r.said(t, "revision 1, new "+created)
	}
	if made := sandbox.Revisions(charm, fileResource); len(made) != 1 || made[0].SHA256 != sumOf(strings.ToUpper(rules)) {
		t.Errorf("revisions %+v, want one of the file", made)
	}
}

func TestWorkflowCharm(t *testing.T) {
	t.Parallel()
	s := newSet(t, 2)
	c := newCheckout(t, s.sandbox, "charm.yml", map[string]string{"charmcraft.yaml": readFile(t, s.metadata)})
	r := c.runs(t, "push")
	r.succeeded(t)
	r.said(t, "charmcraft upload my-charm.charm --release=latest/edge --resource=image-1:1 --resource=image-2:1")
}

// TestWorkflowFailure: a file that the action can't see is explained, in an
// annotation and no output.
func TestWorkflowFailure(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "runner-temp.yml", nil)
	r := c.runs(t, "push")
	if !r.failed {
		t.Errorf("the workflow succeeded:\n%s", r.log)
	}
	r.said(t, "::error title=upload-resource::", "/model.bin here: a container action sees the workspace, but neither runner.temp",
		"put the file below github.workspace", "outcome failure, revision ''")
	if n := strings.Count(r.log, "::error"); n != 1 {
		t.Errorf("%d annotations, want 1:\n%s", n, r.log)
	}
}

// TestWorkflowsAreSound: nor has what nobody should copy a mistake that
// actionlint knows.
func TestWorkflowsAreSound(t *testing.T) {
	t.Parallel()
	need(t, "actionlint")
	files, err := filepath.Glob("testdata/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	run(t, "actionlint", append([]string{"-shellcheck=", "-pyflakes="}, files...)...)
}

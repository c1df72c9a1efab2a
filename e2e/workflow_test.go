package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// buildable are the files of a repository with an image of its own to build.
func buildable() map[string]string {
	return map[string]string{"Dockerfile": "FROM scratch\nCOPY unique /\nCMD [\"/unique\"]\n", "unique": uniqueFile()}
}

// TestWorkflowImage: a pull request plans, a push uploads, and another push
// changes nothing.
func TestWorkflowImage(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "image.yml", buildable())

	planned := c.runs(t, "pull_request")
	planned.succeeded(t)
	planned.logged(t, "Dry run: would create a revision of resource '"+imageResource+"'")
	if n := revisions(sandbox); n != 0 {
		t.Errorf("%d revisions after the pull request", n)
	}

	first := c.runs(t, "push")
	first.succeeded(t)
	if made := sandbox.Revisions(charm, imageResource); len(made) != 1 {
		t.Fatalf("%d revisions, want 1:\n%s", len(made), first.log)
	}
	login, repository := registryLogin(t, sandbox, imageResource)
	digest := run(t, "env", "DOCKER_CONFIG="+login, "crane", "digest", repository+":latest")
	first.logged(t, logCreated(imageResource, "1"), "revision 1 is "+digest)

	sandbox.ResetRequests()
	again := c.runs(t, "push")
	again.succeeded(t)
	again.logged(t, logKnown, logUnchanged(imageResource, "1"), "revision 1 is "+digest)
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
}

// TestWorkflowPublish: the second job waits for the image of the first.
func TestWorkflowPublish(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "publish.yml", buildable())
	r := c.runs(t, "push")
	r.succeeded(t)
	login, repository := registryLogin(t, sandbox, imageResource)
	digest := run(t, "env", "DOCKER_CONFIG="+login, "crane", "digest", repository+":latest")
	r.logged(t, logCreated(imageResource, "1"), "revision 1 runs as "+digest, "waiting for "+repository+"@"+digest)
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
	r.logged(t, logCreated(imageResource, "1"), "the rock "+digest.String()+" is "+digest.String())
	isComplete(t, sandbox, digest.String())
}

// TestWorkflowProvenance: what is attested is the published image, and the release
// verifies the same digest.
func TestWorkflowProvenance(t *testing.T) {
	t.Parallel()
	image := platformImage(t, "linux/amd64")
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble})
	sandbox.PutRelease(charm, server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 1, fileResource: 1}})
	c := newCheckout(t, sandbox, "provenance.yml", map[string]string{"my.rock": readFile(t, writeRock(t, image))})
	r := c.runs(t, "push", releaseToken(sandbox)...)
	r.succeeded(t)
	r.logged(t, "attested my-charm/my-image@"+digest.String(), "gh attestation verify manifest.json --repo ")
	isReleased(t, sandbox, server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 3, fileResource: 1}})
}

// TestWorkflowKey: what was uploaded under a key isn't built again, and the
// outputs are the same.
func TestWorkflowKey(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	c := newCheckout(t, sandbox, "key.yml", map[string]string{
		"my.rock": readFile(t, writeRock(t, platformImage(t, "linux/amd64"))), "rock/rockcraft.yaml": uniqueFile(),
	})
	first := c.runs(t, "push")
	first.succeeded(t)
	first.logged(t, "packing in rock", logCreated(imageResource, "1"), "the revision is 1")

	sandbox.ResetRequests()
	again := c.runs(t, "push")
	again.succeeded(t)
	again.logged(t, "the revision is 1")
	if strings.Contains(again.log, "packing in rock") {
		t.Error("the rock was built again")
	}
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
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
		r.logged(t, "charmcraft release my-charm --resource="+imageResource+":1", "charmcraft release my-charm --resource="+fileResource+":1")
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
		r.logged(t, "revision 1, new "+created)
	}
	if made := sandbox.Revisions(charm, fileResource); len(made) != 1 || made[0].SHA256 != sumOf(strings.ToUpper(rules)) {
		t.Errorf("revisions %+v, want one of the file", made)
	}
}

// releaseToken returns the options that give a workflow the token for releases,
// with the permissions that the documents ask for.
func releaseToken(sandbox *server.Server) []string {
	return []string{"--secret", "CHARMHUB_RELEASE_TOKEN=" + sandbox.Mint(server.Grant{Permissions: []string{
		"package-manage-revisions", "package-view-revisions", "package-manage-releases", "package-view-releases",
	}})}
}

// TestWorkflowCharm: the packed charm is released with the images of its metadata.
// The second time nothing is sent.
func TestWorkflowCharm(t *testing.T) {
	t.Parallel()
	s := newSet(t, 2)
	packed := "name: my-charm\nresources:\n  image-1: {type: oci-image}\n  image-2: {type: oci-image}\n"
	c := newCheckout(t, s.sandbox, "charm.yml", map[string]string{
		"charmcraft.yaml": readFile(t, s.metadata), "my-charm.charm": charmtest.File(t, packed, noble),
	})
	token := releaseToken(s.sandbox)
	for range 2 {
		s.sandbox.ResetRequests()
		c.runs(t, "push", token...).succeeded(t)
		isReleased(t, s.sandbox, server.Release{Channel: "latest/edge", Base: noble, Revision: 2, Resources: with{"image-1": 1, "image-2": 1}})
	}
	if uploads, releases := sent(s.sandbox); uploads != 0 || releases != 0 {
		t.Errorf("the second time %d uploads and %d releases, want none", uploads, releases)
	}
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
	r.logged(t, "::error title=upload-resource::", "/model.bin: ", "a container action sees the workspace, but neither runner.temp",
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

package workflows

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// buildable are the files of a repository with an image of its own to build.
func buildable() map[string]string {
	return map[string]string{"Dockerfile": "FROM scratch\nCOPY unique /\nCMD [\"/unique\"]\n",
		"unique": harness.UniqueContent()}
}

// TestWorkflowImage: a pull request plans, a push uploads, and another push
// changes nothing.
func TestWorkflowImage(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	c := harness.NewCheckout(t, sandbox, "image.yml", buildable())

	planned := c.Run(t, "pull_request")
	planned.Succeeded(t)
	planned.Logged(t, "Dry run: would create a revision of resource '"+harness.ImageResource+"'")
	if n := harness.CountRevisions(sandbox); n != 0 {
		t.Errorf("%d revisions after the pull request", n)
	}

	first := c.Run(t, "push")
	first.Succeeded(t)
	if made := sandbox.Revisions(harness.Charm, harness.ImageResource); len(made) != 1 {
		t.Fatalf("%d revisions, want 1:\n%s", len(made), first.Log)
	}
	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	digest := harness.Tool(t, "env", "DOCKER_CONFIG="+login, "crane", "digest", repository+":latest")
	first.Logged(t, harness.LogCreated(harness.ImageResource, "1"), "revision 1 is "+digest)

	sandbox.ResetRequests()
	again := c.Run(t, "push")
	again.Succeeded(t)
	again.Logged(t, harness.LogKnown, harness.LogUnchanged(harness.ImageResource, "1"), "revision 1 is "+digest)
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
}

// TestWorkflowPublish: the second job waits for the image of the first.
func TestWorkflowPublish(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	c := harness.NewCheckout(t, sandbox, "publish.yml", buildable())
	r := c.Run(t, "push")
	r.Succeeded(t)
	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	digest := harness.Tool(t, "env", "DOCKER_CONFIG="+login, "crane", "digest", repository+":latest")
	r.Logged(t, harness.LogCreated(harness.ImageResource, "1"), "revision 1 runs as "+digest,
		"waiting for "+repository+"@"+digest)
}

func TestWorkflowRock(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	image := harness.PlatformImage(t, "linux/amd64")
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c := harness.NewCheckout(t, sandbox, "rock.yml",
		map[string]string{"my.rock": harness.ReadFile(t, harness.WriteRock(t, image))})
	r := c.Run(t, "push")
	r.Succeeded(t)
	r.Logged(t, harness.LogCreated(harness.ImageResource, "1"), "the rock "+digest.String()+" is "+digest.String())
	harness.IsComplete(t, sandbox, digest.String())
}

// TestWorkflowProvenance: what is attested is the published image, and the release
// verifies the same digest.
func TestWorkflowProvenance(t *testing.T) {
	t.Parallel()
	image := harness.PlatformImage(t, "linux/amd64")
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
	c := harness.NewCheckout(t, sandbox, "provenance.yml",
		map[string]string{"my.rock": harness.ReadFile(t, harness.WriteRock(t, image))})
	r := c.Run(t, "push", releaseToken(sandbox)...)
	r.Succeeded(t)
	r.Logged(t, "attested my-charm/my-image@"+digest.String(), "gh attestation verify manifest.json --repo ")
	harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 3, harness.FileResource: 1}})
}

// TestWorkflowKey: what was uploaded under a key isn't built again, and the
// outputs are the same.
func TestWorkflowKey(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	c := harness.NewCheckout(t, sandbox, "key.yml", map[string]string{
		"my.rock":             harness.ReadFile(t, harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))),
		"rock/rockcraft.yaml": harness.UniqueContent(),
	})
	first := c.Run(t, "push")
	first.Succeeded(t)
	first.Logged(t, "packing in rock", harness.LogCreated(harness.ImageResource, "1"), "the revision is 1")

	sandbox.ResetRequests()
	again := c.Run(t, "push")
	again.Succeeded(t)
	again.Logged(t, "the revision is 1")
	if strings.Contains(again.Log, "packing in rock") {
		t.Error("the rock was built again")
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
}

// TestWorkflowResources: jobs of a matrix upload an image and a file.
func TestWorkflowResources(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	rules := harness.UniqueContent()
	c := harness.NewCheckout(t, sandbox, "resources.yml", map[string]string{
		"images/my.rock":  harness.ReadFile(t, harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))),
		"files/rules.txt": rules,
	})
	for range 2 {
		r := c.Run(t, "push")
		r.Succeeded(t)
		r.Logged(t, "charmcraft release my-charm --resource="+harness.ImageResource+":1",
			"charmcraft release my-charm --resource="+harness.FileResource+":1")
	}
	if n := harness.CountRevisions(sandbox); n != 2 ||
		sandbox.Revisions(harness.Charm, harness.FileResource)[0].SHA256 != harness.SHA256Of(rules) {
		t.Errorf("%d revisions, want one of each resource, with its content", n)
	}
}

// TestWorkflowFile: the file of an earlier step is found through
// github.workspace.
func TestWorkflowFile(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	rules := harness.UniqueContent()
	c := harness.NewCheckout(t, sandbox, "file.yml", map[string]string{"rules.txt": rules})
	for _, created := range []string{"true", "false"} {
		r := c.Run(t, "push")
		r.Succeeded(t)
		r.Logged(t, "revision 1, new "+created)
	}
	if made := sandbox.Revisions(harness.Charm, harness.FileResource); len(made) != 1 ||
		made[0].SHA256 != harness.SHA256Of(strings.ToUpper(rules)) {
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
	s := harness.NewUpstreamCharm(t, 2)
	packed := "name: my-charm\nresources:\n  image-1: {type: oci-image}\n  image-2: {type: oci-image}\n"
	c := harness.NewCheckout(t, s.Sandbox, "charm.yml", map[string]string{
		"charmcraft.yaml": harness.ReadFile(t, s.Metadata), "my-charm.charm": charmtest.File(t, packed, harness.Noble),
	})
	token := releaseToken(s.Sandbox)
	for range 2 {
		s.Sandbox.ResetRequests()
		c.Run(t, "push", token...).Succeeded(t)
		harness.HasReleases(t, s.Sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 2,
			Resources: harness.ResourceRevisions{"image-1": 1, "image-2": 1}})
	}
	if uploads, releases := harness.CountSent(s.Sandbox); uploads != 0 || releases != 0 {
		t.Errorf("the second time %d uploads and %d releases, want none", uploads, releases)
	}
}

// TestWorkflowFailure: a file that the action can't see is explained, in an
// annotation and no output.
func TestWorkflowFailure(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	c := harness.NewCheckout(t, sandbox, "runner-temp.yml", nil)
	r := c.Run(t, "push")
	if !r.Failed {
		t.Errorf("the workflow succeeded:\n%s", r.Log)
	}
	r.Logged(t, "::error title=upload-resource::", "/model.bin: ",
		"a container action sees the workspace, but neither runner.temp",
		"put the file below github.workspace", "outcome failure, revision ''")
	if n := strings.Count(r.Log, "::error"); n != 1 {
		t.Errorf("%d annotations, want 1:\n%s", n, r.Log)
	}
}

// TestWorkflowsAreSound: nor has what nobody should copy a mistake that
// actionlint knows.
func TestWorkflowsAreSound(t *testing.T) {
	t.Parallel()
	harness.Need(t, "actionlint")
	files, err := filepath.Glob("testdata/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	harness.Tool(t, "actionlint", append([]string{"-shellcheck=", "-pyflakes="}, files...)...)
}

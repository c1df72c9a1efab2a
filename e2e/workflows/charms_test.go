package workflows

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// TestWorkflowNewCharm: one job brings a charm of which nothing is on Charmhub but the name to a channel, with two
// images and a file. The second time it changes nothing.
func TestWorkflowNewCharm(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{})
	host := harness.StartRegistry(t)
	metadata := "name: my-charm\nresources:\n  my-file: {type: file}\n"
	for n := range 2 {
		source := fmt.Sprintf("%s/image-%d", host, n+1)
		metadata += fmt.Sprintf("  image-%d: {type: oci-image, upstream-source: \"%s@%s\"}\n", n+1, source,
			harness.Push(t, source, harness.PlatformImage(t, "linux/amd64")))
	}
	c := harness.NewCheckout(t, sandbox, "new-charm.yml", map[string]string{
		"charmcraft.yaml": metadata, "my-charm.charm": charmtest.File(t, metadata, harness.Noble),
		"rules.txt": harness.UniqueContent(),
	})
	token := releaseToken(sandbox)
	for _, released := range []string{"true", "false"} {
		sandbox.ResetRequests()
		r := c.Run(t, "push", token...)
		r.Succeeded(t)
		r.Logged(t, "charm revisions 1, released "+released)
		harness.HasReleases(t, sandbox, server.Release{
			Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{"image-1": 1, "image-2": 1, harness.FileResource: 1},
		})
	}
	if uploads, releases := harness.CountSent(sandbox); uploads != 0 || releases != 0 {
		t.Errorf("the second time %d uploads and %d releases, want none", uploads, releases)
	}
}

// TestWorkflowToken: an issue is opened for a token that ends soon, and none for one that doesn't.
func TestWorkflowToken(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	c := harness.NewCheckout(t, sandbox, "token.yml", nil)
	quiet := c.Run(t, "workflow_dispatch", "--secret", "CHARMHUB_RELEASE_TOKEN="+
		sandbox.Mint(server.Grant{Life: 100 * 24 * time.Hour}),
		"--secret", "CHARMHUB_TOKEN="+sandbox.Mint(server.Grant{Life: 100 * 24 * time.Hour}))
	quiet.Succeeded(t)
	if strings.Contains(quiet.Log, "gh issue") {
		t.Errorf("an issue without a reason:\n%s", quiet.Log)
	}
	soon := c.Run(t, "workflow_dispatch", releaseToken(sandbox)...)
	soon.Succeeded(t)
	soon.Logged(t, "gh issue create --title Charmhub tokens of my-charm --body ", "release-token: it expires within a day")
	harness.ReadsOnly(t, sandbox)
}

// TestWorkflowOneStep: one job brings a charm for two architectures from its name to a channel, with a rock for each, a
// file, and an image that is copied. The second time it changes nothing.
func TestWorkflowOneStep(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
	p := harness.NewPackedCharm(t)
	c := harness.NewCheckout(t, sandbox, "one-step.yml", map[string]string{
		"amd64.charm": harness.ReadFile(t, p.Charms[0]), "arm64.charm": harness.ReadFile(t, p.Charms[1]),
		"rules.txt":  harness.UniqueContent(),
		"amd64.rock": harness.ReadFile(t, p.Rocks[0]), "arm64.rock": harness.ReadFile(t, p.Rocks[1]),
	})
	for _, released := range []string{"true", "false"} {
		sandbox.ResetRequests()
		r := c.Run(t, "push")
		r.Succeeded(t)
		r.Logged(t, ", released "+released)
		harness.HasReleases(t, sandbox, p.Releases(sandbox,
			harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1, "proxy": 1})...)
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("the second run changed something: %v", sent)
	}
}

// TestWorkflowGitHubRelease: a charm revision gets its release and tag on GitHub once.
func TestWorkflowGitHubRelease(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
	metadata := "name: my-charm\nresources: {my-file: {type: file}}\n"
	files := map[string]string{"my-charm.charm": charmtest.File(t, metadata, harness.Noble),
		"rules.txt": harness.UniqueContent()}
	first := harness.NewCheckout(t, sandbox, "github-release.yml", files).Run(t, "push")
	first.Succeeded(t)
	first.Logged(t, "gh release create rev1 --title Revision 1 --notes Charm <code>my-charm</code>, with what was there "+
		"before in brackets:",
		"| <code>latest/edge</code>, new | ubuntu 24&#46;04 &#40;amd64&#41; | **1** | **my-file&#58;1** |")
	files["released-rev1"] = "" // the stand-in's memory
	again := harness.NewCheckout(t, sandbox, "github-release.yml", files).Run(t, "push")
	again.Succeeded(t)
	if strings.Contains(again.Log, "gh release create rev1") {
		t.Errorf("a second release of a revision:\n%s", again.Log)
	}
}

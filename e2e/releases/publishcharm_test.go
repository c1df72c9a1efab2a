package releases

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestPublishCharm: one step and one token lead from a registered name to a channel. The second time nothing is sent,
// and a step asks for little more than its resources' own look-ups do. What changed is all that is sent the third time.
func TestPublishCharm(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) { //nolint:thelper // the body of a subtest
		options.Charms = []server.Charm{{Name: harness.Charm}}
		sandbox := harness.StartSandbox(t, options)
		p := harness.NewPackedCharm(t)
		token := sandbox.Mint(server.Grant{Charms: []string{harness.Charm}, Permissions: []string{
			"package-manage-revisions", "package-view-revisions", "package-manage-releases", "package-view-releases",
		}})
		inputs := slices.Concat(p.Inputs, []string{"store-token=" + token})

		planned := harness.Publish(t, sandbox, append(inputs, "dry-run=true")...)
		planned.Succeeded(t)
		planned.Logged(t, "Dry run: would upload resource 'my-image', which Charmhub learns of from a charm file",
			"latest/edge for ubuntu 24.04 (arm64): charm revision to be created with my-file to be uploaded, my-image to be "+
				"uploaded, proxy to be uploaded, to be released")
		if sent := harness.Changes(sandbox); len(sent) > 0 {
			t.Fatalf("the dry run changed something: %v", sent)
		}

		first := harness.Publish(t, sandbox, inputs...)
		first.Succeeded(t)
		first.HasOutputs(t, map[string]string{"released": "true"})
		one := harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1, "proxy": 1}
		harness.HasReleases(t, sandbox, p.Releases(sandbox, one)...)
		if made := sandbox.Revisions(harness.Charm, harness.ImageResource); len(made) != 1 ||
			!cmp.Equal(made[0].Architectures(), []string{"amd64", "arm64"}) {
			t.Errorf("revisions of the image: %+v", made)
		}
		for _, text := range []string{"juju refresh my-charm --channel=latest/edge", "kubectl get pods", "**my-image&#58;1**",
			"<code>my-file</code>"} {
			if !strings.Contains(first.Summary, text) {
				t.Errorf("the summary lacks %q:\n%s", text, first.Summary)
			}
		}
		for _, text := range []string{"**my-image&#58;1**", "| <code>my-image</code> | 1 | <code>sha256&#58;",
			"| <code>my-file</code> | 1 | <code>sha256&#58;" + harness.SHA256Of(harness.ReadFile(t, p.File))} {
			if !strings.Contains(first.Outputs["notes"], text) {
				t.Errorf("the notes lack %q:\n%s", text, first.Outputs["notes"])
			}
		}
		var resources []struct{ Name string }
		if err := json.Unmarshal([]byte(first.Outputs["resources"]), &resources); err != nil || len(resources) != 3 {
			t.Errorf("resources %s: %v", first.Outputs["resources"], err)
		}

		planned = harness.Publish(t, sandbox, append(inputs, "dry-run=true")...)
		planned.Succeeded(t)
		if releases := planned.Outputs["releases"]; strings.Contains(releases, `"changed":true`) ||
			!strings.Contains(releases, `"my-image":1`) {
			t.Errorf("a dry run where all is unchanged plans %s", releases)
		}

		reads := 0
		for _, inputs := range [][]string{
			{"resource=" + harness.ImageResource, "image=" + p.Rocks[0] + "\n" + p.Rocks[1]},
			{"resource=" + harness.FileResource, "filepath=" + p.File},
			{"resource=proxy", "image=" + p.Upstream + "@" + digestOfUpstream(p.Metadata)},
		} {
			sandbox.ResetRequests()
			r := harness.Upload(t, sandbox, inputs...)
			r.Succeeded(t)
			r.HasOutputs(t, map[string]string{"revision-created": "false"})
			reads += len(sandbox.Requests())
		}
		sandbox.ResetRequests()
		again := harness.Publish(t, sandbox, inputs...)
		again.Succeeded(t)
		again.HasOutputs(t, map[string]string{"released": "false", "charm-revisions": first.Outputs["charm-revisions"]})
		if sent := harness.Changes(sandbox); len(sent) > 0 {
			t.Errorf("the second run changed something: %v", sent)
		}
		if n := len(sandbox.Requests()); n > reads+12 {
			t.Errorf("%d requests, want at most 12 more than the %d of the look-ups of the resources", n, reads)
		}
		if strings.Contains(again.Summary, "kubectl") || strings.Contains(again.Summary, "juju refresh") {
			t.Errorf("nothing was released, and the summary says what to do in the cluster:\n%s", again.Summary)
		}

		harness.WriteFile(t, p.File, harness.UniqueContent())
		third := harness.Publish(t, sandbox, inputs...)
		third.Succeeded(t)
		third.HasOutputs(t, map[string]string{"released": "true"})
		harness.HasReleases(t, sandbox, p.Releases(sandbox,
			harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 2, "proxy": 1})...)
		third.Logged(t, fmt.Sprintf("latest/edge for ubuntu 24.04 (amd64): charm revision %d with my-file:2 (was 1), "+
			"my-image:1, proxy:1, released", p.Releases(sandbox, nil)[0].Revision))
	})
}

// digestOfUpstream returns the digest in the upstream-source of a charm's metadata.
func digestOfUpstream(metadata string) string {
	_, digest, _ := strings.Cut(metadata, "@")
	digest, _, _ = strings.Cut(digest, `"`)
	return digest
}

// TestPublishCharmWithTwoTokens: each has no more permissions than its part takes.
func TestPublishCharmWithTwoTokens(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
	p := harness.NewPackedCharm(t)
	tokens := []string{
		"store-token=" +
			sandbox.Mint(server.Grant{Permissions: []string{"package-manage-revisions", "package-view-revisions"}}),
		"release-token=" + sandbox.Mint(server.Grant{Permissions: []string{"package-manage-releases",
			"package-view-releases"}, Channels: []string{"latest/edge"}}),
	}
	r := harness.Publish(t, sandbox, append(p.Inputs, tokens...)...)
	r.Succeeded(t)
	harness.HasReleases(t, sandbox, p.Releases(sandbox,
		harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1, "proxy": 1})...)
	other := harness.Publish(t, sandbox, append(append(p.Inputs, tokens...), "channel=latest/beta")...)
	other.Reported(t, "Macaroon is not valid for channel latest/beta (request ")
}

// TestPublishKeptResources: what there is already, as the lines say. Nothing but the charm file is uploaded.
func TestPublishKeptResources(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
	file := "charms=" + harness.WriteCharmFile(t, harness.CharmMetadata+"summary: new\n", harness.Noble)
	lost := harness.Publish(t, sandbox, file, "channel=latest/beta", "resources=my-image = keep")
	lost.ReleaseFailed(t, "this charm revision needs resource 'my-image', of which no revision is there")
	unknown := harness.Publish(t, sandbox, file, "channel=latest/edge", "resources=my-image = revision 30")
	unknown.ReleaseFailed(t, "release revision 30 of resource 'my-image': there is no such revision, the newest is 2")
	track := harness.Publish(t, sandbox, file, "channel=3/edge", "resources=my-image = revision 2")
	track.ReleaseFailed(t, "release to 3/edge: the charm has no track 3")
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("something was sent before that was known: %v", sent)
	}
	r := harness.Publish(t, sandbox, file, "channel=latest/edge", "resources=my-image = revision 2\nmy-file = keep")
	r.Succeeded(t)
	harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 2,
		Resources: harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1}})
	if uploads, releases := harness.CountSent(sandbox); uploads != 1 || releases != 1 {
		t.Errorf("%d uploads and %d releases, want 1 each", uploads, releases)
	}
}

// TestPublishByKey: an image that was recorded under a key isn't built again. One that wasn't is a failure, not a
// look-up.
func TestPublishByKey(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	inputs := []string{"charms=" + harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble), "channel=latest/edge"}
	unknown := harness.Publish(t, sandbox, append(inputs, "resources=my-image = key=abc\nmy-file = revision 1")...)
	unknown.Reported(t, "resource 'my-image': no image is recorded under the key; build it, and give it as the source "+
		"before the key")
	harness.HasReleases(t, sandbox)
	built := harness.Publish(t, sandbox, append(inputs, "resources=my-image = "+
		harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))+" key=abc\nmy-file = revision 1")...)
	built.Succeeded(t)
	sandbox.ResetRequests()
	skipped := harness.Publish(t, sandbox, append(inputs, "resources=my-image =  key=abc\nmy-file = revision 1")...)
	skipped.Succeeded(t)
	skipped.HasOutputs(t, map[string]string{"released": "false"})
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("the second run changed something: %v", sent)
	}
}

// TestPublishOtherCharms: resources that an extension adds are only in the packed file; old tools wrote metadata
// without the fields of today; one file may be for several bases.
func TestPublishOtherCharms(t *testing.T) {
	t.Parallel()
	extended := "name: my-charm\nsummary: a 12-factor app\ndescription: x\nassumes: [k8s-api]\ncontainers: {app: " +
		"{resource: flask-app-image}}\n" +
		"resources:\n  flask-app-image: {type: oci-image, description: flask application image.}\n"
	old := "name: my-charm\nsummary: old\ndescription: old\nseries: [focal]\nresources:\n  flask-app-image:\n    type: " +
		"oci-image\n    description: x\n    auto-fetch: true\n"
	for name, test := range map[string]struct {
		metadata string
		files    [][]server.ReleaseBase
	}{
		"an extension's": {extended, [][]server.ReleaseBase{{harness.Noble}}},
		"of old metadata, two bases by two architectures": {old,
			[][]server.ReleaseBase{{harness.Jammy, harness.Ubuntu("22.04", "arm64"), harness.Noble, harness.NobleArm}}},
		"two bases by two architectures": {extended,
			[][]server.ReleaseBase{{harness.Jammy}, {harness.Ubuntu("22.04", "arm64")}, {harness.Noble}, {harness.NobleArm}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
			var paths []string
			bases := 0
			for _, of := range test.files {
				paths = append(paths, harness.WriteCharmFile(t, test.metadata, of...))
				bases += len(of)
			}
			charms := "charms=" + strings.Join(paths, "\n")
			missing := harness.Publish(t, sandbox, charms, "channel=latest/edge")
			missing.ReleaseFailed(t, "input resources: nothing is given for flask-app-image, which the charm needs; add these "+
				"lines, ", ":\nflask-app-image = IMAGE")
			r := harness.Publish(t, sandbox, charms, "channel=latest/edge",
				"resources=flask-app-image = "+harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64")))
			r.Succeeded(t)
			on := sandbox.Releases(harness.Charm)
			for _, entry := range on {
				if !cmp.Equal(entry.Resources, harness.ResourceRevisions{"flask-app-image": 1}) {
					t.Errorf("released %+v", entry)
				}
			}
			if len(on) != bases || len(sandbox.CharmRevisions(harness.Charm)) != len(test.files) {
				t.Errorf("%d entries and %d charm revisions, want %d and %d", len(on), len(sandbox.CharmRevisions(harness.Charm)),
					bases, len(test.files))
			}
		})
	}
}

// TestPublishMistakes: nothing is asked of anybody before all inputs are right.
func TestPublishMistakes(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
	text := filepath.Join(t.TempDir(), "rules.txt")
	harness.WriteFile(t, text, "rules")
	r := harness.Publish(t, sandbox, "charms="+harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble), "channel=",
		"resources=my-image = "+text+"\nmy-fil = "+text, "dry-run=perhaps")
	r.ReleaseFailed(t, "input channel: missing", "input resources: my-image: "+text+
		": the archive is damaged, cut short or no image at all",
		"input resources: my-fil: the charm files declare no such resource, but my-file, my-image", "input dry-run: ")
	r = harness.Publish(t, sandbox, "charms="+harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble),
		"channel=latest/edge", "resources=my-image =  "+harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))+
			"\nmy-file = "+text)
	r.ReleaseFailed(t, "input resources: my-image: two blanks or one at the end of ")
	if n := len(sandbox.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	r = harness.Publish(t, sandbox, "charms="+harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble),
		"channel=latest/edge", "resources=my-image = keep\nmy-file = keep")
	r.ReleaseFailed(t, "; in the input resources, write my-image = IMAGE, or my-image = revision NUMBER")
}

// TestPublishPartly: what failed stops the release, not the other uploads. A rerun takes up what is there.
func TestPublishPartly(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(server.Request) bool{
		"a charm file": func(r server.Request) bool {
			return r.Method == http.MethodPost && r.Path == "/v1/charm/my-charm/revisions"
		},
		"the other file": func(r server.Request) bool {
			return r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/my-file/revisions")
		},
		"an image's upload": func(r server.Request) bool {
			return strings.HasSuffix(r.Path, "/my-image/oci-image/upload-credentials")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
			p := harness.NewPackedCharm(t)
			var refused atomic.Int64
			sandbox.Fault(func(r server.Request) *server.Fault {
				if !fails(r) || refused.Add(1) > 1 {
					return nil
				}
				return &server.Fault{Status: http.StatusBadRequest,
					Body: `{"error-list":[{"code":"api-error","message":"Not today"}]}`}
			})
			r := harness.Publish(t, sandbox, p.Inputs...)
			r.Reported(t, "Not today")
			r.HasOutputs(t, map[string]string{"released": "false"})
			harness.HasReleases(t, sandbox)
			if name == "a charm file" {
				if n := len(sandbox.CharmRevisions(harness.Charm)); n != 1 ||
					len(sandbox.Revisions(harness.Charm, harness.ImageResource)) != 1 {
					t.Errorf("%d charm revisions, want 1, and the resources", n)
				}
			}
			sandbox.Fault(nil)
			harness.Publish(t, sandbox, p.Inputs...).Succeeded(t)
			harness.HasReleases(t, sandbox, p.Releases(sandbox,
				harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1, "proxy": 1})...)
		})
	}
}

// TestPublishSchedules: stopped or failing at any request, nothing is half released, and a rerun ends right.
func TestPublishSchedules(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) { //nolint:thelper // the body of a subtest
		usual := int64(250)
		if options.Registry != "" {
			usual = 50 // what differs is the registry alone
		}
		p := harness.NewPackedCharm(t)
		options.Charms = []server.Charm{{Name: harness.Charm}}
		var failed atomic.Int64
		harness.EachSchedule(t, usual, func(t *testing.T, seed, n uint64) { //nolint:thelper // the body of a subtest
			random := rand.New(rand.NewPCG(seed, n))
			faults, stopAt := map[int64]*server.Fault{}, int64(0)
			if random.IntN(3) == 0 {
				stopAt = 1 + random.Int64N(60)
			} else {
				for range 1 + random.IntN(4) {
					faults[1+random.Int64N(60)] = harness.RandomFault(random)
				}
			}
			sandbox := harness.StartSandbox(t, options)
			ctx, stop := context.WithTimeout(t.Context(), harness.ScheduleTime)
			defer stop()
			var requests atomic.Int64
			sandbox.Fault(func(server.Request) *server.Fault {
				number := requests.Add(1)
				if number == stopAt {
					stop()
				}
				return faults[number]
			})
			r := harness.PublishContext(ctx, t, sandbox, p.Inputs...)
			sandbox.Fault(nil)
			if on := sandbox.Releases(harness.Charm); len(on) != 0 && len(on) != 2 || r.Exit == 0 && len(on) == 0 {
				t.Errorf("exit %d, and %d entries of the channel map: %+v", r.Exit, len(on), on)
			}
			if r.Exit != 0 {
				failed.Add(1)
				r = harness.Publish(t, sandbox, p.Inputs...)
			}
			want := p.Releases(sandbox, harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1, "proxy": 1})
			if r.Exit != 0 || len(sandbox.CharmRevisions(harness.Charm)) != 2 ||
				!cmp.Equal(want, sandbox.Releases(harness.Charm)) {
				t.Errorf("exit %d the second time, %d charm revisions, %+v:\n%s", r.Exit,
					len(sandbox.CharmRevisions(harness.Charm)), sandbox.Releases(harness.Charm), harness.WithoutMasks(r.Log))
			}
		})
		t.Logf("%d runs ended in an error", failed.Load())
	})
}

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// publishCharm runs the program as the action publish does.
func publishCharm(t *testing.T, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	return publishCharmContext(t.Context(), t, sandbox, inputs...)
}

func publishCharmContext(ctx context.Context, t *testing.T, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	command := exec.CommandContext(ctx, program, "publish")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return execute(t, command, sandbox, append([]string{"charm="}, inputs...)...)
}

var nobleArm = ubuntu("24.04", "arm64")

// packedCharm is a charm that was packed for two architectures, with a rock for each, a file, and an image that is
// copied from another registry. Charmhub has its name, and nothing else.
type packedCharm struct {
	metadata, upstream string
	charms             [2]string // paths
	rocks              [2]string
	file               string
	inputs             []string
}

func newPackedCharm(t *testing.T) (p packedCharm) {
	t.Helper()
	p.upstream = anonymousRegistry(t) + "/proxy"
	p.metadata = "name: my-charm\nresources:\n  my-image: {type: oci-image}\n  my-file: {type: file}\n" +
		"  proxy: {type: oci-image, upstream-source: \"" + p.upstream + "@" + push(t, p.upstream, platformImage(t, "linux/amd64")) + "\"}\n"
	p.charms = [2]string{writeCharm(t, p.metadata, noble), writeCharm(t, p.metadata, nobleArm)}
	p.rocks = [2]string{writeRock(t, platformImage(t, "linux/amd64")), writeRock(t, platformImage(t, "linux/arm64"))}
	p.file = filepath.Join(t.TempDir(), "rules.txt")
	writeFile(t, p.file, uniqueFile())
	p.inputs = []string{
		"charms=" + p.charms[0] + " " + p.charms[1], "channel=latest/edge",
		"resources=my-image = " + p.rocks[0] + " " + p.rocks[1] + "\nmy-file = " + p.file,
	}
	return p
}

// on is what the channel has of the charm, whose files get numbers in any order.
func (p packedCharm) on(sandbox *server.Server, resources with) []server.Release {
	bases := map[server.ReleaseBase]int{}
	for _, r := range sandbox.CharmRevisions(charm) {
		for _, base := range r.Bases {
			bases[base] = r.Number
		}
	}
	return []server.Release{
		{Channel: "latest/edge", Base: noble, Revision: bases[noble], Resources: resources},
		{Channel: "latest/edge", Base: nobleArm, Revision: bases[nobleArm], Resources: resources},
	}
}

// TestPublishCharm: one step and one token lead from a registered name to a channel. The second time nothing is sent, and a
// step asks for little more than its resources' own look-ups do. What changed is all that is sent the third time.
func TestPublishCharm(t *testing.T) {
	t.Parallel()
	eachRegistry(t, func(t *testing.T, options server.Options) { //nolint:thelper // the body of a subtest
		options.Charms = []server.Charm{{Name: charm}}
		sandbox := startSandbox(t, options)
		p := newPackedCharm(t)
		token := sandbox.Mint(server.Grant{Charms: []string{charm}, Permissions: []string{
			"package-manage-revisions", "package-view-revisions", "package-manage-releases", "package-view-releases",
		}})
		inputs := slices.Concat(p.inputs, []string{"store-token=" + token})

		planned := publishCharm(t, sandbox, append(inputs, "dry-run=true")...)
		planned.succeeded(t)
		planned.logged(t, "Dry run: would upload resource 'my-image', which Charmhub learns of from a charm file",
			"latest/edge for ubuntu 24.04 (arm64): charm revision to be created with my-file to be uploaded, my-image to be uploaded, proxy to be uploaded, to be released")
		if sent := changes(sandbox); len(sent) > 0 {
			t.Fatalf("the dry run changed something: %v", sent)
		}

		first := publishCharm(t, sandbox, inputs...)
		first.succeeded(t)
		first.has(t, map[string]string{"released": "true"})
		one := with{imageResource: 1, fileResource: 1, "proxy": 1}
		isReleased(t, sandbox, p.on(sandbox, one)...)
		if made := sandbox.Revisions(charm, imageResource); len(made) != 1 || !cmp.Equal(made[0].Architectures(), []string{"amd64", "arm64"}) {
			t.Errorf("revisions of the image: %+v", made)
		}
		for _, text := range []string{"juju refresh my-charm --channel=latest/edge", "kubectl get pods", "**my-image&#58;1**", "<code>my-file</code>"} {
			if !strings.Contains(first.summary, text) {
				t.Errorf("the summary lacks %q:\n%s", text, first.summary)
			}
		}
		for _, text := range []string{"**my-image&#58;1**", "| <code>my-image</code> | 1 | <code>sha256&#58;", "| <code>my-file</code> | 1 | <code>sha256&#58;" + sumOf(readFile(t, p.file))} {
			if !strings.Contains(first.outputs["notes"], text) {
				t.Errorf("the notes lack %q:\n%s", text, first.outputs["notes"])
			}
		}
		var resources []struct{ Name string }
		if err := json.Unmarshal([]byte(first.outputs["resources"]), &resources); err != nil || len(resources) != 3 {
			t.Errorf("resources %s: %v", first.outputs["resources"], err)
		}

		reads := 0
		for _, inputs := range [][]string{
			{"resource=" + imageResource, "image=" + p.rocks[0] + "\n" + p.rocks[1]}, {"resource=" + fileResource, "filepath=" + p.file},
			{"resource=proxy", "image=" + p.upstream + "@" + digestOfUpstream(p.metadata)},
		} {
			sandbox.ResetRequests()
			r := action(t, sandbox, inputs...)
			r.succeeded(t)
			r.has(t, map[string]string{"revision-created": "false"})
			reads += len(sandbox.Requests())
		}
		sandbox.ResetRequests()
		again := publishCharm(t, sandbox, inputs...)
		again.succeeded(t)
		again.has(t, map[string]string{"released": "false", "charm-revisions": first.outputs["charm-revisions"]})
		if sent := changes(sandbox); len(sent) > 0 {
			t.Errorf("the second run changed something: %v", sent)
		}
		if n := len(sandbox.Requests()); n > reads+12 {
			t.Errorf("%d requests, want at most 12 more than the %d of the look-ups of the resources", n, reads)
		}
		if strings.Contains(again.summary, "kubectl") || strings.Contains(again.summary, "juju refresh") {
			t.Errorf("nothing was released, and the summary says what to do in the cluster:\n%s", again.summary)
		}

		writeFile(t, p.file, uniqueFile())
		third := publishCharm(t, sandbox, inputs...)
		third.succeeded(t)
		third.has(t, map[string]string{"released": "true"})
		isReleased(t, sandbox, p.on(sandbox, with{imageResource: 1, fileResource: 2, "proxy": 1})...)
		third.logged(t, fmt.Sprintf("latest/edge for ubuntu 24.04 (amd64): charm revision %d with my-file:2 (was 1), my-image:1, proxy:1, released", p.on(sandbox, nil)[0].Revision))
	})
}

func digestOfUpstream(metadata string) string {
	_, digest, _ := strings.Cut(metadata, "@")
	digest, _, _ = strings.Cut(digest, `"`)
	return digest
}

// TestPublishCharmWithTwoTokens: each has no more permissions than its part takes.
func TestPublishCharmWithTwoTokens(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: charm}}})
	p := newPackedCharm(t)
	tokens := []string{
		"store-token=" + sandbox.Mint(server.Grant{Permissions: []string{"package-manage-revisions", "package-view-revisions"}}),
		"release-token=" + sandbox.Mint(server.Grant{Permissions: []string{"package-manage-releases", "package-view-releases"}, Channels: []string{"latest/edge"}}),
	}
	r := publishCharm(t, sandbox, append(p.inputs, tokens...)...)
	r.succeeded(t)
	isReleased(t, sandbox, p.on(sandbox, with{imageResource: 1, fileResource: 1, "proxy": 1})...)
	other := publishCharm(t, sandbox, append(append(p.inputs, tokens...), "channel=latest/beta")...)
	other.reported(t, "Macaroon is not valid for channel latest/beta (request ")
}

// TestPublishKeptResources: what there is already, as the lines say. Nothing but the charm file is uploaded.
func TestPublishKeptResources(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble})
	sandbox.PutRelease(charm, server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 1, fileResource: 1}})
	file := "charms=" + writeCharm(t, charmMetadata+"summary: new\n", noble)
	lost := publishCharm(t, sandbox, file, "channel=latest/beta", "resources=my-image = keep")
	lost.releaseFailed(t, "this charm revision needs resource 'my-image', of which no revision is there")
	unknown := publishCharm(t, sandbox, file, "channel=latest/edge", "resources=my-image = revision 30")
	unknown.releaseFailed(t, "release revision 30 of resource 'my-image': there is no such revision, the newest is 2")
	track := publishCharm(t, sandbox, file, "channel=3/edge", "resources=my-image = revision 2")
	track.releaseFailed(t, "release to 3/edge: the charm has no track 3")
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("something was sent before that was known: %v", sent)
	}
	r := publishCharm(t, sandbox, file, "channel=latest/edge", "resources=my-image = revision 2\nmy-file = keep")
	r.succeeded(t)
	isReleased(t, sandbox, server.Release{Channel: "latest/edge", Base: noble, Revision: 2, Resources: with{imageResource: 2, fileResource: 1}})
	if uploads, releases := sent(sandbox); uploads != 1 || releases != 1 {
		t.Errorf("%d uploads and %d releases, want 1 each", uploads, releases)
	}
}

// TestPublishByKey: an image that was recorded under a key isn't built again. One that wasn't is a failure, not a look-up.
func TestPublishByKey(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble})
	inputs := []string{"charms=" + writeCharm(t, charmMetadata, noble), "channel=latest/edge"}
	unknown := publishCharm(t, sandbox, append(inputs, "resources=my-image = key=abc\nmy-file = revision 1")...)
	unknown.reported(t, "resource 'my-image': no image is recorded under the key; build it, and give it as the source before the key")
	isReleased(t, sandbox)
	built := publishCharm(t, sandbox, append(inputs, "resources=my-image = "+writeRock(t, platformImage(t, "linux/amd64"))+" key=abc\nmy-file = revision 1")...)
	built.succeeded(t)
	sandbox.ResetRequests()
	skipped := publishCharm(t, sandbox, append(inputs, "resources=my-image =  key=abc\nmy-file = revision 1")...)
	skipped.succeeded(t)
	skipped.has(t, map[string]string{"released": "false"})
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the second run changed something: %v", sent)
	}
}

// TestPublishOtherCharms: resources that an extension adds are only in the packed file; old tools wrote metadata without
// the fields of today; one file may be for several bases.
func TestPublishOtherCharms(t *testing.T) {
	t.Parallel()
	extended := "name: my-charm\nsummary: a 12-factor app\ndescription: x\nassumes: [k8s-api]\ncontainers: {app: {resource: flask-app-image}}\n" +
		"resources:\n  flask-app-image: {type: oci-image, description: flask application image.}\n"
	old := "name: my-charm\nsummary: old\ndescription: old\nseries: [focal]\nresources:\n  flask-app-image:\n    type: oci-image\n    description: x\n    auto-fetch: true\n"
	for name, test := range map[string]struct {
		metadata string
		files    [][]server.ReleaseBase
	}{
		"an extension's": {extended, [][]server.ReleaseBase{{noble}}},
		"of old metadata, two bases by two architectures": {old, [][]server.ReleaseBase{{jammy, ubuntu("22.04", "arm64"), noble, nobleArm}}},
		"two bases by two architectures":                  {extended, [][]server.ReleaseBase{{jammy}, {ubuntu("22.04", "arm64")}, {noble}, {nobleArm}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: charm}}})
			var paths []string
			bases := 0
			for _, of := range test.files {
				paths = append(paths, writeCharm(t, test.metadata, of...))
				bases += len(of)
			}
			charms := "charms=" + strings.Join(paths, "\n")
			missing := publishCharm(t, sandbox, charms, "channel=latest/edge")
			missing.releaseFailed(t, "input resources: nothing is given for flask-app-image, which the charm needs; add these lines, ", ":\nflask-app-image = IMAGE")
			r := publishCharm(t, sandbox, charms, "channel=latest/edge", "resources=flask-app-image = "+writeRock(t, platformImage(t, "linux/amd64")))
			r.succeeded(t)
			on := sandbox.Releases(charm)
			for _, entry := range on {
				if !cmp.Equal(entry.Resources, with{"flask-app-image": 1}) {
					t.Errorf("released %+v", entry)
				}
			}
			if len(on) != bases || len(sandbox.CharmRevisions(charm)) != len(test.files) {
				t.Errorf("%d entries and %d charm revisions, want %d and %d", len(on), len(sandbox.CharmRevisions(charm)), bases, len(test.files))
			}
		})
	}
}

// TestPublishMistakes: nothing is asked of anybody before all inputs are right.
func TestPublishMistakes(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: charm}}})
	text := filepath.Join(t.TempDir(), "rules.txt")
	writeFile(t, text, "rules")
	r := publishCharm(t, sandbox, "charms="+writeCharm(t, charmMetadata, noble), "channel=", "resources=my-image = "+text+"\nmy-fil = "+text, "dry-run=perhaps")
	r.releaseFailed(t, "input channel: missing", "input resources: my-image: "+text+": the archive is damaged, cut short or no image at all",
		"input resources: my-fil: the charm files declare no such resource, but my-file, my-image", "input dry-run: ")
	if n := len(sandbox.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
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
			sandbox := startSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: charm}}})
			p := newPackedCharm(t)
			var refused atomic.Int64
			sandbox.Fault(func(r server.Request) *server.Fault {
				if !fails(r) || refused.Add(1) > 1 {
					return nil
				}
				return &server.Fault{Status: http.StatusBadRequest, Body: `{"error-list":[{"code":"api-error","message":"Not today"}]}`}
			})
			r := publishCharm(t, sandbox, p.inputs...)
			r.reported(t, "Not today")
			r.has(t, map[string]string{"released": "false"})
			isReleased(t, sandbox)
			if name == "a charm file" {
				if n := len(sandbox.CharmRevisions(charm)); n != 1 || len(sandbox.Revisions(charm, imageResource)) != 1 {
					t.Errorf("%d charm revisions, want 1, and the resources", n)
				}
			}
			sandbox.Fault(nil)
			publishCharm(t, sandbox, p.inputs...).succeeded(t)
			isReleased(t, sandbox, p.on(sandbox, with{imageResource: 1, fileResource: 1, "proxy": 1})...)
		})
	}
}

// TestPublishSchedules: stopped or failing at any request, nothing is half released, and a rerun ends right.
func TestPublishSchedules(t *testing.T) {
	t.Parallel()
	eachRegistry(t, func(t *testing.T, options server.Options) { //nolint:thelper // the body of a subtest
		usual := int64(250)
		if options.Registry != "" {
			usual = 50 // what differs is the registry alone
		}
		p := newPackedCharm(t)
		options.Charms = []server.Charm{{Name: charm}}
		var failed atomic.Int64
		eachSchedule(t, usual, func(t *testing.T, seed, n uint64) { //nolint:thelper // the body of a subtest
			random := rand.New(rand.NewPCG(seed, n))
			faults, stopAt := map[int64]*server.Fault{}, int64(0)
			if random.IntN(3) == 0 {
				stopAt = 1 + random.Int64N(60)
			} else {
				for range 1 + random.IntN(4) {
					faults[1+random.Int64N(60)] = randomFault(random)
				}
			}
			sandbox := startSandbox(t, options)
			ctx, stop := context.WithTimeout(t.Context(), scheduleTime)
			defer stop()
			var requests atomic.Int64
			sandbox.Fault(func(server.Request) *server.Fault {
				number := requests.Add(1)
				if number == stopAt {
					stop()
				}
				return faults[number]
			})
			r := publishCharmContext(ctx, t, sandbox, p.inputs...)
			sandbox.Fault(nil)
			if on := sandbox.Releases(charm); len(on) != 0 && len(on) != 2 || r.exit == 0 && len(on) == 0 {
				t.Errorf("exit %d, and %d entries of the channel map: %+v", r.exit, len(on), on)
			}
			if r.exit != 0 {
				failed.Add(1)
				r = publishCharm(t, sandbox, p.inputs...)
			}
			want := p.on(sandbox, with{imageResource: 1, fileResource: 1, "proxy": 1})
			if r.exit != 0 || len(sandbox.CharmRevisions(charm)) != 2 || !cmp.Equal(want, sandbox.Releases(charm)) {
				t.Errorf("exit %d the second time, %d charm revisions, %+v:\n%s", r.exit, len(sandbox.CharmRevisions(charm)), sandbox.Releases(charm), withoutMasks(r.log))
			}
		})
		t.Logf("%d runs ended in an error", failed.Load())
	})
}

// TestWorkflowOneStep: one job brings a charm for two architectures from its name to a channel, with a rock for each, a file,
// and an image that is copied. The second time it changes nothing.
func TestWorkflowOneStep(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: charm}}})
	p := newPackedCharm(t)
	c := newCheckout(t, sandbox, "one-step.yml", map[string]string{
		"amd64.charm": readFile(t, p.charms[0]), "arm64.charm": readFile(t, p.charms[1]), "rules.txt": uniqueFile(),
		"amd64.rock": readFile(t, p.rocks[0]), "arm64.rock": readFile(t, p.rocks[1]),
	})
	for _, released := range []string{"true", "false"} {
		sandbox.ResetRequests()
		r := c.runs(t, "push")
		r.succeeded(t)
		r.logged(t, ", released "+released)
		isReleased(t, sandbox, p.on(sandbox, with{imageResource: 1, fileResource: 1, "proxy": 1})...)
	}
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the second run changed something: %v", sent)
	}
}

// TestWorkflowGitHubRelease: a charm revision gets its release and tag on GitHub once.
func TestWorkflowGitHubRelease(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: charm}}})
	metadata := "name: my-charm\nresources: {my-file: {type: file}}\n"
	files := map[string]string{"my-charm.charm": charmtest.File(t, metadata, noble), "rules.txt": uniqueFile()}
	first := newCheckout(t, sandbox, "github-release.yml", files).runs(t, "push")
	first.succeeded(t)
	first.logged(t, "gh release create rev1 --title Revision 1 --notes Charm <code>my-charm</code>, with what was there before in brackets:",
		"| <code>latest/edge</code> | ubuntu 24&#46;04 &#40;amd64&#41; | **1** | **my-file&#58;1** |")
	files["released-rev1"] = "" // the stand-in's memory
	again := newCheckout(t, sandbox, "github-release.yml", files).runs(t, "push")
	again.succeeded(t)
	if strings.Contains(again.log, "gh release create rev1") {
		t.Errorf("a second release of a revision:\n%s", again.log)
	}
}

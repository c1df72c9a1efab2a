package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// putOnChannels runs the program as the action release does.
func putOnChannels(t *testing.T, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	return putOnChannelsContext(t.Context(), t, sandbox, inputs...)
}

func putOnChannelsContext(ctx context.Context, t *testing.T, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	command := exec.CommandContext(ctx, program, "release")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return execute(t, command, sandbox, inputs...)
}

// with are the revisions of resources.
type with = map[string]int

func ubuntu(channel, architecture string) server.ReleaseBase {
	return server.ReleaseBase{Name: "ubuntu", Channel: channel, Architecture: architecture}
}

var (
	jammy = ubuntu("22.04", "amd64")
	noble = ubuntu("24.04", "amd64")
)

// sixBases are three bases for two architectures each.
var sixBases = []server.ReleaseBase{
	ubuntu("20.04", "amd64"), ubuntu("20.04", "arm64"), jammy, ubuntu("22.04", "arm64"), noble, ubuntu("24.04", "arm64"),
}

var charmMetadata = charmtest.Metadata(charm)

// writeCharm writes a charm file and returns its path.
func writeCharm(t *testing.T, metadata string, bases ...server.ReleaseBase) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "my-charm.charm")
	writeFile(t, path, charmtest.File(t, metadata, bases...))
	return path
}

// startCharm starts a sandbox whose charm has the tracks latest and 2, and may have those such as 3.0, a revision for
// each of these lists of bases, and two revisions of its image and its file.
func startCharm(t *testing.T, options server.Options, revisions ...[]server.ReleaseBase) *server.Server {
	t.Helper()
	options.InMemory = true
	options.Charms = []server.Charm{{Name: charm, Tracks: []string{"2"}, Guardrails: []string{`[0-9]+\.[0-9]+`}}}
	sandbox := startSandbox(t, options)
	for _, bases := range revisions {
		sandbox.PutCharm(charm, strings.NewReader(charmtest.File(t, charmMetadata, bases...)))
	}
	for n := range 2 * min(1, len(revisions)) {
		sandbox.PutResource(charm, imageResource, strings.NewReader(fmt.Sprint("image ", n)))
		sandbox.PutResource(charm, fileResource, strings.NewReader(fmt.Sprint("file ", n)))
	}
	return sandbox
}

// isReleased fails the test unless this is the channel map, in its order.
func isReleased(t *testing.T, sandbox *server.Server, want ...server.Release) {
	t.Helper()
	if diff := cmp.Diff(want, sandbox.Releases(charm)); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

// sent counts the uploads and the releases that the sandbox was sent.
func sent(sandbox *server.Server) (uploads, releases int) {
	for _, r := range sandbox.Requests() {
		if r.Server == "storage" {
			uploads++
		}
		if r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/releases") {
			releases++
		}
	}
	return uploads, releases
}

// goesWithout is the warning about charm revision 1 on a channel without its optional resource.
func goesWithout(channel string) string {
	return "Optional resource 'my-file': charm revision 1 on " + channel + " goes without it"
}

// warned fails the test unless the run succeeded with these warnings.
func (r result) warned(t *testing.T, warnings ...string) {
	t.Helper()
	if n := strings.Count(r.log, "::warning"); r.exit != 0 || n != len(warnings) {
		t.Errorf("exit %d with %d warnings, want 0 with %d:\n%s", r.exit, n, len(warnings), withoutMasks(r.log))
	}
	for _, warning := range warnings {
		if !strings.Contains(r.log, "::warning::"+warning) {
			t.Errorf("no warning %q:\n%s", warning, withoutMasks(r.log))
		}
	}
}

// TestNewCharm: nothing is on Charmhub but the charm's name. Its files are uploaded,
// then its resources, and then all is released. A second job changes nothing.
func TestNewCharm(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{})
	files := writeCharm(t, charmMetadata, jammy) + " " + writeCharm(t, charmMetadata, noble)
	metadata, file := filepath.Join(t.TempDir(), "charmcraft.yaml"), filepath.Join(t.TempDir(), "file")
	writeFile(t, metadata, charmMetadata)
	writeFile(t, file, "content")
	image := writeArchive(t, 1000, 1)
	job := func(unchanged bool) result {
		t.Helper()
		uploaded := putOnChannels(t, sandbox, "charm=", "metadata="+metadata, "charms="+files, "channel=none")
		uploaded.succeeded(t)
		uploaded.has(t, map[string]string{"released": "false", "releases": "[]"})
		one := action(t, sandbox, "resource="+imageResource, "image="+image)
		one.succeeded(t)
		two := action(t, sandbox, "resource="+fileResource, "filepath="+file)
		two.succeeded(t)
		resources := strings.TrimSuffix(one.outputs["resources"], "]") + "," + strings.TrimPrefix(two.outputs["resources"], "[")
		released := putOnChannels(t, sandbox, "charm=", "metadata="+metadata, "charms="+files, "channel=edge", "resources="+resources)
		released.succeeded(t)
		released.has(t, map[string]string{"charm-revisions": uploaded.outputs["charm-revisions"], "released": strconv.FormatBool(!unchanged)})
		return released
	}
	first := job(false)
	// The files are uploaded at the same time.
	one, two := 1, 2
	if first.outputs["charm-revisions"] == "2 1" {
		one, two = 2, 1
	}
	both := with{imageResource: 1, fileResource: 1}
	want := []server.Release{
		{Channel: "latest/edge", Base: jammy, Revision: one, Resources: both}, {Channel: "latest/edge", Base: noble, Revision: two, Resources: both},
	}
	isReleased(t, sandbox, want...)
	if uploads, releases := sent(sandbox); uploads != 4 || releases != 1 {
		t.Errorf("%d uploads and %d releases, want 4 and 1", uploads, releases)
	}
	entries := fmt.Sprintf(`[{"channel":"latest/edge","base":{"name":"ubuntu","channel":"22.04","architecture":"amd64"},"revision":%d,`+
		`"resources":{"my-file":1,"my-image":1},"before":null,"changed":true,"kept":{"revision":false,"resources":[]}},`+
		`{"channel":"latest/edge","base":{"name":"ubuntu","channel":"24.04","architecture":"amd64"},"revision":%d,`+
		`"resources":{"my-file":1,"my-image":1},"before":null,"changed":true,"kept":{"revision":false,"resources":[]}}]`, one, two)
	first.has(t, map[string]string{"releases": entries})
	row := fmt.Sprintf("| <code>latest/edge</code> | ubuntu 24&#46;04 &#40;amd64&#41; | **%d** | **my-file&#58;1**, **my-image&#58;1** |", two)
	if !strings.Contains(first.summary, row) {
		t.Errorf("summary:\n%s", first.summary)
	}

	sandbox.ResetRequests()
	again := job(true)
	isReleased(t, sandbox, want...)
	if uploads, releases := sent(sandbox); uploads != 0 || releases != 0 {
		t.Errorf("the second time %d uploads and %d releases, want none", uploads, releases)
	}
	again.logged(t, fmt.Sprintf("latest/edge for ubuntu 24.04 (amd64): charm revision %d with my-file:1, my-image:1, unchanged", two))
}

// TestWorkflowNewCharm: one job brings a charm of which nothing is on Charmhub but the
// name to a channel, with two images and a file. The second time it changes nothing.
func TestWorkflowNewCharm(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{})
	host := anonymousRegistry(t)
	metadata := "name: my-charm\nresources:\n  my-file: {type: file}\n"
	for n := range 2 {
		source := fmt.Sprintf("%s/image-%d", host, n+1)
		metadata += fmt.Sprintf("  image-%d: {type: oci-image, upstream-source: \"%s@%s\"}\n", n+1, source, push(t, source, platformImage(t, "linux/amd64")))
	}
	c := newCheckout(t, sandbox, "new-charm.yml", map[string]string{
		"charmcraft.yaml": metadata, "my-charm.charm": charmtest.File(t, metadata, noble), "rules.txt": uniqueFile(),
	})
	token := releaseToken(sandbox)
	for _, released := range []string{"true", "false"} {
		sandbox.ResetRequests()
		r := c.runs(t, "push", token...)
		r.succeeded(t)
		r.logged(t, "charm revisions 1, released "+released)
		isReleased(t, sandbox, server.Release{
			Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{"image-1": 1, "image-2": 1, fileResource: 1},
		})
	}
	if uploads, releases := sent(sandbox); uploads != 0 || releases != 0 {
		t.Errorf("the second time %d uploads and %d releases, want none", uploads, releases)
	}
}

// TestCharmThatIsThereAlready: a list that lags behind lacks the charm file, which is
// uploaded again, and the store says which revision it is.
func TestCharmThatIsThereAlready(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{})
	file := []string{"channel=none", "charms=" + writeCharm(t, charmMetadata, noble)}
	putOnChannels(t, sandbox, file...).succeeded(t)
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.Path, "/my-charm/revisions") {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: `{"revisions":[]}`}
	})
	again := putOnChannels(t, sandbox, file...)
	again.succeeded(t)
	again.has(t, map[string]string{"charm-revisions": "1", "released": "false"})
	if n := len(sandbox.CharmRevisions(charm)); n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

// TestOnlyTheImageChanged: every base and architecture of the channel gets the new
// image by one request, and each keeps its charm revision and its file.
func TestOnlyTheImageChanged(t *testing.T) {
	t.Parallel()
	var revisions [][]server.ReleaseBase
	for _, base := range sixBases {
		revisions = append(revisions, []server.ReleaseBase{base})
	}
	sandbox := startCharm(t, server.Options{}, revisions...)
	var want []server.Release
	for n, base := range sixBases {
		entry := server.Release{Channel: "2/beta", Base: base, Revision: n + 1, Resources: with{imageResource: 1, fileResource: 1 + n%2}}
		sandbox.PutRelease(charm, entry)
		entry.Resources = with{imageResource: 2, fileResource: 1 + n%2}
		want = append(want, entry)
	}
	r := putOnChannels(t, sandbox, "channel=2/beta", "charm-revision=keep", "resources=my-image:2")
	r.succeeded(t)
	r.has(t, map[string]string{"released": "true", "charm-revisions": "1 2 3 4 5 6"})
	r.logged(t, "2/beta for ubuntu 20.04 (arm64): charm revision 2 (kept) with my-file:2 (kept), my-image:2 (was 1), released")
	if row := "| 2 (kept) | my-file&#58;2 (kept), **my-image&#58;2** (was 1) |"; !strings.Contains(r.summary, row) {
		t.Errorf("the summary has no %s:\n%s", row, r.summary)
	}
	if kept := `"kept":{"revision":true,"resources":["my-file"]}`; strings.Count(r.outputs["releases"], kept) != len(sixBases) {
		t.Errorf("releases %s, want %s for each base", r.outputs["releases"], kept)
	}
	isReleased(t, sandbox, want...)
	if uploads, releases := sent(sandbox); uploads != 0 || releases != 1 {
		t.Errorf("%d uploads and %d releases, want 0 and 1", uploads, releases)
	}
}

// TestPromote: one charm revision has other resources on each of its bases, and
// keeps them. A dry run says so and does nothing; a second run finds nothing to do.
func TestPromote(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{jammy, noble})
	before := []server.Release{
		{Channel: "latest/edge", Base: jammy, Revision: 1, Resources: with{imageResource: 1}},
		{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 2, fileResource: 1}},
	}
	var after []server.Release
	for _, entry := range before {
		sandbox.PutRelease(charm, entry)
		entry.Channel = "latest/candidate"
		after = append(after, entry)
	}
	promote := []string{"from-channel=edge", "channel=latest/candidate"}

	planned := putOnChannels(t, sandbox, append(promote, "dry-run=true")...)
	planned.warned(t, goesWithout("latest/candidate"))
	planned.has(t, map[string]string{"released": "false", "charm-revisions": "1"})
	planned.logged(t, "latest/candidate for ubuntu 24.04 (amd64): charm revision 1 with my-file:1, my-image:2, to be released")
	isReleased(t, sandbox, before...)

	r := putOnChannels(t, sandbox, promote...)
	r.warned(t, goesWithout("latest/candidate"))
	r.has(t, map[string]string{"released": "true", "releases": planned.outputs["releases"]})
	isReleased(t, sandbox, append(after, before...)...)

	sandbox.ResetRequests()
	again := putOnChannels(t, sandbox, append(promote, "dry-run=true")...)
	again.succeeded(t)
	if !strings.Contains(again.log, " s: dry run, nothing would change\n") {
		t.Errorf("log:\n%s", again.log)
	}
	if title := "### Charm <code>my-charm</code>: dry run, nothing would change\n"; !strings.HasPrefix(again.summary, title) {
		t.Errorf("summary:\n%s", again.summary)
	}
	again = putOnChannels(t, sandbox, promote...)
	again.succeeded(t)
	again.has(t, map[string]string{"released": "false", "charm-revisions": "1"})
	if _, releases := sent(sandbox); releases != 0 {
		t.Errorf("%d releases the second time", releases)
	}
}

// TestPromoteWhereNoBaseCanBeNamed: a store that takes no base in a release refuses
// it all, and nothing is lost.
func TestPromoteWhereNoBaseCanBeNamed(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{NoReleaseBase: true}, []server.ReleaseBase{jammy, noble})
	before := []server.Release{
		{Channel: "latest/edge", Base: jammy, Revision: 1, Resources: with{imageResource: 1}},
		{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 2}},
	}
	for _, entry := range before {
		sandbox.PutRelease(charm, entry)
	}
	r := putOnChannels(t, sandbox, "from-channel=latest/edge", "channel=latest/beta")
	r.releaseFailed(t, "'base' was unexpected", "name a base", "give the input resources")
	isReleased(t, sandbox, before...)
	// The same resources for both don't take it.
	putOnChannels(t, sandbox, "from-channel=latest/edge", "channel=latest/beta", "resources=my-image:2").warned(t, goesWithout("latest/beta"))
}

// TestSeveralChannels: branches among them, each with what it has.
func TestSeveralChannels(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble})
	sandbox.PutRelease(charm, server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 2, fileResource: 2}})
	r := putOnChannels(t, sandbox, "charm-revision=1", "channel=latest/edge, edge/fix--12\n2/edge", "resources=my-image:2")
	r.warned(t, goesWithout("2/edge"), goesWithout("latest/edge/fix--12"))
	isReleased(t, sandbox,
		server.Release{Channel: "2/edge", Base: noble, Revision: 1, Resources: with{imageResource: 2}},
		server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 2, fileResource: 2}},
		server.Release{Channel: "latest/edge/fix--12", Base: noble, Revision: 1, Resources: with{imageResource: 2}})
}

// TestRevisionZeroIsReleased: revisions may start from 0.
func TestRevisionZeroIsReleased(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{FromZero: true}, []server.ReleaseBase{noble}, []server.ReleaseBase{jammy})
	putOnChannels(t, sandbox, "charm-revision=0", "channel=edge", "resources=my-image:0 my-file:0").succeeded(t)
	isReleased(t, sandbox, server.Release{Channel: "latest/edge", Base: noble, Revision: 0, Resources: with{imageResource: 0, fileResource: 0}})
}

// TestSomebodyElseReleases: what another job puts on the channel between our reading
// and our sending is where our release starts from; what it puts there after it is an
// error that names both.
func TestSomebodyElseReleases(t *testing.T) {
	t.Parallel()
	now := server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 1, fileResource: 1}}
	theirs := server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 1, fileResource: 2}}
	start := func(t *testing.T, meddle func(r server.Request, reads int) bool) *server.Server {
		t.Helper()
		sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble})
		sandbox.PutRelease(charm, now)
		var reads atomic.Int64
		sandbox.Fault(func(r server.Request) *server.Fault {
			if !strings.HasSuffix(r.Path, "/releases") {
				return nil
			}
			n := reads.Load()
			if r.Method == http.MethodGet {
				n = reads.Add(1)
			}
			if meddle(r, int(n)) {
				sandbox.PutRelease(charm, theirs)
			}
			return nil
		})
		return sandbox
	}
	t.Run("before ours", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, func(r server.Request, reads int) bool { return r.Method == http.MethodGet && reads == 2 })
		r := putOnChannels(t, sandbox, "channel=latest/edge", "charm-revision=keep", "resources=my-image:2")
		const warning = "Somebody else released to latest/edge for ubuntu 24.04 (amd64) in the meantime: it has charm revision 1 with my-file:2, my-image:1 now"
		if r.exit != 0 || !strings.Contains(r.log, "::warning") || !strings.Contains(r.log, warning) {
			t.Errorf("exit %d:\n%s", r.exit, r.log)
		}
		isReleased(t, sandbox, server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 2, fileResource: 2}})
	})
	t.Run("after ours", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, func(r server.Request, reads int) bool { return r.Method == http.MethodGet && reads == 3 })
		r := putOnChannels(t, sandbox, "channel=latest/edge", "charm-revision=keep", "resources=my-image:2")
		if r.exit != 1 || !strings.Contains(theError(r), "charm revision 1 with my-file:2, my-image:1 is there instead of charm revision 1 with my-file:1, my-image:2; somebody else released at the same time, or") {
			t.Errorf("exit %d:\n%s", r.exit, r.log)
		}
		isReleased(t, sandbox, theirs)
	})
}

// releaseFailed fails the test unless the run ended in one error with these
// fragments, and set no output.
func (r result) releaseFailed(t *testing.T, fragments ...string) {
	t.Helper()
	if r.exit != 1 || errorLines(r) != 1 || len(r.outputs) != 0 {
		t.Errorf("exit %d with %d errors and outputs %v, want 1, 1 and none:\n%s", r.exit, errorLines(r), r.outputs, withoutMasks(r.log))
	}
	for _, fragment := range fragments {
		if !strings.Contains(theError(r), fragment) {
			t.Errorf("the error has no %q:\n%s", fragment, withoutMasks(r.log))
		}
	}
}

// TestReleaseFailures: each says in a sentence what is wrong and what to do, and
// leaves Charmhub as it was.
func TestReleaseFailures(t *testing.T) {
	t.Parallel()
	onEdge := server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 1}}
	permissions := func(names ...string) func(*server.Server) string {
		return func(s *server.Server) string {
			return "store-token=" + s.Mint(server.Grant{Permissions: names})
		}
	}
	foreign, text := writeCharm(t, "name: other-charm", noble), filepath.Join(t.TempDir(), "x.charm")
	writeFile(t, text, "no charm")
	uploaded := writeCharm(t, charmMetadata, noble, jammy)
	for name, test := range map[string]struct {
		inputs  []string
		token   func(*server.Server) string
		options server.Options
		want    []string
	}{
		"undeclared":       {inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=imgae:1"}, want: []string{"release resource 'imgae': no charm revision of this release declares it, but my-file, my-image; correct its name"}},
		"missing":          {inputs: []string{"channel=latest/stable", "charm-revision=1", "resources=keep"}, want: []string{"this charm revision needs resource 'my-image', of which no revision is there; give one with the input resources, as my-image:REVISION"}},
		"no such revision": {inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:70"}, want: []string{"release revision 70 of resource 'my-image': there is no such revision, the newest is 2"}},
		"no such charm revision": {
			inputs: []string{"channel=edge", "charm-revision=12"}, want: []string{"release revision 12 of the charm: there is no such revision, the newest is 1"}},
		"no such track":   {inputs: []string{"channel=3/edge", "from-channel=edge"}, want: []string{"the charm has no track 3, but latest, 2; give another channel, or let the action create the track with create-track: true"}},
		"no such channel": {inputs: []string{"channel=latest/egde", "from-channel=latest/beta"}, want: []string{`input channel: "latest/egde" is not a channel`, "stable, candidate, beta, edge"}},
		"nothing there":   {inputs: []string{"channel=beta", "charm-revision=keep", "resources=my-image:1"}, want: []string{"no charm revision is there yet; give one with the input charms, charm-revision or from-channel"}},
		"from nothing":    {inputs: []string{"channel=stable", "from-channel=beta"}, want: []string{"nothing is released on latest/beta"}},
		"a foreign file":  {inputs: []string{"channel=edge", "charms=" + foreign, "resources=keep"}, want: []string{"is of charm 'other-charm', not 'my-charm'; give files of one charm"}},
		"a file that is none": {
			inputs: []string{"channel=edge", "charms=" + text}, want: []string{"x.charm: not a charm file: zip: not a valid zip file; give one that `charmcraft pack` made"}},
		"a file that is not there": {inputs: []string{"channel=edge", "charms=nowhere.charm"}, want: []string{"input charms: cannot find nowhere.charm: "}},
		"several ways": {
			inputs: []string{"channel=edge", "charm-revision=1", "from-channel=edge"}, want: []string{"inputs charm-revision, from-channel: given together"}},
		"no name for resources": {inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=3"}, want: []string{`"3" lacks a revision; write name:revision`}},
		"resources of a dry run": {
			inputs: []string{"channel=edge", "charm-revision=keep", `resources=[{"name":"my-image","created":false}]`}, want: []string{`"my-image" is without a revision, as a dry run leaves it`}},
		"an unknown charm": {inputs: []string{"charm=unknown", "channel=latest/edge", "from-channel=latest/beta"}, want: []string{"404", "Charmhub knows no charm 'unknown'"}},
		"a rejected file": {
			inputs: []string{"channel=edge", "charms=" + uploaded, "resources=my-image:1"}, options: server.Options{RejectReason: "too big"},
			want: []string{"the store rejected the upload: too big"}},
		"may not view releases": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"}, token: permissions("package-manage", "package-view-revisions"),
			want: []string{"403", "lacks the permission package-view-releases", "--permission=package-manage-releases --permission=package-view-releases"}},
		"may not view revisions": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"}, token: permissions("package-manage", "package-view-releases"),
			want: []string{"403", "lacks the permission package-view-revisions"}},
		"may not release": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"}, token: permissions("package-manage-revisions", "package-view"),
			want: []string{"cannot release charm 'my-charm'", "403", "lacks the permission package-manage-releases"}},
		"may not upload": {
			inputs: []string{"channel=edge", "charms=" + uploaded, "resources=my-image:2"}, token: permissions("package-manage-releases", "package-view"),
			want: []string{"403", "lacks the permission package-manage-revisions"}},
		"not for the channel": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"},
			token: func(s *server.Server) string {
				return "store-token=" + s.Mint(server.Grant{Channels: []string{"latest/beta"}})
			},
			want: []string{"403", "or is for other charms or channels", "on the channels latest/beta"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startCharm(t, test.options, []server.ReleaseBase{noble})
			sandbox.PutRelease(charm, onEdge)
			inputs := test.inputs
			if test.token != nil {
				inputs = append(inputs, test.token(sandbox))
			}
			r := putOnChannels(t, sandbox, inputs...)
			r.releaseFailed(t, test.want...)
			isReleased(t, sandbox, onEdge)
		})
	}
}

// TestWrongType: a revision from when the charm declared the resource as a file.
func TestWrongType(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble})
	sandbox.PutRelease(charm, server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 1}})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if !strings.HasSuffix(r.Path, "/my-image/revisions") {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: `{"revisions":[{"revision":1,"type":"file"}]}`}
	})
	r := putOnChannels(t, sandbox, "channel=latest/edge", "charm-revision=keep", "resources=my-image:1")
	r.releaseFailed(t, "release revision 1 of resource 'my-image': that revision is of type file, but charm revision 1 declares oci-image; give a revision of that type")
}

// TestReleaseSchedules: whatever goes wrong, either all is released or nothing, and a
// second run ends right. It is so for charm files, for other resources, and for a promotion, also one to a new track.
func TestReleaseSchedules(t *testing.T) {
	t.Parallel()
	place := func(channel string, base server.ReleaseBase, revision int, resources with) server.Release {
		return server.Release{Channel: channel, Base: base, Revision: revision, Resources: resources}
	}
	oneEach, newImage := with{imageResource: 1, fileResource: 1}, with{imageResource: 2, fileResource: 1}
	jobs := []struct {
		inputs       []string
		before, want []server.Release
	}{
		{
			inputs: []string{
				"channel=latest/edge 2/edge", "resources=my-image:2 my-file:1",
				"charms=" + writeCharm(t, charmMetadata, jammy) + " " + writeCharm(t, charmMetadata+"summary: another\n", noble),
			},
			want: []server.Release{
				place("2/edge", jammy, 0, newImage), place("2/edge", noble, 0, newImage),
				place("latest/edge", jammy, 0, newImage), place("latest/edge", noble, 0, newImage),
			},
		},
		{
			inputs: []string{"channel=latest/edge 2/edge", "resources=my-image:2", "charm-revision=keep"},
			before: []server.Release{place("2/edge", noble, 1, oneEach), place("latest/edge", jammy, 1, oneEach), place("latest/edge", noble, 1, oneEach)},
			want:   []server.Release{place("2/edge", noble, 1, newImage), place("latest/edge", jammy, 1, newImage), place("latest/edge", noble, 1, newImage)},
		},
		{
			inputs: []string{"channel=latest/beta", "from-channel=latest/edge"},
			before: []server.Release{place("latest/edge", jammy, 1, oneEach), place("latest/edge", noble, 1, newImage)},
			want: []server.Release{
				place("latest/beta", jammy, 1, oneEach), place("latest/beta", noble, 1, newImage),
				place("latest/edge", jammy, 1, oneEach), place("latest/edge", noble, 1, newImage),
			},
		},
		{
			inputs: []string{"channel=3.0/beta", "from-channel=latest/edge", "create-track=true", "bases=24.04"},
			before: []server.Release{place("latest/edge", jammy, 1, oneEach), place("latest/edge", noble, 1, newImage)},
			want:   []server.Release{place("3.0/beta", noble, 1, newImage), place("latest/edge", jammy, 1, oneEach), place("latest/edge", noble, 1, newImage)},
		},
	}
	var failed atomic.Int64
	eachSchedule(t, schedules, func(t *testing.T, seed, n uint64) { //nolint:thelper // the body of a subtest
		random := rand.New(rand.NewPCG(seed, n))
		faults := map[int64]*server.Fault{}
		for range 1 + random.IntN(4) {
			faults[1+random.Int64N(20)] = randomFault(random)
		}
		job := jobs[n%uint64(len(jobs))]
		sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble, jammy})
		for _, entry := range job.before {
			sandbox.PutRelease(charm, entry)
		}
		var requests atomic.Int64
		sandbox.Fault(func(server.Request) *server.Fault { return faults[requests.Add(1)] })
		ctx, cancel := context.WithTimeout(t.Context(), scheduleTime)
		defer cancel()
		r := putOnChannelsContext(ctx, t, sandbox, job.inputs...)
		sandbox.Fault(nil)
		released := withoutNewRevisions(sandbox.Releases(charm))
		if done := cmp.Equal(job.want, released); !done && (r.exit == 0 || !cmp.Equal(job.before, released, cmpopts.EquateEmpty())) {
			t.Errorf("exit %d, and neither all nor nothing is released: %+v", r.exit, released)
		}
		if r.exit != 0 {
			failed.Add(1)
			r = putOnChannels(t, sandbox, job.inputs...)
		}
		if r.exit != 0 || len(sandbox.CharmRevisions(charm)) > 3 {
			t.Errorf("exit %d the second time, %d charm revisions:\n%s", r.exit, len(sandbox.CharmRevisions(charm)), withoutMasks(r.log))
		}
		isAll(t, job.want, withoutNewRevisions(sandbox.Releases(charm)))
	})
	t.Logf("%d runs ended in an error", failed.Load())
}

// withoutNewRevisions returns entries with 0 in the place of the revisions of two charm files,
// whose order isn't fixed.
func withoutNewRevisions(entries []server.Release) []server.Release {
	for n := range entries {
		if entries[n].Revision == 2 || entries[n].Revision == 3 {
			entries[n].Revision = 0
		}
	}
	return entries
}

func isAll(t *testing.T, want, got []server.Release) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

// TestReleaseOutputIsJSON: what later steps parse.
func TestReleaseOutputIsJSON(t *testing.T) {
	t.Parallel()
	sandbox := startCharm(t, server.Options{}, []server.ReleaseBase{noble})
	sandbox.PutRelease(charm, server.Release{Channel: "latest/edge", Base: noble, Revision: 1, Resources: with{imageResource: 1}})
	r := putOnChannels(t, sandbox, "channel=edge", "resources=my-image:2 my-file:1", "charms="+writeCharm(t, charmMetadata+"summary: new\n", noble), "dry-run=true")
	r.succeeded(t)
	var releases []struct {
		Channel, Base any
		Revision      *int
		Resources     with
		Before        struct {
			Revision  int
			Resources with
		}
	}
	if err := json.Unmarshal([]byte(r.outputs["releases"]), &releases); err != nil {
		t.Fatal(err)
	}
	if len(releases) != 1 || releases[0].Revision != nil || releases[0].Resources[imageResource] != 2 || releases[0].Before.Revision != 1 {
		t.Errorf("releases %s", r.outputs["releases"])
	}
	r.logged(t, "latest/edge for ubuntu 24.04 (amd64): charm revision to be created (was 1) with my-file:1, my-image:2 (was 1), to be released")
	if n := len(sandbox.CharmRevisions(charm)); n != 1 {
		t.Errorf("a dry run made revision %d", n)
	}
}

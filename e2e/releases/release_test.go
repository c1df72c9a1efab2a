package releases

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// sixBases are three bases for two architectures each.
var sixBases = []server.ReleaseBase{
	harness.Ubuntu("20.04", "amd64"), harness.Ubuntu("20.04", "arm64"), harness.Jammy, harness.Ubuntu("22.04", "arm64"),
	harness.Noble, harness.Ubuntu("24.04", "arm64"),
}

// goesWithout is the warning about charm revision 1 on a channel without its optional resource.
func goesWithout(channel string) string {
	return "Optional resource 'my-file': charm revision 1 on " + channel + " goes without it"
}

// TestNewCharm: nothing is on Charmhub but the charm's name. Its files are uploaded, then its resources, and then all
// is released. A second job changes nothing.
func TestNewCharm(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{})
	files := harness.WriteCharmFile(t, harness.CharmMetadata, harness.Jammy) + " " +
		harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble)
	metadata, file := filepath.Join(t.TempDir(), "charmcraft.yaml"), filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, metadata, harness.CharmMetadata)
	harness.WriteFile(t, file, "content")
	image := harness.WriteImageArchive(t, 1000, 1)
	job := func(unchanged bool) harness.Result {
		t.Helper()
		uploaded := harness.Release(t, sandbox, "charm=", "metadata="+metadata, "charms="+files, "channel=none")
		uploaded.Succeeded(t)
		uploaded.HasOutputs(t, map[string]string{"released": "false", "releases": "[]"})
		one := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
		one.Succeeded(t)
		two := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+file)
		two.Succeeded(t)
		resources := strings.TrimSuffix(one.Outputs["resources"], "]") + "," +
			strings.TrimPrefix(two.Outputs["resources"], "[")
		released := harness.Release(t, sandbox, "charm=", "metadata="+metadata, "charms="+files, "channel=edge",
			"resources="+resources)
		released.Succeeded(t)
		released.HasOutputs(t, map[string]string{"charm-revisions": uploaded.Outputs["charm-revisions"],
			"released": strconv.FormatBool(!unchanged)})
		return released
	}
	first := job(false)
	// The files are uploaded at the same time.
	one, two := 1, 2
	if first.Outputs["charm-revisions"] == "2 1" {
		one, two = 2, 1
	}
	both := harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}
	want := []server.Release{
		{Channel: "latest/edge", Base: harness.Jammy, Revision: one, Resources: both},
		{Channel: "latest/edge", Base: harness.Noble, Revision: two, Resources: both},
	}
	harness.HasReleases(t, sandbox, want...)
	if uploads, releases := harness.CountSent(sandbox); uploads != 4 || releases != 1 {
		t.Errorf("%d uploads and %d releases, want 4 and 1", uploads, releases)
	}
	entries := fmt.Sprintf(`[{"channel":"latest/edge","base":{"name":"ubuntu","channel":"22.04","architecture":"amd64"},`+
		`"revision":%d,`+
		`"resources":{"my-file":1,"my-image":1},"before":null,"changed":true,"kept":{"revision":false,"resources":[]}},`+
		`{"channel":"latest/edge","base":{"name":"ubuntu","channel":"24.04","architecture":"amd64"},"revision":%d,`+
		`"resources":{"my-file":1,"my-image":1},"before":null,"changed":true,"kept":{"revision":false,"resources":[]}}]`, one,
		two)
	first.HasOutputs(t, map[string]string{"releases": entries})
	row := fmt.Sprintf("| <code>latest/edge</code>, new | ubuntu 24&#46;04 &#40;amd64&#41; | **%d** | **my-file&#58;1**, "+
		"**my-image&#58;1** |", two)
	if !strings.Contains(first.Summary, row) {
		t.Errorf("summary:\n%s", first.Summary)
	}

	sandbox.ResetRequests()
	again := job(true)
	harness.HasReleases(t, sandbox, want...)
	if uploads, releases := harness.CountSent(sandbox); uploads != 0 || releases != 0 {
		t.Errorf("the second time %d uploads and %d releases, want none", uploads, releases)
	}
	again.Logged(t, fmt.Sprintf("latest/edge for ubuntu 24.04 (amd64): charm revision %d with my-file:1, my-image:1, "+
		"unchanged", two))
}

// TestCharmThatIsThereAlready: a list that lags behind lacks the charm file, which is uploaded again, and the store
// says which revision it is.
func TestCharmThatIsThereAlready(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{})
	file := []string{"channel=none", "charms=" + harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble)}
	harness.Release(t, sandbox, file...).Succeeded(t)
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.Path, "/my-charm/revisions") {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: `{"revisions":[]}`}
	})
	again := harness.Release(t, sandbox, file...)
	again.Succeeded(t)
	again.HasOutputs(t, map[string]string{"charm-revisions": "1", "released": "false"})
	if n := len(sandbox.CharmRevisions(harness.Charm)); n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

// TestOnlyTheImageChanged: every base and architecture of the channel gets the new image by one request, and each keeps
// its charm revision and its file.
func TestOnlyTheImageChanged(t *testing.T) {
	t.Parallel()
	var revisions [][]server.ReleaseBase
	for _, base := range sixBases {
		revisions = append(revisions, []server.ReleaseBase{base})
	}
	sandbox := harness.StartCharm(t, server.Options{}, revisions...)
	var want []server.Release
	for n, base := range sixBases {
		entry := server.Release{Channel: "2/beta", Base: base, Revision: n + 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1 + n%2}}
		sandbox.PutRelease(harness.Charm, entry)
		entry.Resources = harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1 + n%2}
		want = append(want, entry)
	}
	r := harness.Release(t, sandbox, "channel=2/beta", "charm-revision=keep", "resources=my-image:2")
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"released": "true", "charm-revisions": "1 2 3 4 5 6"})
	r.Logged(t, "2/beta for ubuntu 20.04 (arm64): charm revision 2 (kept) with my-file:2 (kept), my-image:2 (was 1), "+
		"released")
	if row := "| 2 (kept) | my-file&#58;2 (kept), **my-image&#58;2** (was 1) |"; !strings.Contains(r.Summary, row) {
		t.Errorf("the summary has no %s:\n%s", row, r.Summary)
	}
	if kept := `"kept":{"revision":true,"resources":["my-file"]}`; strings.Count(r.Outputs["releases"],
		kept) != len(sixBases) {
		t.Errorf("releases %s, want %s for each base", r.Outputs["releases"], kept)
	}
	harness.HasReleases(t, sandbox, want...)
	if uploads, releases := harness.CountSent(sandbox); uploads != 0 || releases != 1 {
		t.Errorf("%d uploads and %d releases, want 0 and 1", uploads, releases)
	}
}

// TestPromote: one charm revision has other resources on each of its bases, and keeps them. A dry run says so and does
// nothing; a second run finds nothing to do.
func TestPromote(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Jammy, harness.Noble})
	before := []server.Release{
		{Channel: "latest/edge", Base: harness.Jammy, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 1}},
		{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1}},
	}
	var after []server.Release
	for _, entry := range before {
		sandbox.PutRelease(harness.Charm, entry)
		entry.Channel = "latest/candidate"
		after = append(after, entry)
	}
	promote := []string{"from-channel=edge", "channel=latest/candidate"}

	planned := harness.Release(t, sandbox, append(promote, "dry-run=true")...)
	planned.Warned(t, goesWithout("latest/candidate"))
	planned.HasOutputs(t, map[string]string{"released": "false", "charm-revisions": "1"})
	planned.Logged(t, "latest/candidate for ubuntu 24.04 (amd64): charm revision 1 with my-file:1, my-image:2, to be "+
		"released")
	harness.HasReleases(t, sandbox, before...)

	r := harness.Release(t, sandbox, promote...)
	r.Warned(t, goesWithout("latest/candidate"))
	r.HasOutputs(t, map[string]string{"released": "true", "releases": planned.Outputs["releases"]})
	harness.HasReleases(t, sandbox, append(after, before...)...)

	sandbox.ResetRequests()
	again := harness.Release(t, sandbox, append(promote, "dry-run=true")...)
	again.Succeeded(t)
	if !strings.Contains(again.Log, " s: dry run, nothing would change\n") {
		t.Errorf("log:\n%s", again.Log)
	}
	if title := "### Charm <code>my-charm</code>: dry run, nothing would " +
		"change\n"; !strings.HasPrefix(again.Summary, title) {
		t.Errorf("summary:\n%s", again.Summary)
	}
	again = harness.Release(t, sandbox, promote...)
	again.Succeeded(t)
	again.HasOutputs(t, map[string]string{"released": "false", "charm-revisions": "1"})
	if _, releases := harness.CountSent(sandbox); releases != 0 {
		t.Errorf("%d releases the second time", releases)
	}
}

// TestPromoteWhereNoBaseCanBeNamed: a store that takes no base in a release refuses it all, and nothing is lost.
func TestPromoteWhereNoBaseCanBeNamed(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{NoReleaseBase: true},
		[]server.ReleaseBase{harness.Jammy, harness.Noble})
	before := []server.Release{
		{Channel: "latest/edge", Base: harness.Jammy, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 1}},
		{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 2}},
	}
	for _, entry := range before {
		sandbox.PutRelease(harness.Charm, entry)
	}
	r := harness.Release(t, sandbox, "from-channel=latest/edge", "channel=latest/beta")
	r.ReleaseFailed(t, "'base' was unexpected", "name a base", "give the input resources")
	harness.HasReleases(t, sandbox, before...)
	// The same resources for both don't take it.
	harness.Release(t, sandbox, "from-channel=latest/edge", "channel=latest/beta", "resources=my-image:2").Warned(t,
		goesWithout("latest/beta"))
}

// TestSeveralChannels: branches among them, each with what it has.
func TestSeveralChannels(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 2}})
	r := harness.Release(t, sandbox, "charm-revision=1", "channel=latest/edge, edge/fix--12\n2/edge",
		"resources=my-image:2")
	r.Warned(t, goesWithout("2/edge"), goesWithout("latest/edge/fix--12"))
	harness.HasReleases(t, sandbox,
		server.Release{Channel: "2/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 2}},
		server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 2}},
		server.Release{Channel: "latest/edge/fix--12", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 2}})
}

// TestRevisionZeroIsReleased: revisions may start from 0.
func TestRevisionZeroIsReleased(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{FromZero: true}, []server.ReleaseBase{harness.Noble},
		[]server.ReleaseBase{harness.Jammy})
	harness.Release(t, sandbox, "charm-revision=0", "channel=edge", "resources=my-image:0 my-file:0").Succeeded(t)
	harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 0,
		Resources: harness.ResourceRevisions{harness.ImageResource: 0, harness.FileResource: 0}})
}

// TestChannelMapLags: a release that the channel map shows only after some seconds is waited for. Each look at the map
// takes four seconds of the sandbox's clock.
func TestChannelMapLags(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{ReleaseLag: 10 * time.Second}, []server.ReleaseBase{harness.Noble})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method == http.MethodGet && strings.HasSuffix(r.Path, "/releases") {
			sandbox.AdvanceClock(4 * time.Second)
		}
		return nil
	})
	for _, looks := range []int{3, 0} { // the second time nothing is to be released
		sandbox.ResetRequests()
		harness.Release(t, sandbox, "charm-revision=1", "channel=edge", "resources=my-image:1 my-file:1").Succeeded(t)
		got, released := 0, false
		for _, r := range sandbox.Requests() {
			switch {
			case !strings.HasSuffix(r.Path, "/releases"):
			case r.Method == http.MethodPost:
				released = true
			case released:
				got++
			}
		}
		if got != looks || released != (looks > 0) {
			t.Errorf("released: %t, and looked %d times at the channel map, want %d", released, got, looks)
		}
		harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
	}
}

// TestSomebodyElseReleases: what another job puts on the channel between our reading and our sending is where our
// release starts from; what it puts there after it is an error that names both.
func TestSomebodyElseReleases(t *testing.T) {
	t.Parallel()
	now := server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}}
	theirs := server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 2}}
	start := func(t *testing.T, meddle func(r server.Request, reads int) bool) *server.Server {
		t.Helper()
		sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
		sandbox.PutRelease(harness.Charm, now)
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
				sandbox.PutRelease(harness.Charm, theirs)
			}
			return nil
		})
		return sandbox
	}
	t.Run("before ours", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, func(r server.Request, reads int) bool { return r.Method == http.MethodGet && reads == 2 })
		r := harness.Release(t, sandbox, "channel=latest/edge", "charm-revision=keep", "resources=my-image:2")
		const warning = "Somebody else released to latest/edge for ubuntu 24.04 (amd64) in the meantime: it has charm " +
			"revision 1 with my-file:2, my-image:1 now"
		if r.Exit != 0 || !strings.Contains(r.Log, "::warning") || !strings.Contains(r.Log, warning) {
			t.Errorf("exit %d:\n%s", r.Exit, r.Log)
		}
		harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 2}})
	})
	t.Run("after ours", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, func(r server.Request, reads int) bool { return r.Method == http.MethodGet && reads == 3 })
		r := harness.Release(t, sandbox, "channel=latest/edge", "charm-revision=keep", "resources=my-image:2")
		if r.Exit != 1 || !strings.Contains(harness.ErrorText(r),
			"charm revision 1 with my-file:2, my-image:1 is there instead of charm revision 1 with my-file:1, my-image:2; "+
				"somebody else released at the same time, or") {
			t.Errorf("exit %d:\n%s", r.Exit, r.Log)
		}
		harness.HasReleases(t, sandbox, theirs)
	})
}

// TestReleaseFailures: each says in a sentence what is wrong and what to do, and leaves Charmhub as it was.
func TestReleaseFailures(t *testing.T) {
	t.Parallel()
	onEdge := server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1}}
	permissions := func(names ...string) func(*server.Server) string {
		return func(s *server.Server) string {
			return "store-token=" + s.Mint(server.Grant{Permissions: names})
		}
	}
	foreign, text := harness.WriteCharmFile(t, "name: other-charm", harness.Noble), filepath.Join(t.TempDir(), "x.charm")
	harness.WriteFile(t, text, "no charm")
	uploaded := harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble, harness.Jammy)
	for name, test := range map[string]struct {
		inputs  []string
		token   func(*server.Server) string
		options server.Options
		want    []string
	}{
		"undeclared": {inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=imgae:1"},
			want: []string{"release resource 'imgae': no charm revision of this release declares it, but my-file, my-image; " +
				"correct its name"}},
		"missing": {inputs: []string{"channel=latest/stable", "charm-revision=1", "resources=keep"},
			want: []string{"this charm revision needs resource 'my-image', of which no revision is there; give one with the " +
				"input resources, as my-image:REVISION"}},
		"no such revision": {inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:70"},
			want: []string{"release revision 70 of resource 'my-image': there is no such revision, the newest is 2"}},
		"no such charm revision": {
			inputs: []string{"channel=edge", "charm-revision=12"},
			want:   []string{"release revision 12 of the charm: there is no such revision, the newest is 1"}},
		"no such track": {inputs: []string{"channel=3/edge", "from-channel=edge"},
			want: []string{"the charm has no track 3, but latest, 2; give another channel, or let the action release create " +
				"it, with create-track: true"}},
		"no such channel": {inputs: []string{"channel=latest/egde", "from-channel=latest/beta"},
			want: []string{`input channel: "latest/egde" is not a channel`, "stable, candidate, beta, edge"}},
		"nothing there": {inputs: []string{"channel=beta", "charm-revision=keep", "resources=my-image:1"},
			want: []string{"no charm revision is there yet; give one with the input charms, charm-revision or from-channel"}},
		"from nothing": {inputs: []string{"channel=stable", "from-channel=beta"},
			want: []string{"nothing is released on latest/beta"}},
		"a foreign file": {inputs: []string{"channel=edge", "charms=" + foreign, "resources=keep"},
			want: []string{"is of charm 'other-charm', not 'my-charm'; give files of one charm"}},
		"a file that is none": {
			inputs: []string{"channel=edge", "charms=" + text},
			want:   []string{"x.charm: not a charm file: zip: not a valid zip file; give one that `charmcraft pack` made"}},
		"a file that is not there": {inputs: []string{"channel=edge", "charms=nowhere.charm"},
			want: []string{"input charms: cannot find nowhere.charm: "}},
		"several ways": {
			inputs: []string{"channel=edge", "charm-revision=1", "from-channel=edge"},
			want:   []string{"inputs charm-revision, from-channel: given together"}},
		"no name for resources": {inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=3"},
			want: []string{`"3" lacks a revision; write name:revision`}},
		"resources of a dry run": {
			inputs: []string{"channel=edge", "charm-revision=keep", `resources=[{"name":"my-image","created":false}]`},
			want:   []string{`"my-image" is without a revision, as a dry run leaves it`}},
		"an unknown charm": {inputs: []string{"charm=unknown", "channel=latest/edge", "from-channel=latest/beta"},
			want: []string{"404", "Charmhub knows no charm 'unknown'"}},
		"a rejected file": {
			inputs:  []string{"channel=edge", "charms=" + uploaded, "resources=my-image:1"},
			options: server.Options{RejectReason: "too big"},
			want:    []string{"the store rejected the upload: too big"}},
		"may not view releases": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"},
			token:  permissions("package-manage", "package-view-revisions"),
			want: []string{"403", "lacks the permission package-view-releases",
				"--permission=package-manage-releases --permission=package-view-releases"}},
		"may not view revisions": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"},
			token:  permissions("package-manage", "package-view-releases"),
			want:   []string{"403", "lacks the permission package-view-revisions"}},
		"may not release": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"},
			token:  permissions("package-manage-revisions", "package-view"),
			want:   []string{"cannot release charm 'my-charm'", "403", "lacks the permission package-manage-releases"}},
		"may not upload": {
			inputs: []string{"channel=edge", "charms=" + uploaded, "resources=my-image:2"},
			token:  permissions("package-manage-releases", "package-view"),
			want:   []string{"403", "lacks the permission package-manage-revisions"}},
		"not for the channel": {
			inputs: []string{"channel=latest/edge", "charm-revision=keep", "resources=my-image:2"},
			token: func(s *server.Server) string {
				return "store-token=" + s.Mint(server.Grant{Channels: []string{"latest/beta"}})
			},
			want: []string{"403", "or is for other charms or channels", "on the channels latest/beta"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartCharm(t, test.options, []server.ReleaseBase{harness.Noble})
			sandbox.PutRelease(harness.Charm, onEdge)
			inputs := test.inputs
			if test.token != nil {
				inputs = append(inputs, test.token(sandbox))
			}
			r := harness.Release(t, sandbox, inputs...)
			r.ReleaseFailed(t, test.want...)
			harness.HasReleases(t, sandbox, onEdge)
		})
	}
}

// TestWrongType: a revision from when the charm declared the resource as a file.
func TestWrongType(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1}})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if !strings.HasSuffix(r.Path, "/my-image/revisions") {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: `{"revisions":[{"revision":1,"type":"file"}]}`}
	})
	r := harness.Release(t, sandbox, "channel=latest/edge", "charm-revision=keep", "resources=my-image:1")
	r.ReleaseFailed(t, "release revision 1 of resource 'my-image': that revision is of type file, but charm revision 1 "+
		"declares oci-image; give a revision of that type")
}

// TestReleaseSchedules: whatever goes wrong, either all is released or nothing, and a second run ends right. It is so
// for charm files, for other resources, and for a promotion, also one to a new track.
func TestReleaseSchedules(t *testing.T) {
	t.Parallel()
	place := func(
		channel string, base server.ReleaseBase, revision int, resources harness.ResourceRevisions) server.Release {
		return server.Release{Channel: channel, Base: base, Revision: revision, Resources: resources}
	}
	oneEach, newImage := harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1},
		harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1}
	jobs := []struct {
		inputs       []string
		before, want []server.Release
	}{
		{
			inputs: []string{
				"channel=latest/edge 2/edge", "resources=my-image:2 my-file:1",
				"charms=" + harness.WriteCharmFile(t, harness.CharmMetadata, harness.Jammy) + " " +
					harness.WriteCharmFile(t, harness.CharmMetadata+"summary: another\n", harness.Noble),
			},
			want: []server.Release{
				place("2/edge", harness.Jammy, 0, newImage), place("2/edge", harness.Noble, 0, newImage),
				place("latest/edge", harness.Jammy, 0, newImage), place("latest/edge", harness.Noble, 0, newImage),
			},
		},
		{
			inputs: []string{"channel=latest/edge 2/edge", "resources=my-image:2", "charm-revision=keep"},
			before: []server.Release{place("2/edge", harness.Noble, 1, oneEach), place("latest/edge", harness.Jammy, 1, oneEach),
				place("latest/edge", harness.Noble, 1, oneEach)},
			want: []server.Release{place("2/edge", harness.Noble, 1, newImage), place("latest/edge", harness.Jammy, 1, newImage),
				place("latest/edge", harness.Noble, 1, newImage)},
		},
		{
			inputs: []string{"channel=latest/beta", "from-channel=latest/edge"},
			before: []server.Release{place("latest/edge", harness.Jammy, 1, oneEach),
				place("latest/edge", harness.Noble, 1, newImage)},
			want: []server.Release{
				place("latest/beta", harness.Jammy, 1, oneEach), place("latest/beta", harness.Noble, 1, newImage),
				place("latest/edge", harness.Jammy, 1, oneEach), place("latest/edge", harness.Noble, 1, newImage),
			},
		},
		{
			inputs: []string{"channel=3.0/beta", "from-channel=latest/edge", "create-track=true", "bases=24.04"},
			before: []server.Release{place("latest/edge", harness.Jammy, 1, oneEach),
				place("latest/edge", harness.Noble, 1, newImage)},
			want: []server.Release{place("3.0/beta", harness.Noble, 1, newImage),
				place("latest/edge", harness.Jammy, 1, oneEach), place("latest/edge", harness.Noble, 1, newImage)},
		},
	}
	var failed atomic.Int64
	//nolint:thelper // the body of a subtest
	harness.EachSchedule(t, harness.Schedules, func(t *testing.T, seed, n uint64) {
		random := rand.New(rand.NewPCG(seed, n))
		faults := map[int64]*server.Fault{}
		for range 1 + random.IntN(4) {
			faults[1+random.Int64N(20)] = harness.RandomFault(random)
		}
		job := jobs[n%uint64(len(jobs))]
		sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble, harness.Jammy})
		for _, entry := range job.before {
			sandbox.PutRelease(harness.Charm, entry)
		}
		var requests atomic.Int64
		sandbox.Fault(func(server.Request) *server.Fault { return faults[requests.Add(1)] })
		ctx, cancel := context.WithTimeout(t.Context(), harness.ScheduleTime)
		defer cancel()
		r := harness.ReleaseContext(ctx, t, sandbox, job.inputs...)
		sandbox.Fault(nil)
		released := withoutNewRevisions(sandbox.Releases(harness.Charm))
		if done := cmp.Equal(job.want, released); !done &&
			(r.Exit == 0 || !cmp.Equal(job.before, released, cmpopts.EquateEmpty())) {
			t.Errorf("exit %d, and neither all nor nothing is released: %+v", r.Exit, released)
		}
		if r.Exit != 0 {
			failed.Add(1)
			r = harness.Release(t, sandbox, job.inputs...)
		}
		if r.Exit != 0 || len(sandbox.CharmRevisions(harness.Charm)) > 3 {
			t.Errorf("exit %d the second time, %d charm revisions:\n%s", r.Exit, len(sandbox.CharmRevisions(harness.Charm)),
				harness.WithoutMasks(r.Log))
		}
		isAll(t, job.want, withoutNewRevisions(sandbox.Releases(harness.Charm)))
	})
	t.Logf("%d runs ended in an error", failed.Load())
}

// withoutNewRevisions returns entries with 0 in the place of the revisions of two charm files, whose order isn't fixed.
func withoutNewRevisions(entries []server.Release) []server.Release {
	for n := range entries {
		if entries[n].Revision == 2 || entries[n].Revision == 3 {
			entries[n].Revision = 0
		}
	}
	return entries
}

// isAll fails the test unless the releases are those that it wants, in this order.
func isAll(t *testing.T, want, got []server.Release) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

// TestReleaseOutputIsJSON: what later steps parse.
func TestReleaseOutputIsJSON(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1}})
	r := harness.Release(t, sandbox, "channel=edge", "resources=my-image:2 my-file:1",
		"charms="+harness.WriteCharmFile(t, harness.CharmMetadata+"summary: new\n", harness.Noble), "dry-run=true")
	r.Succeeded(t)
	var releases []struct {
		Channel, Base any
		Revision      *int
		Resources     harness.ResourceRevisions
		Before        struct {
			Revision  int
			Resources harness.ResourceRevisions
		}
	}
	if err := json.Unmarshal([]byte(r.Outputs["releases"]), &releases); err != nil {
		t.Fatal(err)
	}
	if len(releases) != 1 || releases[0].Revision != nil || releases[0].Resources[harness.ImageResource] != 2 ||
		releases[0].Before.Revision != 1 {
		t.Errorf("releases %s", r.Outputs["releases"])
	}
	r.Logged(t, "latest/edge for ubuntu 24.04 (amd64): charm revision to be created (was 1) with my-file:1, my-image:2 "+
		"(was 1), to be released")
	if n := len(sandbox.CharmRevisions(harness.Charm)); n != 1 {
		t.Errorf("a dry run made revision %d", n)
	}
}

package releases

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// TestReleaseMistakes: an expression that lost its value leaves an input empty. That never chooses something else to
// do: it is an error of one sentence, and nothing is changed.
func TestReleaseMistakes(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	onEdge := server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}}
	sandbox.PutRelease(harness.Charm, onEdge)
	file := "charms=" + harness.WriteCharmFile(t, harness.CharmMetadata+"summary: new\n", harness.Noble)
	const toEdge, image = "channel=latest/edge", "resources=my-image:2"
	const noneGiven = "inputs charms, charm-revision, from-channel: none is given; give the one that says which charm " +
		"revisions to release"
	const noResources = "input resources: missing, and the charm declares my-file, my-image; give the revisions to " +
		"release, or keep for those that the channel has"
	for name, test := range map[string]struct {
		inputs []string
		want   string
	}{
		"charms of a mistyped step":         {[]string{"charms=", toEdge, image}, noneGiven},
		"from-channel of a mistyped step":   {[]string{"from-channel=", "channel=latest/beta"}, noneGiven},
		"charm-revision of a mistyped step": {[]string{"charm-revision=", toEdge, image}, noneGiven},
		"channel of a mistyped step": {[]string{file, "channel=", image},
			"input channel: missing; give where to release"},
		"resources of a mistyped step": {[]string{file, toEdge, "resources="}, noResources},
		"resources for a revision":     {[]string{"charm-revision=1", toEdge, "resources="}, noResources},
		"resources for kept charm revisions": {[]string{"charm-revision=keep", toEdge, "resources="},
			"input resources: missing, and charm-revision keep releases nothing but them"},
		"charms of a mistyped step, uploaded": {[]string{"charms=", "channel=none"}, noneGiven},
		"resources that are a comma": {[]string{"charm-revision=keep", toEdge, "resources=,"},
			`input resources: "," has an empty entry`},
		"channels that end in a comma": {[]string{"charm-revision=keep", "channel=latest/edge,", image},
			"input channel: entry 2 is empty"},
		"charm revisions that end in one": {[]string{"charm-revision=1,", toEdge, image},
			"input charm-revision: entry 2 is empty"},
		"resources of an upload of nothing": {[]string{"charm-revision=keep", toEdge, "resources=[]"},
			"input resources: an upload's list is empty"},
		"resources kept, where nothing is left": {[]string{"charm-revision=keep", toEdge, "resources=keep"},
			"so nothing would be released"},
		"nothing at all": {[]string{toEdge}, noneGiven},
		"bases of a mistyped step": {[]string{"from-channel=latest/edge", "channel=latest/beta", "bases="},
			"input bases: empty; give the bases to release for, or all"},
		"bases that end in a comma": {[]string{"from-channel=latest/edge", "channel=latest/beta", "bases=24.04,"},
			"input bases: entry 2 is empty"},
		"a base that nothing is for": {[]string{"from-channel=latest/edge", "channel=latest/beta", "bases=24.04 26.04"},
			"release to latest/beta: nothing is for 26.04 of the input bases, but for ubuntu@24.04:amd64"},
		"an architecture by another name": {[]string{"from-channel=latest/edge", "channel=latest/beta", "bases=24.04:x86_64"},
			`"x86_64" is unknown to Charmhub; write amd64`},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Release(t, sandbox, test.inputs...)
			r.ReleaseFailed(t, test.want)
			if text := harness.ErrorText(r); strings.Contains(text, "\n") {
				t.Errorf("more than one sentence: %s", text)
			}
		})
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("requests that change something: %v", sent)
	}
	harness.HasReleases(t, sandbox, onEdge)
}

// TestKeepIsSaid: the words for what an empty input doesn't mean.
func TestKeepIsSaid(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
	file := "charms=" + harness.WriteCharmFile(t, harness.CharmMetadata+"summary: new\n", harness.Noble)
	uploaded := harness.Release(t, sandbox, file, "channel=none")
	uploaded.Succeeded(t)
	uploaded.HasOutputs(t, map[string]string{"charm-revisions": "2", "released": "false"})
	r := harness.Release(t, sandbox, file, "channel=latest/edge", "resources=keep")
	r.Succeeded(t)
	r.Logged(t, "latest/edge for ubuntu 24.04 (amd64): charm revision 2 (was 1) with my-file:1 (kept), my-image:1 "+
		"(kept), released")
	harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 2,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
}

// TestIgnoredBase: a store that ignores bases in a request doesn't replace a newer charm revision by an older one.
// Where that can't be avoided, the error says what to restore.
func TestIgnoredBase(t *testing.T) {
	t.Parallel()
	one, two := harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1},
		harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1}
	start := func(t *testing.T, entries ...server.Release) *server.Server {
		t.Helper()
		sandbox := harness.StartCharm(t, server.Options{IgnoreReleaseBase: true},
			[]server.ReleaseBase{harness.Jammy, harness.Noble}, []server.ReleaseBase{harness.Noble})
		for _, entry := range entries {
			sandbox.PutRelease(harness.Charm, entry)
		}
		return sandbox
	}
	onJammy := server.Release{Channel: "latest/edge", Base: harness.Jammy, Revision: 1, Resources: one}
	onNoble := server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 2, Resources: one}
	promote := []string{"from-channel=latest/edge", "channel=latest/beta"}
	to := func(r server.Release, resources harness.ResourceRevisions) server.Release {
		r.Channel, r.Resources = "latest/beta", resources
		return r
	}
	t.Run("right all the same", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, onJammy, onNoble)
		harness.Release(t, sandbox, promote...).Succeeded(t)
		harness.HasReleases(t, sandbox, to(onJammy, one), to(onNoble, one), onJammy, onNoble)
	})
	t.Run("right where the newer one is there already", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, onJammy, onNoble, to(onNoble, one))
		harness.Release(t, sandbox, promote...).Succeeded(t)
		harness.HasReleases(t, sandbox, to(onJammy, one), to(onNoble, one), onJammy, onNoble)
	})
	t.Run("wrong", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, onJammy, to(onNoble, two))
		r := harness.Release(t, sandbox, promote...)
		r.Reported(t, "release to latest/beta for ubuntu 24.04 (amd64): after the release, charm revision 1 with "+
			"my-file:1, my-image:1 is there instead of "+
			"charm revision 2 with my-file:1, my-image:2; somebody else released at the same time, or the store released for "+
			"a base that it was not asked for; "+
			"look at `charmcraft status my-charm`, and restore it with `charmcraft release my-charm --revision=2 "+
			"--channel=latest/beta --resource=my-file:1 --resource=my-image:2`")
		r.HasOutputs(t, map[string]string{"released": "true"})
	})
	t.Run("other resources on each base", func(t *testing.T) {
		t.Parallel()
		alsoOne := onNoble
		alsoOne.Revision, alsoOne.Resources = 1, two
		sandbox := start(t, onJammy, alsoOne)
		r := harness.Release(t, sandbox, promote...)
		r.Reported(t, "release to latest/beta for ubuntu 22.04 (amd64): after the release, charm revision 1 with "+
			"my-file:1, my-image:2 is there instead of charm revision 1 with my-file:1, my-image:1; ")
		if strings.Contains(r.Log, "22.04 (amd64): charm revision 1 with my-file:1, my-image:1, released") ||
			strings.Contains(r.Outputs["releases"], "22.04") {
			t.Errorf("called released what isn't:\n%s\n%s", harness.WithoutMasks(r.Log), r.Outputs["releases"])
		}
	})
}

// TestIncompleteResources: a list of the resources that a charm revision declares may lack some. What is released with
// the revision, or declared in the charm file, isn't dropped.
func TestIncompleteResources(t *testing.T) {
	t.Parallel()
	both := harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}
	start := func(t *testing.T, list string) *server.Server {
		t.Helper()
		sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble},
			[]server.ReleaseBase{harness.Noble, harness.Jammy})
		sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
			Resources: both})
		sandbox.Fault(func(r server.Request) *server.Fault {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.Path, "/my-charm/resources") {
				return nil
			}
			return &server.Fault{Status: http.StatusOK, Body: list}
		})
		return sandbox
	}
	for name, list := range map[string]string{
		"nothing":                   `{"resources":[]}`,
		"the image":                 `{"resources":[{"name":"my-image","type":"oci-image","revision":1,"optional":false}]}`,
		"of another charm revision": `{"resources":[{"name":"my-image","type":"oci-image","revision":7,"optional":false}]}`,
		"of an unknown one": `{"resources":[{"name":"my-image","type":"oci-image","revision":null,` +
			`"optional":false}]}`,
		"of charm revision 0": `{"resources":[{"name":"my-image","type":"oci-image","revision":0,"optional":false}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1}
			sandbox := start(t, list)
			harness.Release(t, sandbox, "charm-revision=keep", "channel=latest/edge", "resources=my-image:2").Succeeded(t)
			harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
				Resources: after})

			sandbox = start(t, list)
			file := "charms=" + harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble)
			harness.Release(t, sandbox, file, "channel=latest/edge", "resources=my-image:2").Succeeded(t)
			harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
				Resources: after})
		})
	}
}

// TestResourcesOfTheRevision: each charm revision that is released is asked for what it declares, by one request; a
// resource that it doesn't declare isn't carried along.
func TestResourcesOfTheRevision(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{FromZero: true}, []server.ReleaseBase{harness.Noble})
	sandbox.PutCharm(harness.Charm,
		strings.NewReader(charmtest.File(t, "name: my-charm\nresources: {my-image: {type: oci-image}}\n", harness.Noble)))
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 0,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
	sandbox.ResetRequests()
	r := harness.Release(t, sandbox, "charm-revision=1", "channel=latest/edge", "resources=keep")
	r.Warned(t, "Resource 'my-file': charm revision 1 on latest/edge doesn't declare it, and the channel had revision 1 "+
		"of it")
	harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1}})
	asked := 0
	for _, request := range sandbox.Requests() {
		if strings.HasSuffix(request.Path, "/my-charm/resources") {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times for what a charm revision declares", asked)
	}
}

// TestDefaultTrack: a channel without a track means another one to Juju where the charm has a default track.
func TestDefaultTrack(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true,
		Charms: []server.Charm{{Name: harness.Charm, Tracks: []string{"2"}, DefaultTrack: "2"}}})
	sandbox.PutCharm(harness.Charm, strings.NewReader(charmtest.File(t, "name: my-charm\n", harness.Noble)))
	r := harness.Release(t, sandbox, "charm-revision=1", "channel=edge")
	r.ReleaseFailed(t, "input channel: edge names no track, and 2 is the charm's default one; give the channel that is "+
		"meant, 2/edge or latest/edge")
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("requests that change something: %v", sent)
	}
	token := "store-token=" +
		sandbox.Mint(server.Grant{Permissions: []string{"package-view-revisions", "package-manage-releases",
			"package-view-releases"}})
	r = harness.Release(t, sandbox, "charm-revision=1", "channel=edge", token)
	r.ReleaseFailed(t, "input channel: edge names no track, and the store token lacks the permission to ask for the "+
		"charm's default one; give the channel with its track, for example latest/edge")
	harness.Release(t, sandbox, "charm-revision=1", "channel=2/edge", token).Succeeded(t)
	harness.HasReleases(t, sandbox, server.Release{Channel: "2/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{}})
}

// TestCreateTrack: a track that the charm lacks is created where its guardrails allow that. Else the error says who
// can.
func TestCreateTrack(t *testing.T) {
	t.Parallel()
	onEdge := server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}}
	start := func(t *testing.T) *server.Server {
		t.Helper()
		sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
		sandbox.PutRelease(harness.Charm, onEdge)
		return sandbox
	}
	unchanged := func(t *testing.T, sandbox *server.Server) {
		t.Helper()
		if sent := harness.Changes(sandbox); len(sent) > 0 {
			t.Errorf("requests that change something: %v", sent)
		}
		harness.HasReleases(t, sandbox, onEdge)
	}
	const who = "ask Charmhub's administrators for the track, or for a guardrail that allows it, at " +
		"https://discourse.charmhub.io/c/charmhub-requests"
	const from, create = "from-channel=latest/edge", "create-track=true"
	t.Run("created", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t)
		inputs := []string{from, "channel=3.0/edge 3.0/stable/pr-1", create}
		r := harness.Release(t, sandbox, append(inputs, "dry-run=true")...)
		r.Succeeded(t)
		r.Logged(t, "Track 3.0 would be created")
		if !strings.Contains(r.Summary, "\nTrack <code>3&#46;0</code>: to be created\n") {
			t.Errorf("summary:\n%s", r.Summary)
		}
		unchanged(t, sandbox)
		r = harness.Release(t, sandbox, inputs...)
		r.Succeeded(t)
		r.Logged(t, "Created the track 3.0")
		if !strings.Contains(r.Summary, "\nTrack <code>3&#46;0</code>: created\n") {
			t.Errorf("summary:\n%s", r.Summary)
		}
		want := []server.Release{onEdge, onEdge, onEdge}
		want[0].Channel, want[1].Channel = "3.0/edge", "3.0/stable/pr-1"
		harness.HasReleases(t, sandbox, want...)
		if tracks := sandbox.Tracks(harness.Charm); !slices.Equal(tracks, []string{"latest", "2", "3.0"}) {
			t.Errorf("tracks %q", tracks)
		}
		sandbox.ResetRequests()
		r = harness.Release(t, sandbox, inputs...)
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"released": "false"})
		for _, request := range sandbox.Requests() {
			if request.Path == "/v1/charm/my-charm" {
				t.Error("the tracks were asked for, which the channel map has")
			}
		}
	})
	for name, test := range map[string]struct {
		inputs []string
		grant  []string // the token's permissions; none for all
		want   string
	}{
		"not asked for": {
			[]string{from, "channel=3.0/edge"}, nil,
			"release to 3.0/edge: the charm has no track 3.0, but latest, 2; give another channel, or let the action release " +
				"create it, with create-track: true",
		},
		"a mistyped word": {[]string{from, "channel=3.0/edge", "create-track=yes"}, nil,
			`input create-track: "yes" is unknown; write true or false`},
		"no guardrail for it": {[]string{from, "channel=lates/edge", create}, nil,
			`its track guardrails allow only new ones that match [0-9]+\.[0-9]+; correct the channel, or ` + who},
		"no such name": {[]string{from, "channel=3.0_/edge", create}, nil,
			"the charm has no track 3.0_, and none of that name can be created; a track's name has"},
		"nothing to release": {[]string{"charm-revision=keep", "resources=my-image:2", "channel=3.0/edge", create}, nil,
			"release to 3.0/edge: no charm revision is there yet"},
		"a token that may not ask for tracks": {
			[]string{from, "channel=3.0/edge", create},
			[]string{"package-manage", "package-view-revisions", "package-view-releases"},
			"cannot ask for the tracks of charm 'my-charm': ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := start(t)
			if test.grant != nil {
				test.inputs = append(test.inputs, "store-token="+sandbox.Mint(server.Grant{Permissions: test.grant}))
			}
			r := harness.Release(t, sandbox, test.inputs...)
			r.ReleaseFailed(t, test.want)
			if test.grant != nil {
				r.ReleaseFailed(t, "the store token lacks the permission package-view-metadata; make one with `charmcraft login "+
					"--export=token.txt --charm=my-charm "+
					"--permission=package-manage --permission=package-view --ttl=7776000`")
			}
			unchanged(t, sandbox)
		})
	}
	t.Run("a token that may not create tracks", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t)
		token := sandbox.Mint(server.Grant{Permissions: []string{"package-manage-releases", "package-view"}})
		r := harness.Release(t, sandbox, from, "channel=3.0/edge", create, "store-token="+token)
		r.ReleaseFailed(t, "cannot create the track 3.0 of charm 'my-charm': ",
			"the store token lacks the permission package-manage; make one with "+
				"`charmcraft login --export=token.txt --charm=my-charm --permission=package-manage --permission=package-view "+
				"--ttl=7776000`")
		harness.HasReleases(t, sandbox, onEdge)
	})
	t.Run("a charm without guardrails", func(t *testing.T) {
		t.Parallel()
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true, Charms: []server.Charm{{Name: harness.Charm}}})
		sandbox.PutCharm(harness.Charm, strings.NewReader(charmtest.File(t, "name: my-charm\n", harness.Noble)))
		r := harness.Release(t, sandbox, "charm-revision=1", "channel=3.0/edge", create)
		r.ReleaseFailed(t, "the charm has no track 3.0, and no track guardrails, which say what tracks its publishers may "+
			"create; "+who)
	})
	t.Run("somebody else is faster", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t)
		sandbox.Fault(func(r server.Request) *server.Fault {
			if r.Method != http.MethodPost || !strings.HasSuffix(r.Path, "/tracks") {
				return nil
			}
			return &server.Fault{Handle: true, Status: http.StatusConflict,
				Body: `{"error-list":[{"code":"resource-already-exists","message":"Track 3.0 already exists"}]}`}
		})
		harness.Release(t, sandbox, from, "channel=3.0/edge", create).Succeeded(t)
		want := onEdge
		want.Channel = "3.0/edge"
		harness.HasReleases(t, sandbox, want, onEdge)
	})
}

// TestProgressiveRelease: two entries for one channel and base are told, not called unchanged or both sent.
func TestProgressiveRelease(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	const entry = `{"base":{"name":"ubuntu","channel":"24.04","architecture":"amd64"},"channel":"latest/edge",` +
		`"revision":1,"resources":[{"name":"my-image","revision":1}],` +
		`"progressive":{"paused":false,"percentage":50}}`
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.Path, "/releases") {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: `{"channel-map":[` + entry + `,` + entry + `]}`}
	})
	for _, inputs := range [][]string{
		{"charm-revision=keep", "channel=latest/edge", "resources=my-image:2"},
		{"charm-revision=1", "channel=latest/edge", "resources=keep"},
		{"from-channel=latest/edge", "channel=latest/beta"},
	} {
		r := harness.Release(t, sandbox, inputs...)
		r.ReleaseFailed(t, "latest/edge: the channel has two entries for ubuntu 24.04 (amd64), with charm revision 1 and "+
			"charm revision 1, as during a progressive release; end that first")
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("requests that change something: %v", sent)
	}
}

// TestKeptType: what the charm file declares as another type is no resource that it can keep, which is found before the
// file is uploaded.
func TestKeptType(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
	file := "charms=" + harness.WriteCharmFile(t,
		"name: my-charm\nresources:\n  my-image: {type: file}\n  my-file: {type: file}\n", harness.Noble)
	r := harness.Release(t, sandbox, file, "channel=latest/edge", "resources=my-file:2")
	r.ReleaseFailed(t, "release revision 1 of resource 'my-image': that revision is of type oci-image, but a new charm "+
		"revision declares file; give a revision of that type")
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("requests that change something: %v", sent)
	}
}

// TestRequiredResource: a charm that needs its image doesn't reach a channel without one.
func TestRequiredResource(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true,
		Charms: []server.Charm{{Name: harness.Charm, Resources: []server.Resource{
			{Name: harness.ImageResource, Type: server.TypeImage},
			{Name: harness.FileResource, Type: server.TypeFile, Optional: true},
		}}}})
	r := harness.Release(t, sandbox, "charm-revision=1", "channel=latest/stable", "resources=keep")
	r.ReleaseFailed(t, "this charm revision needs resource 'my-image', of which no revision is there")
	harness.HasReleases(t, sandbox)
}

// TestSomeBases: an old base that lacks what its charm revision needs doesn't keep the others from a channel, and what
// isn't asked for stays as it is.
func TestSomeBases(t *testing.T) {
	t.Parallel()
	both := harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}
	focal, nobleArm := harness.Ubuntu("20.04", "amd64"), harness.Ubuntu("24.04", "arm64")
	on := func(channel string, base server.ReleaseBase, revision int, resources harness.ResourceRevisions) server.Release {
		return server.Release{Channel: channel, Base: base, Revision: revision, Resources: resources}
	}
	before := []server.Release{
		on("latest/edge", focal, 1, harness.ResourceRevisions{harness.FileResource: 1}),
		on("latest/edge", harness.Jammy, 2, both), on("latest/edge", harness.Noble, 3, both),
		on("latest/edge", nobleArm, 4, both),
	}
	start := func(
		t *testing.T, options server.Options, revisions [][]server.ReleaseBase, before ...server.Release) *server.Server {
		t.Helper()
		sandbox := harness.StartCharm(t, options, revisions...)
		for _, release := range before {
			sandbox.PutRelease(harness.Charm, release)
		}
		return sandbox
	}
	one := [][]server.ReleaseBase{{focal}, {harness.Jammy}, {harness.Noble}, {nobleArm}}
	promote := []string{"from-channel=latest/edge", "channel=latest/beta"}
	t.Run("promoted", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, server.Options{}, one, before...)
		harness.Release(t, sandbox, promote...).ReleaseFailed(t,
			"for ubuntu 20.04 (amd64): this charm revision needs resource 'my-image', of which no revision is there")
		some := []string{promote[0], promote[1], "bases=ubuntu@22.04 24.04:arm64"}
		dry := harness.Release(t, sandbox, append(some, "dry-run=true")...)
		dry.Succeeded(t)
		harness.HasReleases(t, sandbox, before...)
		r := harness.Release(t, sandbox, some...)
		r.Succeeded(t)
		harness.HasReleases(t, sandbox,
			append([]server.Release{on("latest/beta", harness.Jammy, 2, both), on("latest/beta", nobleArm, 4, both)},
				before...)...)
		for _, r := range []harness.Result{dry, r} {
			r.Logged(t, "latest/beta for ubuntu 20.04 (amd64): left out by the input bases, stays as it is: nothing",
				"latest/beta for ubuntu 24.04 (amd64): left out by the input bases, stays as it is: nothing")
			if !strings.Contains(r.Summary, "Left out by the input bases: ubuntu 20&#46;04 &#40;amd64&#41;, ubuntu 24&#46;04 "+
				"&#40;amd64&#41; on <code>latest/beta</code>") {
				t.Errorf("summary:\n%s", r.Summary)
			}
			if strings.Contains(r.Outputs["releases"], "20.04") {
				t.Errorf("releases %s", r.Outputs["releases"])
			}
		}
		again := harness.Release(t, sandbox, some...)
		again.Succeeded(t)
		again.HasOutputs(t, map[string]string{"released": "false", "charm-revisions": "2 4"})
	})
	t.Run("kept", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, server.Options{}, one, before...)
		harness.Release(t, sandbox, "charm-revision=keep", "channel=latest/edge", "resources=my-image:2",
			"bases=24.04").Succeeded(t)
		after := harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1}
		harness.HasReleases(t, sandbox, before[0], before[1], on("latest/edge", harness.Noble, 3, after),
			on("latest/edge", nobleArm, 4, after))
	})
	t.Run("uploaded", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, server.Options{}, one, before...)
		old := harness.WriteCharmFile(t, harness.CharmMetadata+"summary: one\n", focal)
		// so that it is known which revision the other one is
		sandbox.PutCharm(harness.Charm, strings.NewReader(harness.ReadFile(t, old)))
		files := old + " " + harness.WriteCharmFile(t, harness.CharmMetadata+"summary: two\n", harness.Noble)
		r := harness.Release(t, sandbox, "charms="+files, "channel=latest/edge", "resources=keep", "bases=24.04")
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"charm-revisions": "5 6", "released": "true"})
		r.Logged(t, "latest/edge for ubuntu 20.04 (amd64): left out by the input bases, stays as it is: charm revision 1 "+
			"with my-file:1")
		harness.HasReleases(t, sandbox, before[0], before[1], on("latest/edge", harness.Noble, 6, both), before[3])
	})
	two, onBeta := [][]server.ReleaseBase{{harness.Jammy}, {harness.Jammy, harness.Noble}},
		on("latest/beta", harness.Jammy, 1, both)
	edge := []server.Release{on("latest/edge", harness.Jammy, 2, both), on("latest/edge", harness.Noble, 2, both)}
	t.Run("one of a charm revision's bases", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, server.Options{}, two, append(edge, onBeta)...)
		harness.Release(t, sandbox, append(promote, "bases=24.04")...).Succeeded(t)
		harness.HasReleases(t, sandbox, append([]server.Release{onBeta, on("latest/beta", harness.Noble, 2, both)},
			edge...)...)
	})
	t.Run("one of a charm revision's bases, refused", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, server.Options{NoReleaseBase: true}, two, append(edge, onBeta)...)
		r := harness.Release(t, sandbox, append(promote, "bases=24.04")...)
		r.ReleaseFailed(t, "one charm revision is also for bases that the input bases leaves out, for which the request "+
			"has to name a base, and the store may not take that; "+
			"release it for all of its bases, or make a charm file for each")
		harness.HasReleases(t, sandbox, append([]server.Release{onBeta}, edge...)...)
	})
	t.Run("one of a charm revision's bases, ignored", func(t *testing.T) {
		t.Parallel()
		sandbox := start(t, server.Options{IgnoreReleaseBase: true}, two, append(edge, onBeta)...)
		r := harness.Release(t, sandbox, append(promote, "bases=24.04")...)
		r.Reported(t, "release to latest/beta for ubuntu 22.04 (amd64): after the release, charm revision 2 with "+
			"my-file:1, my-image:1 is there instead of "+
			"charm revision 1 with my-file:1, my-image:1; ")
		r.Reported(t, "restore it with `charmcraft release my-charm --revision=1 --channel=latest/beta "+
			"--resource=my-file:1 --resource=my-image:1`")
	})
}

// TestRevisionsThatTheMapLacks: bases of a charm revision that the channel map's answer lacks are looked up, so that
// its image isn't released for bases that nobody asked for.
func TestRevisionsThatTheMapLacks(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Jammy, harness.Noble},
		[]server.ReleaseBase{harness.Noble})
	const resources = `"resources":[{"name":"my-image","revision":1},{"name":"my-file","revision":1}]`
	before := []server.Release{
		{Channel: "latest/edge", Base: harness.Jammy, Revision: 1,
			Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}},
		{Channel: "latest/edge", Base: harness.Noble, Revision: 2,
			Resources: harness.ResourceRevisions{harness.ImageResource: 2, harness.FileResource: 1}},
	}
	for _, entry := range before {
		sandbox.PutRelease(harness.Charm, entry)
	}
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.Path, "/releases") || len(sandbox.Releases(harness.Charm)) > 2 {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: `{"channel-map":[{"base":{"name":"ubuntu","channel":"22.04",` +
			`"architecture":"amd64"},` +
			`"channel":"latest/edge","revision":1,` + resources + `}]}`}
	})
	harness.Release(t, sandbox, "from-channel=latest/edge", "channel=latest/beta").Succeeded(t)
	beta := before[0]
	beta.Channel = "latest/beta"
	harness.HasReleases(t, sandbox, append([]server.Release{beta}, before...)...)
}

// TestRevisionOfSecondsAgo: a store that doesn't know yet what was made seconds ago is asked again.
func TestRevisionOfSecondsAgo(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	var requests atomic.Int64
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.Path, "/releases") || requests.Add(1) > 2 {
			return nil
		}
		return &server.Fault{Status: http.StatusNotFound,
			Body: `{"error-list":[{"code":"resource-not-found","message":"Revision 1 not found for my-charm"}]}`}
	})
	harness.Release(t, sandbox, "charm-revision=1", "channel=latest/edge", "resources=my-image:1 my-file:1").Succeeded(t)
	harness.HasReleases(t, sandbox, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
}

// TestOneOfTwoFiles: if one charm file is rejected, the revision of the other is told.
func TestOneOfTwoFiles(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	files := harness.WriteCharmFile(t, harness.CharmMetadata+"summary: one\n", harness.Noble) + " " +
		harness.WriteCharmFile(t, harness.CharmMetadata+"summary: two\n", harness.Jammy)
	var uploads atomic.Int64
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Server != "storage" || uploads.Add(1) != 2 {
			return nil
		}
		return &server.Fault{Status: http.StatusBadRequest, Body: "no"}
	})
	r := harness.Release(t, sandbox, "charms="+files, "channel=latest/edge", "resources=my-image:1")
	r.Reported(t, "upload ")
	r.HasOutputs(t, map[string]string{"charm-revisions": "2", "released": "false", "releases": "[]"})
	harness.HasReleases(t, sandbox)
}

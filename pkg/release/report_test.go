package release

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
)

var jammy = charm.Base{Name: "ubuntu", Channel: "22.04", Architecture: "amd64"}

// reported collects what is reported.
type reported struct {
	log     *zap.Logger
	summary string
}

// Logger returns the test's logger.
func (r *reported) Logger() *zap.Logger { return r.log }

// AddSummary appends the text to the summary.
func (r *reported) AddSummary(text string) error { r.summary += text; return nil }

// SetOutputs drops the outputs.
func (*reported) SetOutputs(...action.Output) error { return nil }

// entry is on latest/edge.
func entry(base charm.Base, revision int, resources map[string]int) charmhub.Release {
	return charmhub.Release{Channel: charmhub.Channel{Track: "latest", Risk: "edge"}, Base: base, Revision: revision,
		Resources: resources}
}

func TestReport(t *testing.T) {
	type with = map[string]int
	const none = charmhub.NoRevision
	plan := func(rows ...channelmap.Row) channelmap.Plan {
		p := channelmap.Plan{Rows: rows}
		for _, row := range rows {
			if row.Changed() {
				p.Entries = append(p.Entries, row.After)
			}
		}
		return p
	}
	before, after := entry(noble, 1, with{"file": 4, "image": 1}),
		entry(noble, 2, with{"file": none, "image": 2, "proxy": 7, "unused": none})
	same := entry(jammy, 1, with{"image": 1})
	// Two of these are on the channel now, one is there already, and one is not released.
	digests := map[string]string{"image": "sha256:aa", "proxy": "sha256:bb", "same": "sha256:cc", "other": "sha256:dd"}
	before.Resources["same"], after.Resources["same"] = 3, 3
	planned, elsewhere := entry(jammy, -1, with{"image": 1}), charmhub.Release{Channel: beta}
	file := CharmFile{Archive: charm.Archive{Bases: []charm.Base{noble}}, Path: "my.charm", Revision: 2, Created: true}
	plannedFile := CharmFile{Archive: charm.Archive{Bases: []charm.Base{jammy}}, Path: "my.charm", Revision: -1}
	branch := charmhub.Release{Channel: charmhub.Channel{Track: "latest", Risk: "edge", Branch: "pr-12"}, Base: noble,
		Revision: 2}
	tests := map[string]struct {
		done Result
		log  []string
	}{
		"new-channel": {
			Result{Charm: "my-charm", Released: true, Plan: plan(channelmap.Row{After: branch, NewChannel: true})},
			[]string{"latest/edge/pr-12 for ubuntu 24.04 (amd64): charm revision 2, released", "Done in 2.00 s: released"},
		},
		"release": {
			Result{Charm: "my-charm", Released: true, Charms: []CharmFile{file}, Digests: digests, Plan: plan(
				channelmap.Row{Before: &same, After: same}, channelmap.Row{Before: &before, After: after})},
			[]string{
				"latest/edge for ubuntu 22.04 (amd64): charm revision 1 with image:1, unchanged",
				"latest/edge for ubuntu 24.04 (amd64): charm revision 2 (was 1) with no file (was 4), image:2 (was 1), proxy:7, " +
					"same:3, released",
				"Done in 2.00 s: released",
			},
		},
		"left-out": {
			Result{Charm: "my-charm", Released: true, Plan: channelmap.Plan{
				Rows: []channelmap.Row{{Before: &before, After: after}}, Entries: []charmhub.Release{after},
				NewTracks: []string{"2.0", "lts"},
				LeftOut: []channelmap.Row{{After: elsewhere}, {After: planned}, {Before: &same, After: planned},
					{Before: &before, After: after}},
			}},
			[]string{
				"latest/edge for ubuntu 24.04 (amd64): charm revision 2 (was 1) with no file (was 4), image:2 (was 1), proxy:7, " +
					"same:3, released",
				"latest/beta for any base: left out by the input bases, stays as it is: nothing",
				"latest/edge for ubuntu 22.04 (amd64): left out by the input bases, stays as it is: nothing",
				"latest/edge for ubuntu 22.04 (amd64): left out by the input bases, stays as it is: charm revision 1 with image:1",
				"latest/edge for ubuntu 24.04 (amd64): left out by the input bases, stays as it is: charm revision 1 with " +
					"file:4, image:1, same:3",
				"Done in 2.00 s: released",
			},
		},
		"unchanged": {
			Result{Charm: "my-charm", Plan: plan(channelmap.Row{Before: &same, After: same})},
			[]string{"latest/edge for ubuntu 22.04 (amd64): charm revision 1 with image:1, unchanged",
				"Done in 2.00 s: unchanged"},
		},
		"dry-run": {
			Result{Charm: "my-charm", DryRun: true, Charms: []CharmFile{plannedFile},
				Plan: plan(channelmap.Row{Before: &same, After: planned})},
			[]string{
				"latest/edge for ubuntu 22.04 (amd64): charm revision to be created (was 1) with image:1, to be released",
				"Done in 2.00 s: dry run, nothing was released",
			},
		},
		"upload": {
			Result{Charm: "my-charm", Charms: []CharmFile{file}},
			[]string{"Done in 2.00 s: uploaded, nothing to release"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			core, lines := observer.New(zap.InfoLevel)
			to := &reported{log: zap.New(core)}
			if err := Report(to, 2*time.Second, "https://charmhub.io", test.done); err != nil {
				t.Fatal(err)
			}
			testkit.Golden(t, "summary."+name+".md", to.summary)
			var log []string
			for _, line := range lines.All() {
				log = append(log, line.Message)
			}
			if diff := cmp.Diff(test.log, log); diff != "" {
				t.Errorf("log differs (-want +got):\n%s", diff)
			}
		})
	}
}

// What comes from outside stays in its cell or command, and is nothing but text there.
func TestReleaseSummaryEscapes(t *testing.T) {
	const hostile = "a|b\n\n# c <script>`x` @all [d](https://e.example) </code></pre>"
	base := charm.Base{Name: hostile, Channel: hostile, Architecture: hostile}
	after := entry(base, 1, map[string]int{hostile: 1})
	after.Channel.Branch = hostile
	done := Result{
		Charm: hostile, Released: true,
		Charms: []CharmFile{{Archive: charm.Archive{Bases: []charm.Base{base}}, Path: hostile}},
		Plan: channelmap.Plan{Rows: []channelmap.Row{{After: after}}, LeftOut: []channelmap.Row{{After: after}},
			Entries: []charmhub.Release{after}},
	}
	shape := regexp.MustCompile(`^(|Left out by the input bases: [^<>]* on <code>[^<>]*</code>|### Charm <a ` +
		`href="https://charmhub[.]io/[^<>" ]*"><code>[^<>]*</code></a>: released|\|( [^|]* \|)+|\|(---\|)+|Make Juju use ` +
		`it:|<pre>juju refresh [^<>]*|</pre>)$`)
	for line := range strings.Lines(done.Summary("https://charmhub.io")) {
		line = strings.TrimSuffix(line, "\n")
		if !shape.MatchString(line) || strings.Contains(line, "script>") || strings.Contains(line, "@all") ||
			strings.Contains(line, "](") {
			t.Errorf("hostile text got through: %q", line)
		}
	}
}

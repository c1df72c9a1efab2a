package release

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
)

// planOf sends the rows that change.
func planOf(rows ...channelmap.Row) channelmap.Plan {
	plan := channelmap.Plan{Rows: rows}
	for _, row := range rows {
		if row.Changed() {
			plan.Entries = append(plan.Entries, row.After)
		}
	}
	return plan
}

func TestReleaseOutputs(t *testing.T) {
	file := func(revision int, created bool) CharmFile {
		return CharmFile{Path: "my.charm", Archive: charm.Archive{Bases: []charm.Base{noble, nobleArm}}, Revision: revision,
			Created: created}
	}
	before, same := withImage(1), withImage(2)
	after := fromFile(edge, 5)
	after.Base = noble
	planned, anyBase := after, fromFile(beta, 0)
	planned.Revision = -1
	const place = `"channel":"latest/edge","base":{"name":"ubuntu","channel":"24.04","architecture":"amd64"},`
	const was = `"before":{"revision":1,"resources":{"my-image":1}},`
	for name, test := range map[string]struct {
		done      Result
		revisions string
		releases  string
		last      string
		summary   []string
	}{
		"released": {
			Result{Released: true, Charms: []CharmFile{file(5, true)},
				Plan: planOf(channelmap.Row{Before: &before, After: after})},
			"5", `[{` + place + `"revision":5,"resources":{"my-image":2},` + was +
				`"changed":true,"kept":{"revision":false,"resources":[]}}]`, "released",
			[]string{action.Code("my.charm"), "**5**, new", listBases([]charm.Base{noble, nobleArm}), "latest/edge"},
		},
		"unchanged": {
			Result{Plan: planOf(channelmap.Row{Before: &same, After: same})},
			"1", `[{` + place + `"revision":1,"resources":{"my-image":2},"before":{"revision":1,"resources":{"my-image":2}},` +
				`"changed":false,"kept":{"revision":false,"resources":[]}}]`, "unchanged",
			[]string{"latest/edge", "unchanged"},
		},
		"to a place without a base, where nothing was": {
			Result{Released: true, Charms: []CharmFile{file(0, true)}, Plan: planOf(channelmap.Row{After: anyBase})},
			"0", `[{"channel":"latest/beta","base":null,"revision":0,"resources":{"my-image":2},"before":null,"changed":true,` +
				`"kept":{"revision":false,"resources":[]}}]`, "released",
			[]string{"latest/beta", "any base"},
		},
		"revisions once, of all places": {
			Result{Plan: planOf(channelmap.Row{Before: &same, After: same}, channelmap.Row{Before: &after, After: after},
				channelmap.Row{Before: &same, After: same})},
			"1 5", "", "unchanged", nil,
		},
		"revisions of files alone": {
			Result{Released: true, Charms: []CharmFile{file(7, true), file(6, false)},
				Plan: planOf(channelmap.Row{Before: &before, After: after})},
			"7 6", "", "released", []string{"**7**, new", "**6**, unchanged"},
		},
		"a dry run": {
			Result{DryRun: true, Charms: []CharmFile{file(-1, false)},
				Plan: planOf(channelmap.Row{Before: &before, After: planned})},
			"", `[{` + place + `"revision":null,"resources":{"my-image":2},` + was +
				`"changed":true,"kept":{"revision":false,"resources":[]}}]`, "dry run, nothing was released",
			[]string{"would be created (dry run)", "latest/edge"},
		},
		"a dry run of nothing": {
			Result{DryRun: true, Plan: planOf(channelmap.Row{Before: &same, After: same})}, "1", "",
			"dry run, nothing would change", []string{"dry run, nothing would change"},
		},
		"what is kept": {
			Result{Plan: planOf(channelmap.Row{Before: &same, After: same, KeepsRevision: true,
				KeptResources: []string{"my-image"}})},
			"1", `[{` + place + `"revision":1,"resources":{"my-image":2},"before":{"revision":1,"resources":{"my-image":2}},` +
				`"changed":false,` +
				`"kept":{"revision":true,"resources":["my-image"]}}]`, "unchanged",
			[]string{"| 1 (kept), unchanged | my-image&#58;2 (kept) |"},
		},
		"one of two files failed": {
			Result{Failed: true, Charms: []CharmFile{file(-1, false), file(6, true)}}, "6", "[]", "failed",
			[]string{"my-charm</code>: failed", "**failed**", "**6**, new"},
		},
		"what the channel map doesn't show": {
			Result{Failed: true, Released: true, NotShown: []channelmap.Row{{After: anyBase}},
				Plan: planOf(channelmap.Row{After: anyBase}, channelmap.Row{Before: &same, After: same})},
			"1", "", "failed", []string{"**0**, sent, but not on the channel map"},
		},
		"uploaded alone": {Result{Charms: []CharmFile{file(3, true)}}, "3", "[]", "uploaded, nothing to release",
			[]string{"**3**, new"}},
		"there, without a channel": {Result{Charms: []CharmFile{file(3, false)}}, "3", "[]", "unchanged",
			[]string{"**3**, unchanged"}},
		"a dry run of an upload": {
			Result{DryRun: true, Charms: []CharmFile{file(-1, false)}}, "", "[]", "dry run, nothing was uploaded",
			[]string{"would be created (dry run)"},
		},
		"a dry run of no upload": {Result{DryRun: true, Charms: []CharmFile{file(3, false)}}, "3", "[]",
			"dry run, nothing would change", []string{"**3**, unchanged"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.done.Charm = "my-charm"
			list, err := test.done.Outputs()
			if err != nil {
				t.Fatal(err)
			}
			want := []action.Output{
				{Name: "charm-revisions", Value: test.revisions},
				{Name: "released", Value: map[bool]string{true: "true", false: "false"}[test.done.Released]},
				{Name: "releases", Value: test.releases},
			}
			if test.releases == "" {
				want[2] = list[2]
			}
			if diff := cmp.Diff(want, list); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			summary := test.done.Summary("")
			for _, want := range append(test.summary, "my-charm") {
				if !strings.Contains(summary, want) {
					t.Errorf("the summary has no %q:\n%s", want, summary)
				}
			}
			runner, out := newRunner(env{})
			if err := Report(runner, time.Second, "", test.done); err != nil {
				t.Fatal(err)
			}
			for _, row := range test.done.Plan.Rows {
				if line := row.After.Channel.String() + " for " + row.After.Base.String() +
					": "; !strings.Contains(out.String(), line) {
					t.Errorf("the log has no %q:\n%s", line, out)
				}
			}
			for _, line := range []string{"Done in 1.00 s: " + test.last + "\n", "charm-revisions=" + test.revisions + "\n"} {
				if !strings.Contains(out.String(), line) {
					t.Errorf("the log has no %q:\n%s", line, out)
				}
			}
		})
	}
}

// deaf takes no outputs.
type deaf struct{ *action.Runner }

// SetOutputs always fails.
func (deaf) SetOutputs(...action.Output) error { return errors.New("no outputs") }

// A summary that can't be written is a warning, outputs that can't be set are an error.
func TestReportFails(t *testing.T) {
	runner, out := newRunner(env{"GITHUB_STEP_SUMMARY": filepath.Join(t.TempDir(), "no", "folder")})
	done := Result{Charm: "my-charm", Released: true, Plan: planOf(channelmap.Row{After: withImage(2)})}
	if err := Report(runner, time.Second, "", done); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Warning: cannot add to the step's summary", "Done in 1.00 s: released\n",
		"released=true\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was not printed:\n%s", want, out)
		}
	}
	wantError(t, Report(deaf{runner}, time.Second, "", done), "no outputs")
}

func TestDescribeRelease(t *testing.T) {
	for want, release := range map[string]*charmhub.Release{
		"nothing":                            nil,
		"charm revision 0":                   {Resources: map[string]int{"a": charmhub.NoRevision}},
		"a new charm revision with a:0, b:3": {Revision: -1, Resources: map[string]int{"b": 3, "a": 0}},
	} {
		if got := describe(release); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

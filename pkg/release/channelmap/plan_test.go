package channelmap

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

const none = charmhub.NoRevision

// with are the revisions of resources.
type with = map[string]int

// ubuntu returns the base of an Ubuntu release, such as 24.04, for an architecture.
func ubuntu(channel, architecture string) charm.Base {
	return charm.Base{Name: "ubuntu", Channel: channel, Architecture: architecture}
}

var (
	focal = ubuntu("20.04", "amd64")
	jammy = ubuntu("22.04", "amd64")
	noble = ubuntu("24.04", "amd64")

	// all are three bases for two architectures each, and revision 11 to 16 of the charm are each for one of them.
	all = []charm.Base{focal, ubuntu("20.04", "arm64"), jammy, ubuntu("22.04", "arm64"), noble, ubuntu("24.04", "arm64")}
)

// channel parses the name of a channel and fails the test if it is invalid.
func channel(t *testing.T, name string) charmhub.Channel {
	t.Helper()
	c, err := charmhub.ParseChannel(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// channels parses the names of several channels.
func channels(t *testing.T, names ...string) []charmhub.Channel {
	t.Helper()
	var all []charmhub.Channel
	for _, name := range names {
		all = append(all, channel(t, name))
	}
	return all
}

// entry is a release by its channel's name; an entry to be sent has no base.
type entry struct {
	channel   string
	base      charm.Base
	revision  int
	resources with
}

// releases returns a channel map with the entries and the tracks latest and 2.
func releases(t *testing.T, entries ...entry) charmhub.Releases {
	t.Helper()
	r := charmhub.Releases{Tracks: []string{"latest", "2"}}
	for _, e := range entries {
		r.Map = append(r.Map, charmhub.Release{Channel: channel(t, e.channel), Base: e.base, Revision: e.revision,
			Resources: e.resources})
	}
	return r
}

// known is a store with the charm revisions 1, for jammy and noble, and 11 to 16. All declare an image and an optional
// file, and 2 to 5 of the image, 0 and 1 of the file are there.
func known(t *testing.T, entries ...entry) Known {
	t.Helper()
	k := Known{
		Releases:  releases(t, entries...),
		Revisions: []charmhub.CharmRevision{{Revision: 1, Bases: []charm.Base{jammy, noble}}},
		Resources: map[string][]charmhub.Revision{
			"image": {{Revision: 5}, {Revision: 4}, {Revision: 3}, {Revision: 2, Type: charm.TypeFile}},
			"file":  {{Revision: 1}, {Revision: 0}},
		},
		Declared: map[int][]charmhub.Resource{},
	}
	for n, base := range all {
		k.Revisions = append(k.Revisions, charmhub.CharmRevision{Revision: 11 + n, Bases: []charm.Base{base}})
	}
	for _, r := range k.Revisions {
		k.Declared[r.Revision] = []charmhub.Resource{
			{Name: "image", Type: charm.TypeImage}, {Name: "file", Type: charm.TypeFile, Optional: true},
		}
	}
	return k
}

// onAll is a channel with revision 11 to 16 on it.
func onAll(name string, resources with) []entry {
	var entries []entry
	for n, base := range all {
		entries = append(entries, entry{name, base, 11 + n, resources})
	}
	return entries
}

func TestPlan(t *testing.T) {
	six := []int{11, 12, 13, 14, 15, 16}
	tests := map[string]struct {
		now    []entry
		wanted Wanted
		to     []string
		rows   int
		send   []entry

		otherwise bool // with a store that ignores bases
	}{
		"a new charm": {
			wanted: Wanted{Revisions: []int{1}, Resources: with{"image": 3, "file": 1}}, to: []string{"latest/edge"},
			rows: 2, send: []entry{{"latest/edge", charm.Base{}, 1, with{"image": 3, "file": 1}}},
		},
		"a new charm for each base": {
			wanted: Wanted{Revisions: six, Resources: with{"image": 3}}, to: []string{"latest/edge"},
			rows: 6, send: withoutBases(onAll("latest/edge", with{"image": 3, "file": none})),
		},
		"all is so already": {
			now:    onAll("latest/edge", with{"image": 3}),
			wanted: Wanted{Revisions: six, Resources: with{"image": 3}}, to: []string{"latest/edge"},
			rows: 6,
		},
		"only the image changed": {
			now:    onAll("latest/edge", with{"image": 3, "file": 0}),
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"latest/edge"},
			rows: 6, send: withoutBases(onAll("latest/edge", with{"image": 4, "file": 0})),
		},
		"the image changed for one base, and then for the others": {
			now: append([]entry{{"latest/edge", focal, 11, with{"image": 4, "file": 1}}},
				onAll("latest/edge", with{"image": 3, "file": 1})[1:]...),
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"latest/edge"},
			rows: 6, send: withoutBases(onAll("latest/edge", with{"image": 4, "file": 1})[1:]),
		},
		"one charm revision for two bases": {
			now:    []entry{{"latest/edge", jammy, 1, with{"image": 3}}, {"latest/edge", noble, 1, with{"image": 3}}},
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"latest/edge"},
			rows: 2, send: []entry{{"latest/edge", charm.Base{}, 1, with{"image": 4, "file": none}}},
		},
		"other revisions of the charm take over the resources that are there": {
			now: []entry{{"latest/edge", jammy, 1, with{"image": 3, "file": 1}},
				{"latest/edge", noble, 1, with{"image": 4, "file": 0}}},
			wanted: Wanted{Revisions: []int{13, 15, 13}}, to: []string{"latest/edge"},
			rows: 2, send: []entry{{"latest/edge", charm.Base{}, 13, with{"image": 3, "file": 1}},
				{"latest/edge", charm.Base{}, 15, with{"image": 4, "file": 0}}},
		},
		"promote": {
			now:    onAll("latest/edge", with{"image": 3, "file": 1}),
			wanted: Wanted{From: channel(t, "latest/edge")}, to: []string{"latest/candidate"},
			rows: 6, send: withoutBases(onAll("latest/candidate", with{"image": 3, "file": 1})),
		},
		"promote one charm revision with other resources on each base": {
			now:    []entry{{"latest/edge", jammy, 1, with{"image": 3, "file": 0}}, {"latest/edge", noble, 1, with{"image": 4}}},
			wanted: Wanted{From: channel(t, "latest/edge")}, to: []string{"latest/candidate"},
			otherwise: true, rows: 2, send: []entry{{"latest/candidate", jammy, 1, with{"image": 3, "file": 0}},
				{"latest/candidate", noble, 1, with{"image": 4, "file": none}}},
		},
		"promote it again": {
			now: []entry{
				{"latest/candidate", jammy, 1, with{"image": 3, "file": 0}},
				{"latest/candidate", noble, 1, with{"image": 4, "file": none}},
				{"latest/edge", jammy, 1, with{"image": 3, "file": 0}}, {"latest/edge", noble, 1, with{"image": 4}},
			},
			wanted: Wanted{From: channel(t, "latest/edge")}, to: []string{"latest/candidate"},
			rows: 2,
		},
		"promote it after one of the two": {
			now: []entry{
				{"latest/candidate", jammy, 1, with{"image": 3, "file": 0}}, {"latest/candidate", noble, 15, with{"image": 4}},
				{"latest/edge", jammy, 1, with{"image": 3, "file": 0}}, {"latest/edge", noble, 1, with{"image": 4}},
			},
			wanted: Wanted{From: channel(t, "latest/edge")}, to: []string{"latest/candidate"},
			otherwise: true, rows: 2, send: []entry{{"latest/candidate", noble, 1, with{"image": 4, "file": none}}},
		},
		"promote one image for all bases": {
			now: []entry{{"latest/edge", jammy, 1, with{"image": 3, "file": 0}},
				{"latest/edge", noble, 1, with{"image": 4, "file": 0}}},
			wanted: Wanted{From: channel(t, "latest/edge"), Resources: with{"image": 5}}, to: []string{"latest/candidate"},
			rows: 2, send: []entry{{"latest/candidate", charm.Base{}, 1, with{"image": 5, "file": 0}}},
		},
		"promote a charm revision that is not there for all of its bases": {
			now:    []entry{{"latest/edge", jammy, 1, with{"image": 3}}, {"latest/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{From: channel(t, "latest/edge")}, to: []string{"latest/beta"},
			rows: 2, send: []entry{{"latest/beta", jammy, 1, with{"image": 3, "file": none}},
				{"latest/beta", charm.Base{}, 15, with{"image": 3, "file": none}}},
		},
		"to a branch": {
			now:    []entry{{"latest/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{From: channel(t, "latest/edge"), Resources: with{"image": 4}}, to: []string{"latest/edge/pr-1"},
			rows: 1, send: []entry{{"latest/edge/pr-1", charm.Base{}, 15, with{"image": 4, "file": none}}},
		},
		"from a branch": {
			now:    []entry{{"latest/edge/pr-1", noble, 15, with{"image": 4}}, {"latest/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{From: channel(t, "latest/edge/pr-1")}, to: []string{"latest/edge"},
			rows: 1, send: []entry{{"latest/edge", charm.Base{}, 15, with{"image": 4, "file": none}}},
		},
		"to several channels, each with what it has": {
			now: []entry{
				{"latest/edge", noble, 15, with{"image": 4, "file": 0}}, {"latest/beta", noble, 15, with{"image": 3, "file": 1}},
				{"2/edge", noble, 15, with{"image": 3}},
			},
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"latest/edge", "latest/beta", "2/edge", "latest/beta"},
			rows: 3, send: []entry{{"2/edge", charm.Base{}, 15, with{"image": 4, "file": none}},
				{"latest/beta", charm.Base{}, 15, with{"image": 4, "file": 1}}},
		},
		"revision 0 of a resource": {
			now:    []entry{{"latest/edge", noble, 15, with{"image": 4, "file": 1}}},
			wanted: Wanted{Resources: with{"file": 0}}, to: []string{"latest/edge"},
			rows: 1, send: []entry{{"latest/edge", charm.Base{}, 15, with{"image": 4, "file": 0}}},
		},
		"what is there for no base is there for each": {
			now:    []entry{{"latest/edge", charm.Base{}, 15, with{"image": 4}}},
			wanted: Wanted{Revisions: []int{15}}, to: []string{"latest/edge"},
			rows: 1,
		},
		"a charm revision of which the store tells nothing": {
			now:    []entry{{"latest/edge", noble, 9, with{"image": 3, "other": 7}}},
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"latest/edge"},
			rows: 1, send: []entry{{"latest/edge", noble, 9, with{"image": 4, "other": 7}}},
		},
		"revision 0 of the charm": {
			now:    []entry{{"latest/edge", noble, 0, with{"other": 1}}, {"2/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"2/edge"},
			rows: 1, send: []entry{{"2/edge", charm.Base{}, 15, with{"image": 4, "file": none}}},
		},
		"a resource that the store's list lacks": {
			now:    []entry{{"latest/edge", noble, 15, with{"image": 3, "unlisted": 2, "unused": none}}},
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"latest/edge"},
			rows: 1, send: []entry{{"latest/edge", charm.Base{}, 15,
				with{"image": 4, "file": none, "unlisted": 2, "unused": none}}},
		},
		"one that is on another channel": {
			now: []entry{{"latest/edge", noble, 15, with{"image": 3}},
				{"latest/beta", noble, 15, with{"image": 3, "unlisted": 2}}},
			wanted: Wanted{Resources: with{"image": 4}}, to: []string{"latest/edge"},
			rows: 1, send: []entry{{"latest/edge", charm.Base{}, 15, with{"image": 4, "file": none, "unlisted": none}}},
		},
		"bases that are named are first": {
			now: []entry{{"latest/edge", jammy, 1, with{"image": 3}}, {"latest/edge", noble, 15, with{"image": 3}},
				{"latest/edge", focal, 11, with{"image": 3}}},
			wanted: Wanted{From: channel(t, "latest/edge")}, to: []string{"latest/beta"}, rows: 3,
			send: []entry{
				{"latest/beta", jammy, 1, with{"image": 3, "file": none}},
				{"latest/beta", charm.Base{}, 11, with{"image": 3, "file": none}},
				{"latest/beta", charm.Base{}, 15, with{"image": 3, "file": none}},
			},
		},
		"what a store that ignores bases would replace is sent as well": {
			now: []entry{
				{"latest/edge", jammy, 1, with{"image": 3}}, {"latest/edge", noble, 15, with{"image": 3}},
				{"latest/beta", noble, 15, with{"image": 3}}, {"latest/beta", focal, 11, with{"image": 3}},
			},
			wanted: Wanted{From: channel(t, "latest/edge")}, to: []string{"latest/beta"}, rows: 2,
			send: []entry{{"latest/beta", jammy, 1, with{"image": 3, "file": none}},
				{"latest/beta", charm.Base{}, 15, with{"image": 3, "file": none}}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.wanted.Channels = channels(t, test.to...)
			k := known(t, test.now...)
			plan, err := New(test.wanted, k)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(releases(t, test.send...).Map, plan.Entries); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			if len(plan.Rows) != test.rows || slices.ContainsFunc(plan.Rows, Row.Changed) != (len(test.send) > 0) {
				t.Errorf("rows %+v", plan.Rows)
			}
			after := carryOut(k, plan, false)
			if unmet := plan.Unmet(after); len(unmet) > 0 {
				t.Errorf("not so after it: %+v", unmet)
			}
			if !test.otherwise {
				ignored := carryOut(k, plan, true)
				if unmet := plan.Unmet(ignored); len(unmet) > 0 || len(plan.Conflicts(ignored)) > 0 {
					t.Errorf("with a store that ignores bases: not so after it: %+v, in the way: %+v", unmet, plan.Conflicts(ignored))
				}
			}
			k.Releases = after
			if again, err := New(test.wanted, k); err != nil || len(again.Entries) > 0 {
				t.Errorf("the second time: %+v, %v", again.Entries, err)
			}
		})
	}
}

// filters are those of the input bases.
func filters(t *testing.T, texts ...string) (list []charm.BaseFilter) {
	t.Helper()
	for _, text := range texts {
		filter, err := charm.ParseBaseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, filter)
	}
	return list
}

// TestPlanOfSomeBases: only the bases that are asked for are released. What the others lack is nobody's concern.
func TestPlanOfSomeBases(t *testing.T) {
	edge := channel(t, "latest/edge")
	for name, test := range map[string]struct {
		now     []entry
		wanted  Wanted
		bases   []string
		to      []string
		rows    int
		send    []entry
		leftOut []entry // with what is there in the place of what is left out

		otherwise bool // with a store that ignores bases
	}{
		"an old base lacks a required resource": {
			now:    []entry{{"latest/edge", focal, 11, nil}, {"latest/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{From: edge}, bases: []string{"24.04"}, to: []string{"latest/beta"},
			rows: 1, send: []entry{{"latest/beta", charm.Base{}, 15, with{"image": 3, "file": none}}},
			leftOut: []entry{{"latest/beta", focal, -1, nil}},
		},
		"an old base has a revision of another type": {
			now: []entry{{"latest/beta", focal, 11, with{"image": 3}}, {"latest/edge", focal, 11, with{"image": 2}},
				{"latest/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{From: edge}, bases: []string{"ubuntu@24.04:amd64"}, to: []string{"latest/beta"},
			rows: 1, send: []entry{{"latest/beta", charm.Base{}, 15, with{"image": 3, "file": none}}},
			leftOut: []entry{{"latest/beta", focal, 11, with{"image": 3}}},
		},
		"an old base has a progressive release": {
			now: []entry{{"latest/edge", focal, 11, with{"image": 3}}, {"latest/edge", focal, 12, with{"image": 3}},
				{"latest/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{From: edge}, bases: []string{"24.04"}, to: []string{"latest/beta"},
			rows: 1, send: []entry{{"latest/beta", charm.Base{}, 15, with{"image": 3, "file": none}}},
			leftOut: []entry{{"latest/beta", focal, -1, nil}, {"latest/beta", focal, -1, nil}},
		},
		"charm revisions for other bases": {
			now:    []entry{{"latest/edge", jammy, 13, with{"image": 3}}},
			wanted: Wanted{Revisions: []int{1, 13, 15, 16}, Resources: with{"image": 4}}, bases: []string{"24.04:arm64"},
			to:   []string{"latest/edge"},
			rows: 1, send: []entry{{"latest/edge", charm.Base{}, 16, with{"image": 4, "file": none}}},
			leftOut: []entry{
				{"latest/edge", jammy, 13, with{"image": 3}}, {"latest/edge", jammy, 13, with{"image": 3}},
				{"latest/edge", noble, -1, nil}, {"latest/edge", noble, -1, nil},
			},
		},
		"one of a charm revision's bases": {
			wanted: Wanted{Revisions: []int{1}, Resources: with{"image": 4}}, bases: []string{"24.04"},
			to: []string{"latest/edge"}, otherwise: true,
			rows: 1, send: []entry{{"latest/edge", noble, 1, with{"image": 4, "file": none}}},
			leftOut: []entry{{"latest/edge", jammy, -1, nil}},
		},
		"only some of the bases get the image": {
			now:    onAll("latest/edge", with{"image": 3}),
			wanted: Wanted{Resources: with{"image": 4}}, bases: []string{"20.04", "22.04:arm64", "20.04:amd64"},
			to:   []string{"latest/edge"},
			rows: 3, send: withoutBases([]entry{onAll("latest/edge", with{"image": 4, "file": none})[0],
				onAll("latest/edge", with{"image": 4, "file": none})[1],
				onAll("latest/edge", with{"image": 4, "file": none})[3]}),
			leftOut: []entry{onAll("latest/edge", with{"image": 3})[2], onAll("latest/edge", with{"image": 3})[4],
				onAll("latest/edge", with{"image": 3})[5]},
		},
		"every base": {
			now:    onAll("latest/edge", with{"image": 3}),
			wanted: Wanted{From: edge}, bases: []string{"20.04", "22.04", "24.04"}, to: []string{"2/beta", "2/edge"},
			rows: 12, send: append(withoutBases(onAll("2/beta", with{"image": 3, "file": none})),
				withoutBases(onAll("2/edge", with{"image": 3, "file": none}))...),
		},
		"what is there for no base": {
			now:    []entry{{"latest/edge", charm.Base{}, 9, with{"image": 3}}, {"latest/edge", noble, 15, with{"image": 3}}},
			wanted: Wanted{From: edge}, bases: []string{"24.04"}, to: []string{"latest/beta"},
			rows: 1, send: []entry{{"latest/beta", charm.Base{}, 15, with{"image": 3, "file": none}}},
			leftOut: []entry{{"latest/beta", charm.Base{}, -1, nil}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.wanted.Channels, test.wanted.Bases = channels(t, test.to...), filters(t, test.bases...)
			k := known(t, test.now...)
			plan, err := New(test.wanted, k)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(releases(t, test.send...).Map, plan.Entries); diff != "" || len(plan.Rows) != test.rows {
				t.Errorf("%d rows, entries (-want +got):\n%s", len(plan.Rows), diff)
			}
			var leftOut []entry
			for _, row := range plan.LeftOut {
				e := entry{row.After.Channel.String(), row.After.Base, -1, nil}
				if row.Before != nil {
					e.revision, e.resources = row.Before.Revision, row.Before.Resources
				}
				leftOut = append(leftOut, e)
			}
			if diff := cmp.Diff(test.leftOut, leftOut, cmp.AllowUnexported(entry{})); diff != "" {
				t.Errorf("left out (-want +got):\n%s", diff)
			}
			for _, ignores := range []bool{false, true} {
				after := carryOut(k, plan, ignores)
				unmet, conflicts := plan.Unmet(after), plan.Conflicts(after)
				if len(unmet) > 0 || (len(conflicts) > 0) != (ignores && test.otherwise) {
					t.Errorf("with a store that ignores bases, %t: not so after it: %+v, in the way: %+v", ignores, unmet, conflicts)
				}
			}
		})
	}
}

// TestNewTracks: only tracks that the charm lacks are created, each once.
func TestNewTracks(t *testing.T) {
	for name, test := range map[string]struct {
		to     []string
		change func(*Known)
		want   []string
	}{
		"one":  {[]string{"3/edge", "latest/edge", "3/beta"}, nil, []string{"3"}},
		"two":  {[]string{"4/edge", "3/edge/pr-1"}, nil, []string{"4", "3"}},
		"none": {[]string{"latest/edge", "2/edge"}, nil, nil},
		"what somebody made": {[]string{"3/edge"}, func(k *Known) { k.Tracks.Names = []string{"latest", "2", "3"} },
			nil},
		"where the map lists none": {[]string{"3/edge"},
			func(k *Known) { k.Releases.Tracks, k.Tracks.Names = nil, []string{"latest"} }, []string{"3"}},
		"where nobody lists tracks": {[]string{"3/edge"}, func(k *Known) { k.Releases.Tracks = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := known(t)
			k.Tracks = charmhub.Tracks{Guardrails: []string{"[0-9]+"}}
			if test.change != nil {
				test.change(&k)
			}
			plan, err := New(Wanted{Channels: channels(t, test.to...), Revisions: []int{15}, Resources: with{"image": 3},
				CreateTracks: true}, k)
			if err != nil || !slices.Equal(plan.NewTracks, test.want) || len(plan.Rows) != len(test.to) {
				t.Errorf("tracks %q, error %v, %d rows", plan.NewTracks, err, len(plan.Rows))
			}
		})
	}
}

// withoutBases removes the base from each entry, as in a request, and returns the entries.
func withoutBases(entries []entry) []entry {
	for n := range entries {
		entries[n].base = charm.Base{}
	}
	return entries
}

// carryOut does with the channel map what Charmhub does: an entry is for each base of its charm revision, unless it
// names one.
func carryOut(k Known, plan Plan, ignoresBases bool) charmhub.Releases {
	r := k.Releases
	r.Map = slices.Clone(r.Map)
	for _, sent := range plan.Entries {
		bases := k.bases(sent.Revision)
		if sent.Base != (charm.Base{}) && !ignoresBases {
			bases = []charm.Base{sent.Base}
		}
		if bases == nil {
			bases = []charm.Base{noble}
		}
		for _, base := range bases {
			sent.Base = base
			r.Map = slices.DeleteFunc(r.Map, func(e charmhub.Release) bool {
				return e.Channel == sent.Channel &&
					e.Base == base
			})
			r.Map = append(r.Map, sent)
		}
	}
	return r
}

func TestImpossiblePlans(t *testing.T) {
	edge := []entry{{"latest/edge", noble, 15, with{"image": 3}}}
	tests := map[string]struct {
		now    []entry
		wanted Wanted
		to     string
		change func(*Known)
		want   []string
		lag    bool // the list may lag behind
	}{
		"no such track": {
			wanted: Wanted{Revisions: []int{15}, Resources: with{"image": 3}}, to: "3/edge",
			want: []string{"release to 3/edge: the charm has no track 3, but latest, 2; give another channel, or let the " +
				"action release create it, with create-track: true"},
		},
		"a track that can't have its name": {
			wanted: Wanted{Revisions: []int{15}, Resources: with{"image": 3}, CreateTracks: true}, to: "3-/edge",
			want: []string{"release to 3-/edge: the charm has no track 3-, and none of that name can be created; a track's " +
				"name has letters and digits"},
		},
		"a track of a charm without guardrails": {
			wanted: Wanted{Revisions: []int{15}, Resources: with{"image": 3}, CreateTracks: true}, to: "3/edge",
			want: []string{"release to 3/edge: the charm has no track 3, and no track guardrails, which say what tracks its " +
				"publishers may create; " + charmhub.WhoCreatesTracks},
		},
		"a track that no guardrail allows": {
			wanted: Wanted{Revisions: []int{15}, Resources: with{"image": 3}, CreateTracks: true}, to: "3/edge",
			change: func(k *Known) { k.Tracks.Guardrails = []string{`3\.[0-9]+`, "lts"} },
			want: []string{`release to 3/edge: the charm has no track 3, and its track guardrails allow only new ones that ` +
				`match 3\.[0-9]+ or lts; correct the channel, or ` +
				charmhub.WhoCreatesTracks},
		},
		"onto itself": {
			now: edge, wanted: Wanted{From: channel(t, "latest/edge")}, to: "latest/edge",
			want: []string{"promote from latest/edge: the channel is the target as well"},
		},
		"from nothing": {
			now: edge, wanted: Wanted{From: channel(t, "latest/beta")}, to: "latest/stable",
			want: []string{"promote from latest/beta to latest/stable: nothing is released on latest/beta"},
		},
		"nothing on the channel": {
			now: edge, wanted: Wanted{Resources: with{"image": 4}}, to: "latest/edge/pr-1",
			want: []string{"release to latest/edge/pr-1: no charm revision is there yet; give one with the input charms, " +
				"charm-revision or from-channel"},
		},
		"no such charm revision": {
			now: edge, wanted: Wanted{Revisions: []int{99}}, to: "latest/edge", lag: true,
			want: []string{"release revision 99 of the charm: there is no such revision, the newest is 16; give one that " +
				"`charmcraft revisions` lists"},
		},
		"a charm without revisions": {
			wanted: Wanted{Revisions: []int{1}}, to: "latest/edge", lag: true, change: func(k *Known) { k.Revisions = nil },
			want: []string{"release revision 1 of the charm: there is none on Charmhub; upload it first"},
		},
		"no such revision of a resource": {
			now: edge, wanted: Wanted{Resources: with{"image": 70}}, to: "latest/edge", lag: true,
			want: []string{"release revision 70 of resource 'image': there is no such revision, the newest is 5; give one " +
				"that `charmcraft resource-revisions` lists"},
		},
		"a resource without revisions": {
			now: edge, wanted: Wanted{Resources: with{"file": 0}}, to: "latest/edge", lag: true,
			change: func(k *Known) { delete(k.Resources, "file") },
			want:   []string{"release revision 0 of resource 'file': there is none on Charmhub"},
		},
		"undeclared": {
			now: edge, wanted: Wanted{Resources: with{"imgae": 3}}, to: "latest/edge",
			want: []string{"release resource 'imgae': no charm revision of this release declares it, but file, image; correct " +
				"its name"},
		},
		"declared by another charm revision": {
			now: edge, wanted: Wanted{Resources: with{"old": 3}}, to: "latest/edge", change: func(k *Known) {
				k.Declared[1] = append(k.Declared[1], charmhub.Resource{Name: "old"})
				k.Resources["old"] = []charmhub.Revision{{Revision: 3}}
			},
			want: []string{"release resource 'old': no charm revision of this release declares it"},
		},
		"a charm that declares nothing": {
			now: []entry{{"latest/edge", noble, 15, nil}}, wanted: Wanted{Resources: with{"image": 3}}, to: "latest/edge",
			change: func(k *Known) { k.Declared = nil },
			want: []string{"release resource 'image': no charm revision of this release declares it, or any other; leave it " +
				"out"},
		},
		"missing, once for two bases": {
			wanted: Wanted{Revisions: []int{1}}, to: "latest/edge",
			want: []string{"release charm revision 1 to latest/edge for ubuntu 22.04 (amd64): this charm revision needs " +
				"resource 'image', of which no revision is there; give one with the input resources, as image:REVISION"},
		},
		"missing, in a list of lines": {
			wanted: Wanted{Revisions: []int{1}, HasLines: true}, to: "latest/edge",
			want: []string{"release charm revision 1 to latest/edge for ubuntu 22.04 (amd64): this charm revision needs " +
				"resource 'image', of which no revision is there; in the input resources, write image = IMAGE, or image = " +
				"revision NUMBER"},
		},
		"two that are for one base": {
			wanted: Wanted{Revisions: []int{1, 15}, Resources: with{"image": 3}}, to: "latest/edge",
			want: []string{"release to latest/edge: charm revision 1 and charm revision 15 are both for ubuntu 24.04 (amd64), " +
				"where there is place for one; give only one of them"},
		},
		"a new one and another that are for one base": {
			wanted: Wanted{Revisions: []int{-1, 15}, Resources: with{"image": 3}}, to: "latest/edge",
			change: func(k *Known) { k.Files = map[int]charm.Archive{-1: {Bases: []charm.Base{noble}}} },
			want: []string{"release to latest/edge: a new charm revision and charm revision 15 are both for ubuntu 24.04 " +
				"(amd64), where there is place for one"},
		},
		"two entries for one base": {
			now: append(edge, entry{"latest/edge", noble, 14, with{"image": 3}}), wanted: Wanted{Resources: with{"image": 4}},
			to: "latest/edge",
			want: []string{"release to latest/edge: the channel has two entries for ubuntu 24.04 (amd64), with charm revision " +
				"15 and charm revision 14, as during a progressive release; end that first"},
		},
		"two entries for one base to promote": {
			now:    append(edge, entry{"latest/edge", noble, 14, with{"image": 3}}),
			wanted: Wanted{From: channel(t, "latest/edge")}, to: "latest/beta",
			want: []string{"promote from latest/edge: the channel has two entries for ubuntu 24.04 (amd64)"},
		},
		"a type from earlier, of a resource that is kept": {
			now: []entry{{"latest/edge", noble, 9, with{"image": 2}}}, wanted: Wanted{Revisions: []int{15}}, to: "latest/edge",
			want: []string{"release revision 2 of resource 'image': that revision is of type file, but charm revision 15 " +
				"declares oci-image; give a revision of that type with the input resources"},
		},
		"a file that declares another type": {
			now: edge, wanted: Wanted{Revisions: []int{-1}, Resources: with{"file": 0}}, to: "latest/edge",
			change: func(k *Known) {
				k.Resources["image"][2].Type = charm.TypeImage
				k.Files = map[int]charm.Archive{-1: {Bases: []charm.Base{noble},
					Metadata: charm.Metadata{Resources: map[string]charm.Resource{
						"image": {Type: charm.TypeFile}, "file": {Type: charm.TypeFile},
					}}}}
			},
			want: []string{"release revision 3 of resource 'image': that revision is of type oci-image, but a new charm " +
				"revision declares file"},
		},
		"a type from earlier": {
			now: edge, wanted: Wanted{Resources: with{"image": 2}}, to: "latest/edge",
			want: []string{"release revision 2 of resource 'image': that revision is of type file, but charm revision 15 " +
				"declares oci-image"},
		},
		"a base that is nowhere": {
			now:    onAll("latest/edge", with{"image": 3}),
			wanted: Wanted{From: channel(t, "latest/edge"), Bases: filters(t, "24.04", "25.10")}, to: "latest/beta",
			want: []string{"release to latest/beta: nothing is for 25.10 of the input bases, but for ubuntu@20.04:amd64, " +
				"ubuntu@20.04:arm64, ubuntu@22.04:amd64, " +
				"ubuntu@22.04:arm64, ubuntu@24.04:amd64, ubuntu@24.04:arm64; correct it, or leave it out"},
		},
		"bases of a charm revision that are not known": {
			wanted: Wanted{Revisions: []int{9}, Bases: filters(t, "24.04")}, to: "latest/edge",
			change: func(k *Known) { k.Revisions = []charmhub.CharmRevision{{Revision: 9}} },
			want: []string{"release to latest/edge: nothing is for 24.04 of the input bases, but for any base; correct it, " +
				"or leave it out"},
		},
		"a resource of a base that is left out": {
			now:    []entry{{"latest/edge", jammy, 13, with{"image": 3}}, {"latest/edge", noble, 15, with{"image": 3}}},
			to:     "latest/edge",
			wanted: Wanted{Resources: with{"old": 3}, Bases: filters(t, "24.04")}, change: func(k *Known) {
				k.Declared[13] = append(k.Declared[13], charmhub.Resource{Name: "old"})
				k.Resources["old"] = []charmhub.Revision{{Revision: 3}}
			},
			want: []string{"release resource 'old': no charm revision of this release declares it, but file, image"},
		},
		"all at once": {
			wanted: Wanted{Revisions: []int{99}, Resources: with{"image": 70}}, to: "3/edge", lag: true,
			want: []string{"no track 3", "revision 99 of the charm", "revision 70 of resource 'image'"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			k := known(t, test.now...)
			if test.change != nil {
				test.change(&k)
			}
			test.wanted.Channels = channels(t, test.to)
			plan, err := New(test.wanted, k)
			if err == nil || plan.Rows != nil || plan.Entries != nil {
				t.Fatalf("plan %+v, %v", plan, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Errorf("%d lines: %s", len(lines), err)
			}
			for n, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("line %d: %s\nwant %s", n+1, err, want)
				}
			}
			if unlisted := new(NotListedError); errors.As(err, &unlisted) != test.lag {
				t.Errorf("it could be that the list lags behind: %t, want %t", !test.lag, test.lag)
			}
		})
	}
}

// TestFilesDeclare: the metadata of a charm file says what its revision declares, whatever the store lists.
func TestFilesDeclare(t *testing.T) {
	k := known(t, entry{"latest/edge", noble, 15, with{"image": 3, "file": 1, "unlisted": 2}})
	k.Resources["more"] = []charmhub.Revision{{Revision: 7}}
	k.Files = map[int]charm.Archive{15: {Metadata: charm.Metadata{Resources: map[string]charm.Resource{
		"image": {Type: charm.TypeImage}, "more": {Type: charm.TypeFile},
	}}}}
	plan, err := New(Wanted{Channels: channels(t, "latest/edge"), Revisions: []int{15}, Resources: with{"more": 7}}, k)
	if err != nil {
		t.Fatal(err)
	}
	want := releases(t, entry{"latest/edge", charm.Base{}, 15, with{"image": 3, "more": 7}}).Map
	if diff := cmp.Diff(want, plan.Entries); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if dropped := plan.Rows[0].Dropped(); !slices.Equal(dropped, []string{"file", "unlisted"}) {
		t.Errorf("dropped %v", dropped)
	}
}

// TestKept: a row says which resources it keeps from before, and which it goes without.
func TestKept(t *testing.T) {
	now := []entry{{"latest/edge", noble, 14, with{"image": 3, "old": 1}}}
	for name, test := range map[string]struct {
		wanted    Wanted
		to        string
		revision  bool
		resources []string
		missing   []string
		dropped   []string
	}{
		"all but a resource": {Wanted{Resources: with{"file": 1}}, "latest/edge", true,
			[]string{"image", "old"}, nil, nil},
		"nothing": {Wanted{Revisions: []int{15}, Resources: with{"file": 1, "image": 4}}, "latest/edge", false,
			nil, nil, []string{"old"}},
		"a resource": {Wanted{Revisions: []int{15}}, "latest/edge", false, []string{"image"}, []string{"file"},
			[]string{"old"}},
		"what is promoted": {Wanted{From: channel(t, "latest/edge")}, "latest/beta", false, nil, []string{"file"}, nil},
		"where there is nothing": {Wanted{Revisions: []int{15}, Resources: with{"image": 4}}, "latest/beta", false, nil,
			[]string{"file"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			test.wanted.Channels = channels(t, test.to)
			plan, err := New(test.wanted, known(t, now...))
			if err != nil || len(plan.Rows) != 1 {
				t.Fatalf("%+v, %v", plan.Rows, err)
			}
			row := plan.Rows[0]
			if row.KeepsRevision != test.revision || !slices.Equal(row.KeptResources, test.resources) {
				t.Errorf("keeps its revision %t and %v", row.KeepsRevision, row.KeptResources)
			}
			if row.NewChannel != (test.to == "latest/beta") {
				t.Errorf("the channel is new: %t", row.NewChannel)
			}
			if !slices.Equal(row.Missing(), test.missing) || !slices.Equal(row.Dropped(), test.dropped) {
				t.Errorf("goes without %v, drops %v", row.Missing(), row.Dropped())
			}
		})
	}
}

// TestConflicts: a store that ignores a base in a request puts a charm revision where nobody asked for it, or replaces
// another one.
func TestConflicts(t *testing.T) {
	onEdge := []entry{{"latest/edge", jammy, 1, with{"image": 3}}}
	for name, test := range map[string]struct {
		beta      []entry // before
		after     []entry
		want, now int // charm revisions; -1 for nothing, -2 for no conflict
	}{
		"as asked for":  {nil, []entry{{"latest/beta", jammy, 1, with{"image": 3}}}, -2, -2},
		"not shown yet": {nil, nil, -2, -2},
		"another base": {nil, []entry{{"latest/beta", jammy, 1, with{"image": 3}},
			{"latest/beta", noble, 1, with{"image": 3}}}, -1, 1},
		"another base, replaced": {[]entry{{"latest/beta", noble, 15, with{"image": 3}}},
			[]entry{{"latest/beta", jammy, 1, with{"image": 3}}, {"latest/beta", noble, 1, with{"image": 3}}}, 15, 1},
		"another base, closed": {[]entry{{"latest/beta", noble, 15, with{"image": 3}}},
			[]entry{{"latest/beta", jammy, 1, with{"image": 3}}}, 15, -1},
		"the base":  {nil, []entry{{"latest/beta", jammy, 12, with{"image": 3}}}, 1, 12},
		"any base":  {nil, []entry{{"latest/beta", charm.Base{}, 1, with{"image": 3}}}, -2, -2},
		"elsewhere": {nil, []entry{{"2/beta", noble, 12, with{"image": 3}}}, -2, -2},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := New(Wanted{Channels: channels(t, "latest/beta"), From: channel(t, "latest/edge")},
				known(t, append(test.beta, onEdge...)...))
			if err != nil {
				t.Fatal(err)
			}
			revision := func(r *charmhub.Release) int {
				if r == nil {
					return -1
				}
				return r.Revision
			}
			want, now := -2, -2
			for _, c := range plan.Conflicts(releases(t, append(test.after, onEdge...)...)) {
				want, now = revision(c.Want), revision(c.Now)
			}
			if want != test.want || now != test.now {
				t.Errorf("wanted %d, there is %d; want %d, %d", want, now, test.want, test.now)
			}
		})
	}
}

// TestSomebodyElseReleases between the reading and the sending, or after it.
func TestSomebodyElseReleases(t *testing.T) {
	now := []entry{{"latest/edge", jammy, 13, with{"image": 3, "file": 1}}, {"latest/edge", noble, 15, with{"image": 3}}}
	k := known(t, now...)
	plan, err := New(Wanted{Channels: channels(t, "latest/edge"), Resources: with{"image": 4}}, k)
	if err != nil {
		t.Fatal(err)
	}
	if outdated := plan.Outdated(k.Releases); outdated != nil {
		t.Errorf("outdated at once: %+v", outdated)
	}
	if unmet := plan.Unmet(k.Releases); len(unmet) != 2 {
		t.Errorf("unmet before it: %+v", unmet)
	}
	for name, theirs := range map[string]entry{
		"a resource":         {"latest/edge", jammy, 13, with{"image": 3, "file": 0}},
		"without a resource": {"latest/edge", jammy, 13, with{"image": 3}},
		"a charm":            {"latest/edge", jammy, 1, with{"image": 3, "file": 1}},
	} {
		outdated := plan.Outdated(releases(t, theirs, now[1]))
		if len(outdated) != 1 || outdated[0].After.Base != jammy ||
			!maps.Equal(outdated[0].Before.Resources, theirs.resources) {
			t.Errorf("%s: outdated %+v", name, outdated)
		}
	}
	if outdated := plan.Outdated(releases(t, now[1])); len(outdated) != 1 || outdated[0].Before != nil {
		t.Errorf("closed: outdated %+v", outdated)
	}
	if outdated := plan.Outdated(releases(t, append(now, entry{"latest/beta", jammy, 1, nil})...)); outdated != nil {
		t.Errorf("another channel: outdated %+v", outdated)
	}
	after := carryOut(k, plan, false)
	after.Map[0].Revision = 7
	if unmet := plan.Unmet(after); len(unmet) != 1 || unmet[0].Before.Revision != 7 {
		t.Errorf("unmet after it: %+v", unmet)
	}
}

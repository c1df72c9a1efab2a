package release

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/internal/charmtest"
	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

var (
	noble    = charm.Base{Name: "ubuntu", Channel: "24.04", Architecture: "amd64"}
	nobleArm = charm.Base{Name: "ubuntu", Channel: "24.04", Architecture: "arm64"}

	errGone = errors.New("gone")
)

// toEdge asks for revision 2 of the image on latest/edge.
var toEdge = Inputs{Charm: "my-charm", Channels: []charmhub.Channel{edge}, KeepRevisions: true,
	Resources: map[string]int{"my-image": 2}}

// withImage returns a release of charm revision 1 to latest/edge with this revision of the image.
func withImage(revision int) charmhub.Release {
	return charmhub.Release{Channel: edge, Base: noble, Revision: 1, Resources: map[string]int{"my-image": revision}}
}

func TestRelease(t *testing.T) {
	unclear := fmt.Errorf("cannot release: %w", charmhub.ErrUnclear)
	refused := &charmhub.Error{Doing: "release", Status: http.StatusBadRequest, Message: "Invalid track: 3"}
	unknown := &charmhub.Error{Doing: "release", Status: http.StatusNotFound, Message: "Revision 1 not found"}
	one, two := []charmhub.Release{withImage(1)}, []charmhub.Release{withImage(2)}
	for name, test := range map[string]struct {
		on       []charmhub.Release
		shown    [][]charmhub.Release
		requests []error // how each of them fails, nil for not
		reading  []error // how reading the channel map fails, likewise
		done     bool
		unlisted int

		released bool
		waits    []time.Duration
		errs     []string
		log      string
	}{
		"a new image": {on: one, requests: []error{nil}, released: true},
		"nothing new": {on: two},
		"an answer lost on its way": {
			on: one, requests: []error{unclear}, done: true, released: true, waits: seconds(1),
			log: "Looking whether it was released",
		},
		"a request lost on its way": {
			on: one, requests: []error{unclear, nil}, released: true, waits: seconds(1), log: "Looking whether it was released",
		},
		"no request gets through": {
			on: one, requests: []error{unclear, unclear, unclear}, waits: seconds(1, 2, 3),
			errs: []string{"the release may have happened all the same, either all of it or nothing; run this again"},
		},
		"no connection": {
			on: one, requests: []error{&net.OpError{Op: "dial", Err: errGone}, nil}, released: true, waits: seconds(1),
		},
		"an answer lost, and no other": {
			on: one, requests: []error{unclear}, reading: []error{nil, nil, errGone}, waits: seconds(1),
			errs: []string{"no clear answer; and then gone; the release may have happened all the same"},
		},
		"an answer lost, and then a refusal": {
			on: one, requests: []error{unclear, refused}, waits: seconds(1),
			errs: []string{"no clear answer; and then ", "Invalid track: 3; the release may have happened all the same"},
		},
		"an answer lost, and then somebody else's release": {
			on: one, shown: [][]charmhub.Release{one, one, {withImage(3)}}, requests: []error{unclear}, waits: seconds(1),
			errs: []string{"charm revision 1 with my-image:3 is there instead of charm revision 1 with my-image:2; somebody " +
				"else released at the same time, or the store released for a base that it was not asked for; look at `charmcraft " +
				"status my-charm`, and restore it with `charmcraft release my-charm --revision=1 --channel=latest/edge " +
				"--resource=my-image:2`"},
		},
		"too busy for now": {
			on: one, requests: []error{&charmhub.Error{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}, nil},
			released: true, waits: seconds(7),
		},
		"a revision that isn't known everywhere yet": {
			on: one, requests: slices.Concat(slices.Repeat([]error{unknown}, 5), []error{nil}), released: true,
			waits: seconds(1, 2, 3, 4, 5),
		},
		"a revision that isn't known": {
			on: one, requests: slices.Repeat([]error{unknown}, 11), waits: seconds(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
			errs: []string{"Revision 1 not found"},
		},
		"a refusal": {on: one, requests: []error{refused}, errs: []string{"Invalid track: 3"}},
		"a channel map that lags behind": {
			on: one, shown: [][]charmhub.Release{one, one, one, one}, requests: []error{nil}, released: true,
			waits: seconds(1, 2),
		},
		"one that lags behind for long": {
			on: one, shown: slices.Repeat([][]charmhub.Release{one}, 12), requests: []error{nil}, released: true,
			waits: seconds(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
		},
		"one that can't be read afterwards": {
			on: one, requests: []error{nil}, reading: []error{nil, nil, errGone}, released: true,
			errs: []string{"release charm 'my-charm': Charmhub accepted it, but the channel map can't be read to see it: " +
				"gone; look at `charmcraft status my-charm`, or run this again"},
		},
		"one that can't be read in between": {on: one, reading: []error{nil, errGone}, errs: []string{"gone"}},
		"somebody else in between": {
			on: one, shown: [][]charmhub.Release{one, {withImage(3)}}, requests: []error{nil}, released: true,
			log: "Somebody else released to latest/edge for ubuntu 24.04 (amd64) in the meantime: it has charm revision 1 " +
				"with my-image:3 now",
		},
		"somebody else did the same": {on: one, shown: [][]charmhub.Release{one, two}, log: "Somebody else released"},
		"somebody else took it off": {
			on: one, shown: [][]charmhub.Release{one, nil}, log: "it has nothing now",
			errs: []string{"release to latest/edge: no charm revision is there yet"},
		},
		"somebody else afterwards": {
			on: one, shown: [][]charmhub.Release{one, one, {withImage(3)}}, requests: []error{nil}, released: true,
			errs: []string{"after the release, charm revision 1 with my-image:3 is there instead of charm revision 1 with " +
				"my-image:2; somebody else released at the same time, or the store released for a base that it was not asked " +
				"for; look at `charmcraft status my-charm`, and restore it with `charmcraft release my-charm --revision=1 " +
				"--channel=latest/edge --resource=my-image:2`"},
		},
		"a revision that is not listed yet": {
			on: one, unlisted: 5, requests: []error{nil}, released: true, waits: seconds(1, 2, 3, 4, 5),
			log: "Looking again, since Charmhub may not show yet what was made seconds ago",
		},
		"a revision that is not listed": {
			on: one, unlisted: 11, waits: seconds(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
			errs: []string{"release revision 2 of resource 'my-image': there is no such revision, the newest is 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(test.on...)
			store.shown, store.done, store.unlisted = test.shown, test.done, test.unlisted
			store.fail = map[string][]error{"Release": slices.Clone(test.requests), "Releases": test.reading}
			releaser := newReleaser(store)
			done, err := releaser.Release(t.Context(), toEdge)
			if len(test.errs) > 0 {
				wantError(t, err, test.errs...)
			} else if err != nil {
				t.Error(err)
			}
			if done.Released != test.released || len(store.releases) != len(test.requests) {
				t.Errorf("released %t by %d requests, want %t, %d", done.Released, len(store.releases), test.released,
					len(test.requests))
			}
			if diff := cmp.Diff(test.waits, releaser.waited); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
			if !strings.Contains(releaser.out.String(), test.log) {
				t.Errorf("the log has no %q:\n%s", test.log, releaser.out)
			}
			for _, sent := range store.releases {
				want := withImage(2)
				want.Base = charm.Base{}
				if diff := cmp.Diff([]charmhub.Release{want}, sent); diff != "" {
					t.Errorf("request (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// seconds returns durations of these numbers of seconds.
func seconds(numbers ...int) (list []time.Duration) {
	for _, n := range numbers {
		list = append(list, time.Duration(n)*time.Second)
	}
	return list
}

// A run that is stopped says whether anything can have been released.
func TestReleaseStops(t *testing.T) {
	lost := fmt.Errorf("cannot release: %w: %w", charmhub.ErrUnclear, context.Canceled)
	busy := &charmhub.Error{Status: http.StatusTooManyRequests}
	const nothing = "stopped: the job was cancelled; nothing was released"
	const uploads = nothing + ", but the store may have made revisions of the charm files, which running this again uses"
	for name, test := range map[string]struct {
		call string // during which the run is stopped
		err  error
		want string
	}{
		"while reading":          {"CharmRevisions", context.Canceled, nothing},
		"while uploading":        {"Upload", context.Canceled, uploads},
		"before another upload":  {"Upload", busy, uploads},
		"while releasing":        {"Release", lost, "the release may have happened all the same"},
		"before another attempt": {"Release", busy, uploads},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			store := newStore(withImage(1))
			store.numbers = map[string]int{"my.charm": 2}
			store.fail = map[string][]error{test.call: {test.err}}
			store.hook = func(call string) {
				if call == test.call {
					stop(errors.New("the job was cancelled"))
				}
			}
			in := toEdge
			in.Files = []string{charmFile(t, "my.charm", "my-charm", noble)}
			done, err := newReleaser(store).Release(ctx, in)
			wantError(t, err, test.want)
			if done.Released || strings.HasPrefix(test.want, nothing) && err.Error() != test.want {
				t.Errorf("released %t, error %v", done.Released, err)
			}
		})
	}
}

// While a run waits for the next attempt, it can be stopped as well.
func TestReleaseStopsInAPause(t *testing.T) {
	busy := &charmhub.Error{Status: http.StatusTooManyRequests}
	unclear := fmt.Errorf("cannot release: %w", charmhub.ErrUnclear)
	for name, test := range map[string]struct {
		fail     map[string][]error
		unlisted int
		files    bool
		want     string
	}{
		"for a list":    {unlisted: 1, want: "nothing was released"},
		"for an upload": {fail: map[string][]error{"Upload": {busy}}, files: true, want: "nothing was released"},
		"for a release": {fail: map[string][]error{"Release": {busy}}, want: "nothing was released"},
		"after a lost answer": {fail: map[string][]error{"Release": {unclear}},
			want: "the release may have happened all the same"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			store := newStore(withImage(1))
			store.fail, store.unlisted = test.fail, test.unlisted
			in := toEdge
			if test.files {
				in.Files = []string{charmFile(t, "my.charm", "my-charm", noble)}
			}
			releaser := newReleaser(store)
			releaser.Wait = func(ctx context.Context, _ time.Duration) error {
				stop(errors.New("the job was cancelled"))
				return context.Cause(ctx)
			}
			done, err := releaser.Release(ctx, in)
			wantError(t, err, test.want)
			if done.Released || len(store.releases) > 1 {
				t.Errorf("released %t by %d requests", done.Released, len(store.releases))
			}
		})
	}
}

// fromFile is the entry for a charm revision that is uploaded as a file.
func fromFile(channel charmhub.Channel, revision int) charmhub.Release {
	return charmhub.Release{Channel: channel, Revision: revision,
		Resources: map[string]int{"my-image": 2, "my-file": charmhub.NoRevision}}
}

func TestReleaseCharmFiles(t *testing.T) {
	amd64, arm64 := charmFile(t, "amd64.charm", "my-charm", noble), charmFile(t, "arm64.charm", "my-charm", nobleArm)
	again := charmFile(t, "again.charm", "my-charm", noble)
	other := charmhub.CharmRevision{Revision: 4, SHA3: "other", Bases: []charm.Base{noble}}
	known := charmhub.CharmRevision{Revision: 3, SHA3: sumOf(t, amd64), Bases: []charm.Base{noble}}
	unclear := fmt.Errorf("cannot create: %w", charmhub.ErrUnclear)
	exists := &charmhub.ExistsError{Err: errors.New("it already exists")}
	busy := &charmhub.Error{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}
	created := func(file string) []string { return []string{"Await " + file, "CreateCharmRevision " + file} }
	uploaded := func(file string) []string { return append(created(file), "Upload "+file) }
	for name, test := range map[string]struct {
		files   []string
		listed  []charmhub.CharmRevision
		fail    map[string][]error
		number  int // of the first file's revision; the second's is one more
		only    bool
		existed bool // as the review says
		dryRun  bool

		want    []string // files, and what came of them
		changes []string // calls
		sent    []charmhub.Release
		waits   []time.Duration
	}{
		"there": {
			files: []string{amd64}, listed: []charmhub.CharmRevision{other, known}, want: []string{"amd64.charm 3"},
			changes: []string{"Release"}, sent: []charmhub.Release{fromFile(edge, 3)},
		},
		"new": {
			files: []string{amd64}, listed: []charmhub.CharmRevision{other}, number: 5, want: []string{"amd64.charm 5 created"},
			changes: append(uploaded("amd64.charm"), "Release"), sent: []charmhub.Release{fromFile(edge, 5)},
		},
		"the charm's first": {
			files: []string{amd64}, want: []string{"amd64.charm 0 created"},
			changes: append(uploaded("amd64.charm"), "Release"), sent: []charmhub.Release{fromFile(edge, 0)},
		},
		"one of two there": {
			files: []string{arm64, amd64}, listed: []charmhub.CharmRevision{other, known}, number: 5,
			want:    []string{"arm64.charm 5 created", "amd64.charm 3"},
			changes: append(uploaded("arm64.charm"), "Release"), sent: []charmhub.Release{fromFile(edge, 3), fromFile(edge, 5)},
		},
		"two new": {
			files: []string{amd64, arm64}, listed: []charmhub.CharmRevision{other}, number: 5,
			want:    []string{"amd64.charm 5 created", "arm64.charm 6 created"},
			changes: slices.Concat(uploaded("amd64.charm"), uploaded("arm64.charm"), []string{"Release"}),
			sent:    []charmhub.Release{fromFile(edge, 5), fromFile(edge, 6)},
		},
		"one under two names": {
			files: []string{amd64, again}, number: 5, want: []string{"amd64.charm 5 created"},
			changes: append(uploaded("amd64.charm"), "Release"), sent: []charmhub.Release{fromFile(edge, 5)},
		},
		"there, as the store answers": {
			files: []string{amd64}, listed: []charmhub.CharmRevision{other}, number: 3, want: []string{"amd64.charm 3"},
			changes: append(uploaded("amd64.charm"), "Release"), sent: []charmhub.Release{fromFile(edge, 3)},
		},
		"without a channel": {
			files: []string{amd64}, only: true, number: 5, want: []string{"amd64.charm 5 created"},
			changes: uploaded("amd64.charm"),
		},
		"there, without a channel": {
			files: []string{amd64}, only: true, listed: []charmhub.CharmRevision{known}, want: []string{"amd64.charm 3"},
		},
		"dry": {files: []string{amd64, arm64}, listed: []charmhub.CharmRevision{known}, dryRun: true,
			want: []string{"amd64.charm 3", "arm64.charm -2"}},
		"dry, without a channel": {
			files: []string{amd64}, dryRun: true, only: true, want: []string{"amd64.charm -1"},
		},
		"there, as only the review says": {
			files: []string{amd64}, only: true, number: 5, existed: true, want: []string{"amd64.charm 5"},
			changes: uploaded("amd64.charm"),
		},
		"there, but the review doesn't say where": {
			files: []string{amd64}, only: true, fail: map[string][]error{"Await": {exists}}, number: 5,
			want:    []string{"amd64.charm 5"},
			changes: uploaded("amd64.charm"), waits: seconds(1),
		},
		"there, by an earlier try": {
			files: []string{amd64}, only: true, fail: map[string][]error{"CreateCharmRevision": {unclear}, "Await": {exists}},
			number:  5,
			want:    []string{"amd64.charm 5 created"},
			changes: append(uploaded("amd64.charm"), "CreateCharmRevision amd64.charm", "Upload amd64.charm"),
			waits:   seconds(1, 1),
		},
		"an answer lost": {
			files: []string{amd64}, fail: map[string][]error{"CreateCharmRevision": {unclear}}, number: 5,
			want:    []string{"amd64.charm 5 created"},
			changes: append(uploaded("amd64.charm"), "CreateCharmRevision amd64.charm", "Release", "Upload amd64.charm"),
			sent:    []charmhub.Release{fromFile(edge, 5)}, waits: seconds(1),
		},
		"too busy for now": {
			files: []string{amd64}, fail: map[string][]error{"Upload": {busy, unclear}}, number: 5,
			want:    []string{"amd64.charm 5 created"},
			changes: append(uploaded("amd64.charm"), "Release", "Upload amd64.charm", "Upload amd64.charm"),
			sent:    []charmhub.Release{fromFile(edge, 5)}, waits: seconds(7, 2),
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore()
			store.revisions, store.fail = test.listed, test.fail
			store.existed = test.existed
			store.numbers = map[string]int{}
			for n, path := range test.files {
				store.numbers[filepath.Base(path)] = test.number + n
			}
			in := toEdge
			in.Files, in.DryRun = test.files, test.dryRun
			if test.only {
				in.Channels, in.Resources = nil, nil
			}
			releaser := newReleaser(store)
			done, err := releaser.Release(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, file := range done.Charms {
				text := fmt.Sprintf("%s %d", filepath.Base(file.Path), file.Revision)
				if file.Created {
					text += " created"
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if logged := strings.Contains(releaser.out.String(), " created"); logged != strings.Contains(fmt.Sprint(test.want),
				" created") {
				t.Errorf("the log speaks of created revisions: %t\n%s", logged, releaser.out)
			}
			slices.Sort(test.changes)
			if diff := cmp.Diff(test.changes, store.changes()); diff != "" && len(test.changes)+len(store.changes()) > 0 {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			var sent []charmhub.Release
			if len(store.releases) > 0 {
				sent = slices.Clone(store.releases[0])
				slices.SortFunc(sent, func(a, b charmhub.Release) int { return a.Revision - b.Revision })
			}
			if diff := cmp.Diff(test.sent, sent); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if done.Released != (len(test.sent) > 0) || done.DryRun != test.dryRun || (len(done.Plan.Rows) == 0) != test.only {
				t.Errorf("got %+v", done)
			}
			if diff := cmp.Diff(test.waits, releaser.waited); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
			if test.dryRun || test.fail != nil {
				return
			}
			// Run again, it finds everything as it is wanted.
			store.calls = nil
			done, err = releaser.Release(t.Context(), in)
			if err != nil || done.Released || len(store.changes()) > 0 || len(done.Plan.Entries) > 0 {
				t.Errorf("run again: got %+v, error %v, after the calls %v", done, err, store.changes())
			}
		})
	}
}

// What goes wrong with one charm file leaves the channels as they are.
func TestReleaseCharmFilesFail(t *testing.T) {
	unclear := fmt.Errorf("cannot create: %w", charmhub.ErrUnclear)
	rejected := errors.New("the store rejected it")
	for name, test := range map[string]struct {
		fail  map[string][]error
		want  []string
		waits []time.Duration
		one   bool // file has a revision all the same
	}{
		"one rejected": {map[string][]error{"Await": {rejected}}, []string{"upload ", ".charm: the store rejected it"},
			nil, true},
		"both rejected": {map[string][]error{"Await": {rejected, rejected}},
			[]string{"amd64.charm: the store rejected it\nupload ", "arm64.charm: the store rejected it"}, nil, false},
		"not taken":         {map[string][]error{"Upload": {errGone}}, []string{".charm: gone"}, nil, true},
		"not to be created": {map[string][]error{"CreateCharmRevision": {errGone}}, []string{".charm: gone"}, nil, true},
		"no clear answer": {
			map[string][]error{"Await": slices.Repeat([]error{unclear}, 2*upload.Attempts)},
			[]string{".charm: cannot create: the store gave no clear answer"}, seconds(1, 1, 2, 2), false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(withImage(1))
			store.fail, store.numbers = test.fail, map[string]int{"amd64.charm": 2, "arm64.charm": 3}
			in := toEdge
			in.Files = []string{charmFile(t, "amd64.charm", "my-charm", noble),
				charmFile(t, "arm64.charm", "my-charm", nobleArm)}
			releaser := newReleaser(store)
			done, err := releaser.Release(t.Context(), in)
			wantError(t, err, test.want...)
			if done.Released || len(store.releases) > 0 || len(done.Plan.Rows) > 0 {
				t.Errorf("released by %v", store.releases)
			}
			if list, err := done.Outputs(); err != nil || done.IsReportable() != test.one || (list[0].Value != "") != test.one {
				t.Errorf("outputs %v, error %v, reportable %t", list, err, done.IsReportable())
			}
			slices.Sort(releaser.waited) // the files are uploaded at once
			if diff := cmp.Diff(test.waits, releaser.waited); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
		})
	}
}

// A charm file that somebody writes to, or removes, after it was read is not released.
func TestReleaseChangedCharmFile(t *testing.T) {
	for name, test := range map[string]struct {
		change func(path string) error
		want   string
	}{
		"changed": {func(path string) error { return os.WriteFile(path, []byte("other"), 0o600) },
			"my.charm: the content changed after its digest was computed"},
		"removed": {os.Remove, "cannot find "},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(withImage(1))
			in := toEdge
			in.Files = []string{charmFile(t, "my.charm", "my-charm", noble)}
			store.hook = func(call string) {
				if call != "Upload" {
					return
				}
				if err := test.change(in.Files[0]); err != nil {
					t.Error(err)
				}
			}
			done, err := newReleaser(store).Release(t.Context(), in)
			wantError(t, err, "upload ", test.want)
			if done.Released || slices.Contains(store.changes(), "Release") {
				t.Errorf("calls: %v", store.changes())
			}
		})
	}
}

// closedFiles are files that fail as a disk does that is gone.
type closedFiles struct{ Files }

// Open returns a file that is already closed, so that reading it fails.
func (f closedFiles) Open(path string) (*os.File, error) {
	file, err := f.Files.Open(path)
	if err == nil {
		err = file.Close()
	}
	return file, err
}

// All that is wrong is found before anything is sent.
func TestReleaseFailsFirst(t *testing.T) {
	good, foreign := charmFile(t, "good.charm", "my-charm", noble), charmFile(t, "foreign.charm", "their-charm", noble)
	text, nameless := imagetest.TempFile(t, "text.charm", []byte("text")),
		imagetest.TempFile(t, "charmcraft.yaml", []byte("type: charm\n"))
	broken := imagetest.TempFile(t, "broken.yaml", []byte("name: [\n"))
	missing := filepath.Join(t.TempDir(), "none")
	refused := &charmhub.Error{Doing: "list", Host: "api.example", Status: http.StatusForbidden}
	file := imagetest.TempFile(t, "file.charm",
		[]byte(charmtest.File(t, "name: my-charm\nresources: {my-image: {type: file}, my-file: {type: file}}\n", noble)))
	for name, test := range map[string]struct {
		in    Inputs
		fail  map[string][]error
		files Files
		track string
		want  []string
	}{
		"a file of another charm": {in: Inputs{Files: []string{good, foreign}, KeepResources: true},
			want: []string{"input charms: ", "foreign.charm is of charm 'their-charm', not 'my-charm'"}},
		"a folder": {in: Inputs{Files: []string{t.TempDir()}},
			want: []string{"input charms: ", "is a folder; give the file that `charmcraft pack` made"}},
		"no such file": {in: Inputs{Files: []string{missing}}, want: []string{"input charms: cannot find"}},
		"no charm": {in: Inputs{Files: []string{text}},
			want: []string{"input charms: ", "text.charm: not a charm file"}},
		"a file that is gone": {in: Inputs{Files: []string{good}}, files: closedFiles{workspace.Workspace{}},
			want: []string{"input charms: ", "file already closed"}},
		"no metadata":     {in: Inputs{Metadata: missing}, want: []string{"input metadata: cannot find"}},
		"broken metadata": {in: Inputs{Metadata: broken}, want: []string{"cannot read ", "broken.yaml: yaml:"}},
		"no name": {in: Inputs{Metadata: nameless},
			want: []string{"charmcraft.yaml has no name; give the charm's with the input charm"}},
		"no list of revisions": {in: Inputs{Files: []string{good}, KeepResources: true},
			fail: map[string][]error{"CharmRevisions": {refused}}, want: []string{"403"}},
		"no channel map":       {fail: map[string][]error{"Releases": {refused}}, want: []string{"403"}},
		"no list of resources": {fail: map[string][]error{"ResourcesOf": {refused}}, want: []string{"403"}},
		"no list of a resource's revisions": {
			in: Inputs{Resources: map[string]int{"my-image": 2}}, fail: map[string][]error{"Revisions": {refused}},
			want: []string{"403"},
		},
		"a resource that nobody declares": {
			in:   Inputs{Resources: map[string]int{"their-image": 2}},
			fail: map[string][]error{"Revisions": {&charmhub.Error{Status: http.StatusNotFound}}},
			want: []string{"release resource 'their-image': no charm revision of this release declares it, but my-image"},
		},
		"a resource that only the file declares": {
			in: Inputs{Files: []string{good}, Resources: map[string]int{"my-file": 9}},
			fail: map[string][]error{"Revisions": slices.Repeat([]error{&charmhub.Error{Status: http.StatusNotFound}},
				2*upload.AttemptsForAMinute)},
			want: []string{"release revision 9 of resource 'my-file': there is none on Charmhub; upload it first"},
		},
		"a kept resource of another type": {
			in: Inputs{Files: []string{file}, Resources: map[string]int{"my-file": 2}},
			want: []string{"release revision 2 of resource 'my-image': that revision is of type oci-image, but a new charm " +
				"revision declares file"},
		},
		"resources that aren't given": {
			in: Inputs{Files: []string{good}, Channels: []charmhub.Channel{beta}},
			want: []string{"input resources: missing, and the charm declares my-file, my-image; give the revisions to " +
				"release, or keep for those that the channel has"},
		},
		"resources of a charm revision that aren't given": {
			in: Inputs{Revisions: []int{1}},
			want: []string{"input resources: missing, and the charm declares my-image; give the revisions to release, or keep " +
				"for those that the channel has"},
		},
		"a channel of another track": {
			in: Inputs{KeepRevisions: true, Channels: []charmhub.Channel{beta, {Risk: "edge"}},
				Resources: map[string]int{"my-image": 2}}, track: "2",
			want: []string{"input channel: edge names no track, and 2 is the charm's default one; give the channel that is " +
				"meant, 2/edge or latest/edge"},
		},
		"a channel of another track to promote": {
			in: Inputs{From: charmhub.Channel{Risk: "edge"}, Channels: []charmhub.Channel{beta}}, track: "2",
			want: []string{"input from-channel: edge names no track, and 2 is the charm's default one; give"},
		},
		"a default track that the token may not ask for": {
			in:   Inputs{From: beta, Channels: []charmhub.Channel{{Risk: "stable"}}},
			fail: map[string][]error{"Tracks": {refused}},
			want: []string{"input channel: stable names no track, and the store token lacks the permission to ask for the " +
				"charm's default one; give the channel with its track, for example latest/stable"},
		},
		"a default track that nobody knows": {
			in:   Inputs{From: beta, Channels: []charmhub.Channel{{Risk: "stable"}}},
			fail: map[string][]error{"Tracks": {errGone}}, want: []string{"gone"},
		},
		"a resource of another type": {
			in: Inputs{Resources: map[string]int{"my-image": 1}},
			want: []string{"release revision 1 of resource 'my-image': that revision is of type file, but charm revision 1 " +
				"declares oci-image"},
		},
		"a resource without a revision": {
			in: Inputs{Files: []string{good}, KeepResources: true, Channels: []charmhub.Channel{beta}},
			want: []string{"release a new charm revision to latest/beta for ubuntu 24.04 (amd64): this charm revision needs " +
				"resource 'my-image', of which no revision is there"},
		},
		"no such charm revision": {in: Inputs{Revisions: []int{7}},
			want: []string{"release revision 7 of the charm: there is no such revision, the newest is 1"}},
		"nothing to promote": {in: Inputs{From: beta},
			want: []string{"promote from latest/beta to latest/edge: nothing is released on latest/beta"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(withImage(2))
			store.fail, store.tracks.Default = test.fail, test.track
			store.images = []charmhub.Revision{{Revision: 2, Type: charm.TypeImage}, {Revision: 1, Type: charm.TypeFile}}
			if test.in.Metadata == "" {
				test.in.Charm = "my-charm"
			}
			if test.in.Channels == nil {
				test.in.Channels = []charmhub.Channel{edge}
			}
			releaser := newReleaser(store)
			if test.files != nil {
				releaser.Files = test.files
			}
			done, err := releaser.Release(t.Context(), test.in)
			wantError(t, err, test.want...)
			if done.Released || len(store.changes()) > 0 || done.IsReportable() {
				t.Errorf("calls: %v", store.changes())
			}
		})
	}
}

// What the files say by themselves is complained about before the store is asked.
func TestReleaseAsksNothingInVain(t *testing.T) {
	store := newStore()
	_, err := newReleaser(store).Release(t.Context(), Inputs{Charm: "my-charm", Channels: []charmhub.Channel{edge},
		Files: []string{charmFile(t, "my.charm", "my-charm", noble)}})
	wantError(t, err, "input resources: missing")
	if len(store.calls) > 0 {
		t.Errorf("calls: %v", store.calls)
	}
}

// A channel without a track is one of latest where that is the default track, for which the store is asked only then.
func TestReleaseAddsTheTrack(t *testing.T) {
	store := newStore(withImage(1))
	in := toEdge
	in.Channels = []charmhub.Channel{{Risk: "edge"}, edge}
	releaser := newReleaser(store)
	done, err := releaser.Release(t.Context(), in)
	if err != nil || !done.Released || len(done.Plan.Rows) != 1 || !slices.Contains(store.calls, "Tracks") {
		t.Errorf("got %+v, error %v, after the calls %v", done, err, store.calls)
	}
	if in.Channels[0].Track != "" {
		t.Error("the inputs were changed")
	}
	store.calls = nil
	if _, err := releaser.Release(t.Context(), toEdge); err != nil || slices.Contains(store.calls, "Tracks") {
		t.Errorf("calls %v, error %v", store.calls, err)
	}
}

// Where the channel map's answer lacks a charm revision, the list of revisions has its bases. Where that lacks it, too,
// no request is for all of its bases.
func TestReleaseOfUnlistedRevisions(t *testing.T) {
	both := []charm.Base{noble, nobleArm}
	for name, test := range map[string]struct {
		listed []charmhub.CharmRevision
		base   charm.Base // in the request
	}{
		"for one base":      {[]charmhub.CharmRevision{{Revision: 1, Bases: []charm.Base{noble}}}, charm.Base{}},
		"for two bases":     {[]charmhub.CharmRevision{{Revision: 1, Bases: both}}, noble},
		"for unknown bases": {nil, noble},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(withImage(1))
			store.revisions, store.unreleased = test.listed, true
			done, err := newReleaser(store).Release(t.Context(), toEdge)
			if err != nil || !done.Released || len(store.releases) != 1 {
				t.Fatalf("got %+v, error %v", done, err)
			}
			want := withImage(2)
			want.Base = test.base
			if diff := cmp.Diff([]charmhub.Release{want}, store.releases[0]); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if !slices.Contains(store.calls, "CharmRevisions") {
				t.Errorf("calls %v", store.calls)
			}
		})
	}
}

// Each charm revision of the release is asked for what it declares, once. One that the store lists and doesn't know was
// made seconds ago.
func TestReleaseAsksForDeclarations(t *testing.T) {
	store := newStore(withImage(1))
	store.revisions = []charmhub.CharmRevision{{Revision: 2, Bases: []charm.Base{nobleArm}},
		{Revision: 1, Bases: []charm.Base{noble}}}
	store.declared = append(store.declared, charmhub.Resource{Name: "my-image", CharmRevision: new(2)})
	store.fail = map[string][]error{"ResourcesOf": {&charmhub.Error{Status: http.StatusNotFound}}}
	releaser := newReleaser(store)
	in := toEdge
	in.KeepRevisions, in.Revisions = false, []int{1, 2}
	done, err := releaser.Release(t.Context(), in)
	if err != nil || !done.Released {
		t.Fatalf("got %+v, error %v", done, err)
	}
	asked := slices.DeleteFunc(slices.Clone(store.calls),
		func(call string) bool { return !strings.HasPrefix(call, "ResourcesOf") })
	slices.Sort(asked)
	// in two tries
	if diff := cmp.Diff([]string{"ResourcesOf 1", "ResourcesOf 1", "ResourcesOf 2", "ResourcesOf 2"}, asked); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(seconds(1), releaser.waited); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}

// What the release goes without, and what it takes off a channel, is told by name, once.
func TestReleaseWarns(t *testing.T) {
	before := withImage(1)
	before.Resources["old"] = 4
	arm := before
	arm.Base = nobleArm
	const missing = "Optional resource 'my-file': charm revision 2 on latest/edge goes without it; give a revision of " +
		"it with the input resources if it needs one"
	const dropped = "Resource 'old': charm revision 2 on latest/edge doesn't declare it, and the channel had revision 4 " +
		"of it"
	for _, dryRun := range []bool{true, false} {
		store := newStore(before, arm)
		store.revisions = []charmhub.CharmRevision{{Revision: 2, Bases: []charm.Base{noble, nobleArm}}}
		store.declared = []charmhub.Resource{
			{Name: "my-image", Type: charm.TypeImage, CharmRevision: new(2)},
			{Name: "my-file", Type: charm.TypeFile, CharmRevision: new(2), Optional: true},
		}
		in := toEdge
		in.KeepRevisions, in.Revisions, in.DryRun = false, []int{2}, dryRun
		releaser := newReleaser(store)
		for _, times := range []int{1, 0} { // unchanged the second time
			releaser.out.Reset()
			if _, err := releaser.Release(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if dryRun {
				times = 1
			}
			for _, warning := range []string{missing, dropped} {
				if n := strings.Count(releaser.out.String(), "Warning: "+warning); n != times {
					t.Errorf("dry run %t: %q is there %d times, want %d:\n%s", dryRun, warning, n, times, releaser.out)
				}
			}
		}
	}
}

// A base that isn't asked for is not looked at: what its charm revision declares may not even be known any more.
func TestReleaseOfSomeBases(t *testing.T) {
	onArm := withImage(1)
	onArm.Base, onArm.Revision, onArm.Resources = nobleArm, 2, map[string]int{"old": charmhub.NoRevision}
	for name, in := range map[string]Inputs{
		"promoted": {From: edge, Channels: []charmhub.Channel{beta}},
		"kept":     {KeepRevisions: true, Channels: []charmhub.Channel{edge}, Resources: map[string]int{"my-image": 2}},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(withImage(1), onArm)
			store.revisions = append(store.revisions, charmhub.CharmRevision{Revision: 2, Bases: []charm.Base{nobleArm}})
			in.Charm, in.Bases = "my-charm", []charm.BaseFilter{{Channel: "24.04", Architecture: "amd64"}}
			releaser := newReleaser(store)
			done, err := releaser.Release(t.Context(), in)
			if err != nil || len(done.Plan.Rows) != 1 || len(store.releases) != 1 || len(store.releases[0]) != 1 ||
				store.releases[0][0].Revision != 1 {
				t.Fatalf("got %+v, error %v, requests %+v", done, err, store.releases)
			}
			if len(done.Plan.LeftOut) != 1 || done.Plan.LeftOut[0].After.Base != nobleArm ||
				slices.Contains(store.calls, "ResourcesOf 2") {
				t.Errorf("left out %+v, calls %v", done.Plan.LeftOut, store.calls)
			}
		})
	}
}

// A track that the charm lacks is created right before the release. The charm's tracks show whether it was if the
// answer is lost, or if somebody else was faster.
func TestReleaseCreatesTracks(t *testing.T) {
	onTrack := charmhub.Channel{Track: "2.0", Risk: "edge"}
	lost := fmt.Errorf("cannot create: %w", charmhub.ErrUnclear)
	exists := &charmhub.Error{Doing: "create", Host: "api.example", Status: http.StatusConflict}
	for name, test := range map[string]struct {
		tracks charmhub.Tracks
		dryRun bool
		done   bool
		fail   []error
		calls  []string
		want   string
		waits  int
	}{
		"created":           {calls: []string{"CreateTracks 2.0", "Release"}},
		"in a dry run":      {dryRun: true, calls: []string{}},
		"an answer is lost": {done: true, fail: []error{lost}, calls: []string{"CreateTracks 2.0", "Release"}},
		"a request is lost": {fail: []error{lost}, calls: []string{"CreateTracks 2.0", "CreateTracks 2.0", "Release"},
			waits: 1},
		"somebody else is faster": {done: true, fail: []error{exists}, calls: []string{"CreateTracks 2.0", "Release"}},
		"refused": {fail: []error{exists}, calls: []string{"CreateTracks 2.0"},
			want: "api.example answered 409"},
		"by nobody": {tracks: charmhub.Tracks{Names: []string{"latest"}}, calls: []string{},
			want: "has no track 2.0, and no track guardrails"},
		"there, but not listed": {tracks: charmhub.Tracks{Names: []string{"latest", "2.0"}}, calls: []string{"Release"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(withImage(1))
			store.listed = []string{"latest"}
			store.tracks = charmhub.Tracks{Names: []string{"latest"}, Guardrails: []string{`\d+\.\d+`}}
			if test.tracks.Names != nil {
				store.tracks = test.tracks
			}
			store.done, store.fail = test.done, map[string][]error{"CreateTracks": test.fail}
			releaser := newReleaser(store)
			done, err := releaser.Release(t.Context(), Inputs{Charm: "my-charm", From: edge,
				Channels: []charmhub.Channel{onTrack}, CreateTracks: true, DryRun: test.dryRun})
			if test.want != "" {
				wantError(t, err, test.want)
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.calls, store.changes()); diff != "" || len(releaser.waited) != test.waits ||
				done.Released != slices.Contains(test.calls, "Release") {
				t.Errorf("released %t, waited %v, calls (-want +got):\n%s", done.Released, releaser.waited, diff)
			}
			said := map[bool]string{true: "Track 2.0 would be created\n", false: "Created the track 2.0\n"}[test.dryRun]
			if created := test.dryRun || slices.Contains(test.calls, "CreateTracks 2.0") &&
				test.want == ""; strings.Contains(releaser.out.String(), said) != created {
				t.Errorf("said that the track is created: %t\n%s", !created, releaser.out)
			}
		})
	}
}

// The store isn't asked about tracks that the channel map's answer lists.
func TestReleaseToKnownTracks(t *testing.T) {
	store := newStore(withImage(1))
	store.listed = []string{"latest"}
	in := toEdge
	in.CreateTracks = true
	if _, err := newReleaser(store).Release(t.Context(), in); err != nil || slices.Contains(store.calls, "Tracks") {
		t.Errorf("calls %v, error %v", store.calls, err)
	}
}

// A run that is stopped while it creates a track says so.
func TestReleaseStopsAtTracks(t *testing.T) {
	for _, call := range []string{"CreateTracks", "Release"} {
		ctx, stop := context.WithCancelCause(t.Context())
		store := newStore(withImage(1))
		store.listed, store.tracks = []string{"latest"}, charmhub.Tracks{Guardrails: []string{"2"}}
		store.fail = map[string][]error{call: {context.Canceled}}
		if call == "CreateTracks" {
			store.fail[call] = []error{fmt.Errorf("cannot create: %w", charmhub.ErrUnclear)}
		}
		store.numbers = map[string]int{"my.charm": 2}
		store.hook = func(name string) {
			if name == call {
				stop(errors.New("the job was cancelled"))
			}
		}
		in := toEdge
		in.KeepRevisions, in.CreateTracks, in.Channels = false, true, []charmhub.Channel{{Track: "2", Risk: "edge"}}
		in.Files = []string{charmFile(t, "my.charm", "my-charm", noble)}
		in.Resources = map[string]int{"my-image": 2}
		_, err := newReleaser(store).Release(ctx, in)
		if want := "stopped: the job was cancelled; nothing was released, but the store may have made revisions of the " +
			"charm files and the track 2, which running this again uses"; err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", call, err, want)
		}
	}
}

// The charm's name is in its metadata, unless it is given.
func TestReleaseNamedByMetadata(t *testing.T) {
	path := imagetest.TempFile(t, "charmcraft.yaml", []byte("name: their-charm\n"))
	for charm, want := range map[string]string{"": "their-charm", "my-charm": "my-charm"} {
		done, err := newReleaser(newStore(withImage(2))).Release(t.Context(),
			Inputs{Charm: charm, Metadata: path, Channels: []charmhub.Channel{edge}})
		if err != nil || done.Charm != want {
			t.Errorf("charm %q, error %v; want %q", done.Charm, err, want)
		}
	}
}

// One request says all about each entry that changes.
func TestReleaseRequest(t *testing.T) {
	on := func(channel charmhub.Channel, base charm.Base, revision, image int) charmhub.Release {
		return charmhub.Release{Channel: channel, Base: base, Revision: revision,
			Resources: map[string]int{"my-image": image}}
	}
	type resources = map[string]int
	both := []charm.Base{noble, nobleArm}
	all := charm.Base{}
	for name, test := range map[string]struct {
		in       Inputs
		on       []charmhub.Release
		optional bool
		want     []charmhub.Release
	}{
		"two channels": {
			in:   Inputs{Channels: []charmhub.Channel{edge, beta}, Revisions: []int{1}, Resources: resources{"my-image": 2}},
			want: []charmhub.Release{on(beta, all, 1, 2), on(edge, all, 1, 2)},
		},
		"one of two channels": {
			in:   Inputs{Channels: []charmhub.Channel{edge, beta}, Revisions: []int{1}, Resources: resources{"my-image": 2}},
			on:   []charmhub.Release{on(beta, noble, 1, 2), on(beta, nobleArm, 1, 2)},
			want: []charmhub.Release{on(edge, all, 1, 2)},
		},
		"a revision, with the resources that are there": {
			in: Inputs{Channels: []charmhub.Channel{edge}, Revisions: []int{2}, KeepResources: true},
			on: []charmhub.Release{on(edge, noble, 1, 1)}, want: []charmhub.Release{on(edge, all, 2, 1)},
		},
		"an optional resource": {
			in: Inputs{Channels: []charmhub.Channel{edge}, Revisions: []int{1}, KeepResources: true}, optional: true,
			want: []charmhub.Release{on(edge, all, 1, charmhub.NoRevision)},
		},
		"promoted": {
			in:   Inputs{Channels: []charmhub.Channel{beta}, From: edge},
			on:   []charmhub.Release{on(edge, noble, 1, 2), on(edge, nobleArm, 1, 2)},
			want: []charmhub.Release{on(beta, all, 1, 2)},
		},
		"promoted, with other resources for each base": {
			in:   Inputs{Channels: []charmhub.Channel{beta}, From: edge},
			on:   []charmhub.Release{on(edge, noble, 1, 1), on(edge, nobleArm, 1, 2), on(beta, noble, 2, 1)},
			want: []charmhub.Release{on(beta, noble, 1, 1), on(beta, nobleArm, 1, 2)},
		},
		"promoted, with a new resource": {
			in:   Inputs{Channels: []charmhub.Channel{beta}, From: edge, Resources: resources{"my-image": 2}},
			on:   []charmhub.Release{on(edge, noble, 1, 1), on(edge, nobleArm, 1, 2)},
			want: []charmhub.Release{on(beta, all, 1, 2)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(test.on...)
			store.revisions = []charmhub.CharmRevision{{Revision: 2, Bases: []charm.Base{noble}}, {Revision: 1, Bases: both}}
			store.declared = []charmhub.Resource{
				{Name: "my-image", Type: charm.TypeImage, CharmRevision: new(1), Optional: test.optional},
				{Name: "my-image", Type: charm.TypeImage, CharmRevision: new(2)},
			}
			test.in.Charm, test.in.DryRun = "my-charm", true
			releaser := newReleaser(store)
			planned, err := releaser.Release(t.Context(), test.in)
			if err != nil || planned.Released || len(store.releases) > 0 {
				t.Errorf("dry run: %+v, error %v", planned, err)
			}
			test.in.DryRun = false
			done, err := releaser.Release(t.Context(), test.in)
			if err != nil || !done.Released {
				t.Fatalf("released %t, error %v", done.Released, err)
			}
			if diff := cmp.Diff([][]charmhub.Release{test.want}, store.releases); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(planned.Plan, done.Plan); diff != "" {
				t.Errorf("plan (-dry run +run):\n%s", diff)
			}
			store.calls = nil
			done, err = releaser.Release(t.Context(), test.in)
			if err != nil || done.Released || len(store.changes()) > 0 {
				t.Errorf("run again: released %t, error %v, after the calls %v", done.Released, err, store.calls)
			}
			if calls := slices.DeleteFunc(store.calls, func(call string) bool { return call != "Releases" }); len(calls) != 1 {
				t.Errorf("run again: the channel map was read %d times", len(calls))
			}
		})
	}
}

// A channel map that shows a part of a release is one that lags behind, not one that somebody else changed.
func TestReleaseShownInParts(t *testing.T) {
	unclear := fmt.Errorf("cannot release: %w", charmhub.ErrUnclear)
	for name, fail := range map[string][]error{"answered": nil, "with a lost answer": {unclear}} {
		t.Run(name, func(t *testing.T) {
			toBeta := withImage(1)
			toBeta.Channel = beta
			before := []charmhub.Release{toBeta, withImage(1)}
			store := newStore(before...)
			store.shown = [][]charmhub.Release{before, before, {toBeta, withImage(2)}}
			store.fail, store.done = map[string][]error{"Release": fail}, true
			in := toEdge
			in.Channels = []charmhub.Channel{beta, edge}
			releaser := newReleaser(store)
			done, err := releaser.Release(t.Context(), in)
			if err != nil || !done.Released || len(store.releases) != 1+len(fail) {
				t.Errorf("released %t by %d requests, error %v", done.Released, len(store.releases), err)
			}
			if diff := cmp.Diff(seconds(1), releaser.waited); diff != "" {
				t.Errorf("pauses (-want +got):\n%s", diff)
			}
		})
	}
}

// What is called released is on the channel map. An entry that the store ignored isn't.
func TestReleaseIsShown(t *testing.T) {
	onBeta := withImage(1)
	onBeta.Channel = beta
	in := toEdge
	in.Channels = []charmhub.Channel{beta, edge}
	store := newStore(onBeta, withImage(1))
	store.ignored = 1
	releaser := newReleaser(store)
	done, err := releaser.Release(t.Context(), in)
	wantError(t, err, "release to latest/edge for ubuntu 24.04 (amd64): Charmhub accepted charm revision 1 with "+
		"my-image:2, but the channel map doesn't "+
		"show it after a minute: charm revision 1 with my-image:1 is there; look at `charmcraft status my-charm`, and run "+
		"this again")
	if !done.Released || !done.Failed || len(done.NotShown) != 1 || done.NotShown[0].After.Channel != edge {
		t.Errorf("got %+v", done)
	}
	if diff := cmp.Diff(seconds(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), releaser.waited); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
	list, err := done.Outputs()
	if err != nil || strings.Contains(list[2].Value, "latest/edge") || !strings.Contains(list[2].Value, "latest/beta") {
		t.Errorf("outputs %v, error %v", list, err)
	}
}

// A store that ignores bases puts charm revisions where nobody asked for them: that is said, with what puts it right.
func TestReleaseOfIgnoredBases(t *testing.T) {
	onBeta := charmhub.Release{Channel: beta, Base: nobleArm, Revision: 7, Resources: map[string]int{"my-image": 1}}
	store := newStore(withImage(2), onBeta)
	store.anyBase = true
	store.revisions = []charmhub.CharmRevision{{Revision: 7, Bases: []charm.Base{nobleArm}},
		{Revision: 1, Bases: []charm.Base{noble, nobleArm}}}
	done, err := newReleaser(store).Release(t.Context(),
		Inputs{Charm: "my-charm", Channels: []charmhub.Channel{beta}, From: edge})
	wantError(t, err, "release to latest/beta for ubuntu 24.04 (arm64): after the release, charm revision 1 with "+
		"my-image:2 is there instead of charm revision 7 with my-image:1; ",
		"or the store released for a base that it was not asked for; look at `charmcraft status my-charm`, and restore it "+
			"with "+
			"`charmcraft release my-charm --revision=7 --channel=latest/beta --resource=my-image:1`")
	if !done.Released || !done.Failed {
		t.Errorf("got %+v", done)
	}
}

// A store may refuse entries that name a base, and which input makes that unnecessary is not in its answer.
func TestReleaseOfBasesRefused(t *testing.T) {
	plan := func(base charm.Base, leftOut []channelmap.Row) channelmap.Plan {
		return channelmap.Plan{Entries: []charmhub.Release{{Channel: edge, Base: base, Revision: 1}}, LeftOut: leftOut}
	}
	const other, some = "one charm revision has other resources on each base",
		"one charm revision is also for bases that the input bases leaves out"
	const because = ", for which the request has to name a base, and the store may not take that; "
	for name, test := range map[string]struct {
		status  int
		base    charm.Base
		leftOut []channelmap.Row
		advice  string
	}{
		"bad, with a base": {http.StatusBadRequest, noble, nil,
			other + because + "give the input resources, which are for all bases"},
		"bad, with some bases": {http.StatusBadRequest, noble, []channelmap.Row{{}},
			some + because + "release it for all of its bases, or make a charm file for each"},
		"bad, without a base":    {http.StatusBadRequest, charm.Base{}, []channelmap.Row{{}}, ""},
		"forbidden, with a base": {http.StatusForbidden, noble, nil, ""},
	} {
		store := newStore()
		store.fail = map[string][]error{"Release": {&charmhub.Error{Status: test.status, Message: "no"}}}
		err := newReleaser(store).send(t.Context(), "my-charm", plan(test.base, test.leftOut))
		wantError(t, err, ": no", test.advice)
		if strings.Contains(err.Error(), because) != (test.advice != "") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

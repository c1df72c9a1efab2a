package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

const fileText = "content"

var fileHash = func() string {
	sum := sha256.Sum256([]byte(fileText))
	return hex.EncodeToString(sum[:])
}()

// publishFile publishes a file with that text.
func (h *house) publishFile(ctx context.Context, tb testing.TB, architectures ...string) ([]Result, error) {
	tb.Helper()
	path := imagetest.TempFile(tb, "my.txt", []byte(fileText))
	return h.Publish(ctx, Inputs{Charm: "my-charm", Resource: "my-file", File: path, Architectures: architectures})
}

func TestFile(t *testing.T) {
	t.Parallel()
	other := charmhub.Revision{Revision: 0, SHA256: "other"}
	recorded := func(architectures ...string) []charmhub.Revision {
		return []charmhub.Revision{{Revision: 4, SHA256: "newer"},
			{Revision: 3, SHA256: fileHash, Architectures: architectures}, other}
	}
	tests := map[string]struct {
		architectures []string
		revisions     []charmhub.Revision
		dryRun        bool
		want          Revised
		created       []charmhub.NewRevision
		log           string
		set           string // architectures that were recorded
	}{
		"new": {nil, nil, false, Revised{new(0), true, false, true},
			[]charmhub.NewRevision{{UploadID: "id", Type: charm.TypeFile}}, "Revision 0 created of resource 'my-file'", ""},
		"new, for some": {
			[]string{"amd64"}, []charmhub.Revision{other}, false, Revised{new(1), true, false, true},
			[]charmhub.NewRevision{{UploadID: "id", Type: charm.TypeFile, Architectures: []string{"amd64"}}},
			"Revision 1 created", "",
		},
		"new, dry": {nil, nil, true, Revised{}, nil, "Dry run: would create a revision of resource " +
			"'my-file' for charm 'my-charm'", ""},
		"there": {nil, recorded("all"), false, Revised{new(3), false, false, false}, nil,
			"Revision 3 of resource 'my-file' for charm 'my-charm' is unchanged", ""},
		"there, store doesn't tell": {[]string{"amd64"}, recorded(), false, Revised{new(3), false, false, false}, nil,
			"is unchanged", ""},
		"there, for all": {[]string{"amd64"}, recorded("all"), false, Revised{new(3), false, false, false}, nil,
			"is unchanged", ""},
		"for others": {[]string{"amd64"}, recorded("arm64"), false, Revised{new(3), false, true, false}, nil,
			"its architectures were changed", "SetArchitectures 3 [amd64 arm64]"},
		"for all now": {[]string{"all"}, recorded("arm64"), false, Revised{new(3), false, true, false}, nil,
			"now recorded for all instead of arm64", "SetArchitectures 3 [all]"},
		"for others, dry": {[]string{"amd64"}, recorded("arm64"), true, Revised{new(3), false, true, false}, nil,
			"would record revision 3 for amd64, arm64 instead of arm64", ""},
		"twice, the better": {
			[]string{"amd64"},
			[]charmhub.Revision{{Revision: 3, SHA256: fileHash, Architectures: []string{"arm64"}},
				{Revision: 2, SHA256: fileHash, Architectures: []string{"amd64"}}},
			false, Revised{new(2), false, false, false}, nil, "is unchanged", "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			h.DryRun, h.store.revisions = test.dryRun, test.revisions
			results, err := h.publishFile(t.Context(), t, test.architectures...)
			if err != nil {
				t.Fatal(err)
			}
			r := results[0]
			if diff := cmp.Diff(test.want, r.Revised); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if r.SourceDigest != "sha256:"+fileHash || r.Size != int64(len(fileText)) || r.Uploaded != test.want.ContentSent {
				t.Errorf("got %+v", r)
			}
			if diff := cmp.Diff(test.created, h.store.created); diff != "" {
				t.Errorf("created (-want +got):\n%s", diff)
			}
			h.wantLog(t, test.log)
			if set := h.store.count(test.set); test.set != "" && set != 1 || test.set == "" &&
				strings.Contains(fmt.Sprint(h.store.calls), "SetArch") {
				t.Errorf("calls of the store: %v", h.store.calls)
			}
		})
	}
}

// Where the list of revisions lagged behind, the store answers with the one that has the content, and that may be
// recorded for other architectures.
func TestFileIsThereAfterAll(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.store.revisions = []charmhub.Revision{{Revision: 5, SHA256: "newer"}}
	h.store.answer = &charmhub.Revision{Revision: 3, SHA256: fileHash, Architectures: []string{"arm64"}}
	results, err := h.publishFile(t.Context(), t, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	want := Revised{Revision: new(3), ArchitecturesChanged: true, ContentSent: true}
	if diff := cmp.Diff(want, results[0].Revised); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if h.store.count("SetArchitectures 3 [amd64 arm64]") != 1 {
		t.Errorf("calls of the store: %v", h.store.calls)
	}
}

// An empty file is a file, but hardly what was meant.
func TestFileIsEmpty(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	path := imagetest.TempFile(t, "empty.txt", nil)
	if _, err := h.Publish(t.Context(), Inputs{Charm: "my-charm", Resource: "my-file", File: path}); err != nil {
		t.Fatal(err)
	}
	h.wantLog(t, "Warning: The file "+path+" is empty; check that the step before this one has written it")
}

// A list that lacks what was made is asked again where it matters for which architectures another job may have made it.
func TestFileIsNotListedYet(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		late          int
		architectures []string
		waits         int
		want          string
	}{
		"for all":  {1000, nil, 0, ""},
		"for some": {3, []string{"amd64"}, 2, ""},
		"for some, too late": {1000, []string{"amd64"}, 16, "cannot check the architectures of revision 0, which exists: " +
			"the list of revisions lacks it after 2m"},
	} {
		h := newHouse(nil)
		h.store.late = test.late
		results, err := h.publishFile(t.Context(), t, test.architectures...)
		if test.want != "" {
			wantError(t, err, test.want, "; run this again later")
		} else if err != nil || !results[0].Created {
			t.Errorf("%s: got %+v, error %v", name, results, err)
		}
		if len(h.waited) != test.waits {
			t.Errorf("%s: waited for %s, want %d pauses", name, h.waited, test.waits)
		}
	}
}

// Content that existed before the run isn't new, as far as anything tells.
func TestCreated(t *testing.T) {
	t.Parallel()
	lost := map[string][]error{"Await": {&net.OpError{Op: "read"}}}
	for name, test := range map[string]struct {
		set  func(*store)
		want bool
	}{
		"new":                             {func(*store) {}, true},
		"the review says that it existed": {func(s *store) { s.existed = true }, false},
		"of an earlier try, perhaps":      {func(s *store) { s.existed, s.fail, s.late = true, lost, 10 }, true},
		"older than the run": {func(s *store) { s.answer = &charmhub.Revision{Revision: 7, Age: time.Hour} },
			false},
		"as old as the run, or almost": {func(s *store) {
			s.answer = &charmhub.Revision{Revision: 7, Age: time.Second}
		}, true},
		"older, and the list lacks it, still": {func(s *store) {
			s.answer, s.late = &charmhub.Revision{Revision: 7, Age: time.Hour}, 10
		}, true},
		"older than one that was listed": {func(s *store) {
			s.revisions = []charmhub.Revision{{Revision: 8}}
			s.answer = &charmhub.Revision{Revision: 7}
		}, false},
		"newer than those that were listed": {func(s *store) {
			s.revisions = []charmhub.Revision{{Revision: 6}}
			s.answer = &charmhub.Revision{Revision: 7}
		}, true},
		"made, and nobody can look at it anymore": {func(s *store) { s.fail["Revisions"] = []error{nil, errors.New("gone")} },
			true},
	} {
		h := newHouse(nil)
		test.set(h.store)
		results, err := h.publishFile(t.Context(), t)
		if err != nil || results[0].Created != test.want {
			t.Errorf("%s: got %+v, error %v", name, results, err)
		}
	}
}

// The architectures of a revision can only be replaced, so a job that has read them before this run replaced them
// undoes that.
func TestArchitecturesAreUndone(t *testing.T) {
	t.Parallel()
	const set = "SetArchitectures 3 "
	for name, test := range map[string]struct {
		fail     map[string][]error
		patched  []string // what another job records after each time
		later    []string // what another records during each pause, from the second on
		calls    []string
		want     string
		recorded []string
	}{
		"not at all": {calls: []string{set + "[amd64 arm64]"}, recorded: []string{"amd64", "arm64"}},
		"at once": {patched: []string{"arm64", "s390x"}, calls: []string{set + "[amd64 arm64]",
			set + "[amd64 arm64 s390x]"}, recorded: []string{"amd64", "arm64", "s390x"}},
		"after the first look": {later: []string{"arm64", "s390x"}, calls: []string{set + "[amd64 arm64]",
			set + "[amd64 arm64 s390x]"}, recorded: []string{"amd64", "arm64", "s390x"}},
		"by more": {patched: []string{"all"}, calls: []string{set + "[amd64 arm64]"}, recorded: []string{"all"}},
		"answer lost": {
			fail:  map[string][]error{set + "[amd64 arm64]": {fmt.Errorf("%w: lost", charmhub.ErrUnclear)}},
			calls: []string{set + "[amd64 arm64]", set + "[amd64 arm64]"}, recorded: []string{"amd64", "arm64"},
		},
		"refused": {
			fail:  map[string][]error{set + "[amd64 arm64]": {&charmhub.Error{Status: http.StatusForbidden}}},
			calls: []string{set + "[amd64 arm64]"}, want: "403", recorded: []string{"arm64"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			h.store.revisions = []charmhub.Revision{{Revision: 3, SHA256: fileHash, Architectures: []string{"arm64"}}}
			if test.fail != nil {
				h.store.fail = test.fail
			}
			h.store.patched = func() {
				if test.patched != nil {
					h.store.record(3, test.patched...)
					test.patched = nil
				}
			}
			h.whileWaiting = func() {
				if test.later != nil && len(h.waited) == 2 {
					h.store.record(3, test.later...)
				}
			}
			results, err := h.publishFile(t.Context(), t, "amd64")
			if test.want != "" {
				wantError(t, err, test.want)
			} else if err != nil || !results[0].ArchitecturesChanged {
				t.Errorf("got %+v, error %v", results, err)
			}
			calls := slices.DeleteFunc(h.store.calls, func(call string) bool { return !strings.HasPrefix(call, set) })
			if diff := cmp.Diff(test.calls, calls) + cmp.Diff(test.recorded, h.store.revisions[0].Architectures); diff != "" {
				t.Errorf("calls and record (-want +got):\n%s", diff)
			}
		})
	}
}

// Who removes architectures each time after they were seen means it.
func TestArchitecturesAreRemovedOnPurpose(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.store.revisions = []charmhub.Revision{{Revision: 3, SHA256: fileHash, Architectures: []string{"arm64"}}}
	looks := 0
	h.store.patched = func() { looks = 0 }
	h.whileWaiting = func() {
		if looks++; looks == 2 {
			h.store.record(3, "arm64")
		}
	}
	results, err := h.publishFile(t.Context(), t, "amd64")
	if err != nil || results[0].Created || results[0].ArchitecturesChanged {
		t.Errorf("got %+v, error %v", results, err)
	}
	h.wantLog(t, "Warning: Somebody else keeps recording revision 3 for arm64 instead of amd64, arm64, and that is "+
		"left as it is")
	if n := h.store.count("SetArchitectures 3 [amd64 arm64]"); n != removals {
		t.Errorf("set %d times, want %d", n, removals)
	}
}

// A store that accepts architectures without recording them is an error.
func TestArchitecturesAreIgnored(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.store.revisions = []charmhub.Revision{{Revision: 3, SHA256: fileHash, Architectures: []string{"arm64"}}}
	h.store.patched = func() { h.store.record(3, "arm64") }
	_, err := h.publishFile(t.Context(), t, "amd64")
	wantError(t, err, "cannot record revision 3 of resource 'my-file' for charm 'my-charm' for amd64, arm64",
		"still lists it for arm64", "; run this again later")
	if n := h.store.count("SetArchitectures 3 [amd64 arm64]"); n != recordTries {
		t.Errorf("set %d times, want %d", n, recordTries)
	}
}

func TestFileFails(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for name, test := range map[string]struct {
		path string
		set  func(*house)
		want []string
	}{
		"folder":    {t.TempDir(), nil, []string{"is a folder; give a file", "give a file"}},
		"missing":   {filepath.Join(t.TempDir(), "x"), nil, []string{"input filepath: ", "cannot find"}},
		"revisions": {"", func(h *house) { h.store.fail["Revisions"] = []error{gone} }, []string{"gone"}},
		"another type": {"", func(h *house) { h.store.resources[1].Type = charm.TypeImage },
			[]string{"use the input digest or image"}},
		"upload":    {"", func(h *house) { h.store.fail["Upload"] = []error{gone} }, []string{"gone"}},
		"not asked": {"", func(h *house) { h.store.fail["CreateRevision"] = []error{gone} }, []string{"gone"}},
		"rejected":  {"", func(h *house) { h.store.fail["Await"] = []error{gone} }, []string{"gone"}},
		"SetArchitectures": {"", func(h *house) {
			h.store.revisions = []charmhub.Revision{{Revision: 3, SHA256: fileHash, Architectures: []string{"arm64"}}}
			h.store.fail["SetArchitectures 3 [amd64 arm64]"] = []error{gone}
		}, []string{"gone"}},
		"architectures of what was made": {"", func(h *house) { h.store.fail["Revisions"] = []error{nil, gone} },
			[]string{"cannot check the architectures of revision 0, which exists: gone", "run this again later"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			if test.set != nil {
				test.set(h)
			}
			path := test.path
			if path == "" {
				path = imagetest.TempFile(t, "my.txt", []byte(fileText))
			}
			r, err := h.PublishFile(t.Context(), Target{"my-charm", "my-file"}, path, []string{"amd64"})
			wantError(t, err, test.want...)
			sent := name == "not asked" || name == "rejected" || name == "architectures of what was made"
			exists := name == "SetArchitectures"
			if r.Uploaded != sent || (r.Revision != nil) != exists || r.ArchitecturesChanged {
				t.Errorf("got %+v; want the file sent: %t, and its revision there: %t", r, sent, exists)
			}
		})
	}
}

// A file that is written to while it is sent doesn't become a revision.
func TestFileChanges(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	path := imagetest.TempFile(t, "my.txt", []byte(fileText))
	h.Store.RevisionStore = changing{h.store, path}
	_, err := h.Publish(t.Context(), Inputs{Charm: "my-charm", Resource: "my-file", File: path})
	wantError(t, err, "changed after its digest was computed")
}

// changing is a store that changes a file once it was hashed.
type changing struct {
	*store
	path string
}

// Upload changes the file, then uploads it.
func (c changing) Upload(
	ctx context.Context, name string, size int64, open func() (io.ReadCloser, error),
) (string, error) {
	if err := os.WriteFile(c.path, []byte("CONTENT"), 0o600); err != nil {
		return "", err
	}
	return c.store.Upload(ctx, name, size, open)
}

// A failure in passing is tried again, after a look whether it was one.
func TestRevisionIsTriedAgain(t *testing.T) {
	t.Parallel()
	unclear := fmt.Errorf("%w: lost", charmhub.ErrUnclear)
	busy := &charmhub.Error{Status: http.StatusTooManyRequests, RetryAfter: 5 * time.Second}
	for name, test := range map[string]struct {
		fail     map[string][]error
		listed   bool // the revision is there at the second look
		want     []string
		waited   []time.Duration
		revision int
	}{
		"lost, and made":     {map[string][]error{"CreateRevision": {unclear}}, true, nil, []time.Duration{time.Second}, 9},
		"lost, and not made": {map[string][]error{"CreateRevision": {unclear}}, false, nil, []time.Duration{time.Second}, 0},
		"busy":               {map[string][]error{"CreateRevision": {busy}}, false, nil, []time.Duration{5 * time.Second}, 0},
		"lost three times": {
			map[string][]error{"CreateRevision": {unclear, unclear, unclear}}, false,
			[]string{"the store gave no clear answer: lost; the revision may exist all the same"},
			[]time.Duration{time.Second, 2 * time.Second}, 0,
		},
		"busy, then rejected": {map[string][]error{"CreateRevision": {busy, errors.New("no")}}, false, []string{"no"},
			[]time.Duration{5 * time.Second}, 0},
		"lost, then no list": {
			map[string][]error{"CreateRevision": {unclear}, "Revisions": {nil, errors.New("no list")}}, false,
			[]string{"lost; and then no list", "may exist all the same"}, []time.Duration{time.Second}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			h.store.fail = test.fail
			h.store.on = func(call string) {
				if call == "CreateRevision" && test.listed {
					h.store.revisions = []charmhub.Revision{{Revision: 9, SHA256: fileHash}}
				}
			}
			results, err := h.publishFile(t.Context(), t)
			if diff := cmp.Diff(test.waited, h.waited); diff != "" {
				t.Errorf("waited (-want +got):\n%s", diff)
			}
			if test.want != nil {
				wantError(t, err, test.want...)
				return
			}
			if err != nil || *results[0].Revision != test.revision {
				t.Errorf("got %+v, error %v", results, err)
			}
		})
	}
}

// A run that is stopped says where it was, and whether there may be a revision.
func TestStopped(t *testing.T) {
	t.Parallel()
	const none, perhaps = "; no revision was created",
		"the store may still create the revision, and running again picks it up"
	for call, want := range map[string][]string{
		"Revisions":      {"stopped while looking for what is there already: ", none},
		"Upload":         {"stopped while sending the revision's content to Charmhub: ", none},
		"CreateRevision": {"stopped while creating the revision: ", perhaps},
		"Await":          {"stopped while creating the revision: ", perhaps},
	} {
		ctx, stop := context.WithCancelCause(t.Context())
		h := newHouse(nil)
		h.store.on = func(called string) {
			if called == call {
				stop(errors.New("the end"))
			}
		}
		h.store.fail[call] = []error{fmt.Errorf("%w: %w", charmhub.ErrUnclear, &net.OpError{Op: "read", Err: ctx.Err()})}
		_, err := h.publishFile(ctx, t)
		wantError(t, err, append(want, "the end")...)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	h := newHouse(nil)
	h.store.fail["CreateRevision"] = []error{&charmhub.Error{Status: http.StatusTooManyRequests}}
	wait := h.Wait
	h.Wait = func(ctx context.Context, d time.Duration) error {
		stop(errors.New("the end"))
		return wait(ctx, d)
	}
	_, err := h.publishFile(ctx, t)
	wantError(t, err, "stopped while sending the revision's content to Charmhub: the end", none)
	for call, want := range map[string]string{
		"Plan": "stopped while looking for what is there already: ",
		"Push": "stopped while sending the image to the registry: ",
	} {
		ctx, stop := context.WithCancelCause(t.Context())
		h := newHouse(nil)
		h.repository.fail[call] = errors.New("cancelled")
		part := h.add(t, "./a", backed(t, newImage(t, arm64)))
		stop(errors.New("the end"))
		_, err := h.Publish(ctx, Inputs{Charm: "my-charm", Resource: "my-image", Images: []Part{part}})
		wantError(t, err, want, "the end", none)
	}
}

// A panic becomes the error of its resource.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.store.on = func(call string) { panic(call) }
	_, err := h.publishFile(t.Context(), t)
	wantError(t, err, "the action crashed: Re")
}

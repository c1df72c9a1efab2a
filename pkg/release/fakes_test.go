package release

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/internal/charmtest"
	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// env is the environment of a test, by variable name.
type env = testkit.Env

var wantError = testkit.WantError

const aToken = testkit.Token

// newRunner returns a runner and what it prints.
func newRunner(e env) (*action.Runner, *bytes.Buffer) {
	var out bytes.Buffer
	return action.New(e.Get, &out), &out
}

// fakeStore is a Charmhub in memory, whose answers a test can replace by errors.
type fakeStore struct {
	mu         sync.Mutex
	on         []charmhub.Release       // the channel map
	shown      [][]charmhub.Release     // channel maps to show first, each once
	revisions  []charmhub.CharmRevision // newest first
	unreleased bool                     // the channel map's answer has none of them
	declared   []charmhub.Resource      // those of each charm revision
	tracks     charmhub.Tracks          // the default one may be empty for latest
	listed     []string                 // tracks, in the channel map's answer
	images     []charmhub.Revision      // newest first, of every resource
	unlisted   int                      // calls for the list of these that miss the newest
	anyBase    bool                     // bases in requests are ignored
	ignored    int                      // entries at the end of a request that are

	existed bool                     // the revisions of charm files, as their reviews say
	late    int                      // calls for the list that miss the newest of these
	numbers map[string]int           // of the revisions that charm files become, by the files' names
	sent    map[string]charm.Archive // charm files, by name

	fail     map[string][]error   // by method; each call takes the first, nil for none
	done     bool                 // a request to release that fails is carried out all the same
	releases [][]charmhub.Release // that were asked for
	calls    []string
	hook     func(call string)
}

// newStore has charm revision 1, which declares an image, and two revisions of that.
func newStore(on ...charmhub.Release) *fakeStore {
	return &fakeStore{
		on:        slices.Clone(on),
		revisions: []charmhub.CharmRevision{{Revision: 1, Bases: []charm.Base{noble}}},
		declared:  []charmhub.Resource{{Name: "my-image", Type: charm.TypeImage, CharmRevision: new(1)}},
		images:    []charmhub.Revision{{Revision: 2}, {Revision: 1}},
		sent:      map[string]charm.Archive{},
	}
}

// called returns with the lock held.
func (s *fakeStore) called(name, of string) error {
	if s.hook != nil {
		s.hook(name)
	}
	s.mu.Lock()
	s.calls = append(s.calls, strings.TrimSpace(name+" "+of))
	errs := s.fail[name]
	if len(errs) == 0 {
		return nil
	}
	s.fail[name] = errs[1:]
	return errs[0]
}

// changes are the calls that are no questions, sorted.
func (s *fakeStore) changes() []string {
	calls := slices.DeleteFunc(slices.Clone(s.calls), func(call string) bool {
		return slices.Contains([]string{"ResourcesOf", "Revisions", "CharmRevisions", "Releases", "Tracks"},
			strings.Fields(call)[0])
	})
	slices.Sort(calls)
	return calls
}

// Tracks returns the charm's tracks. The default is latest unless the test has set another.
func (s *fakeStore) Tracks(context.Context, string) (charmhub.Tracks, error) {
	err := s.called("Tracks", "")
	defer s.mu.Unlock()
	tracks := s.tracks
	tracks.Default = cmp.Or(tracks.Default, charmhub.Latest)
	return tracks, err
}

// CreateTracks adds tracks to the charm.
func (s *fakeStore) CreateTracks(_ context.Context, _ string, names []string) error {
	err := s.called("CreateTracks", strings.Join(names, " "))
	defer s.mu.Unlock()
	if err == nil || s.done {
		s.tracks.Names = append(slices.Clone(s.tracks.Names), names...)
	}
	return err
}

// ResourcesOf returns the resources that a charm revision declares.
func (s *fakeStore) ResourcesOf(_ context.Context, _ string, revision int) ([]charmhub.Resource, error) {
	err := s.called("ResourcesOf", strconv.Itoa(revision))
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.declared),
		func(r charmhub.Resource) bool { return *r.CharmRevision != revision }), err
}

// Revisions returns the revisions of any resource. The first calls lack the newest, as often as unlisted says.
func (s *fakeStore) Revisions(_ context.Context, _, resource string) ([]charmhub.Revision, error) {
	err := s.called("Revisions", resource)
	defer s.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case s.unlisted > 0:
		s.unlisted--
		return s.images[1:], nil
	}
	return s.images, nil
}

// CharmRevisions returns the charm's revisions. The first calls lack the newest, as often as late says.
func (s *fakeStore) CharmRevisions(context.Context, string) ([]charmhub.CharmRevision, error) {
	err := s.called("CharmRevisions", "")
	defer s.mu.Unlock()
	if s.late > 0 && len(s.revisions) > 0 {
		s.late--
		return slices.Clone(s.revisions[1:]), err
	}
	return slices.Clone(s.revisions), err
}

// Releases returns the channel map, or the next one that the test wants to show.
func (s *fakeStore) Releases(context.Context, string) (charmhub.Releases, error) {
	err := s.called("Releases", "")
	defer s.mu.Unlock()
	shown := slices.Clone(s.on)
	if len(s.shown) > 0 {
		shown, s.shown = s.shown[0], s.shown[1:]
	}
	revisions := slices.DeleteFunc(slices.Clone(s.revisions), func(r charmhub.CharmRevision) bool {
		return s.unreleased || !slices.ContainsFunc(shown,
			func(release charmhub.Release) bool { return release.Revision == r.Revision })
	})
	return charmhub.Releases{Map: shown, Revisions: revisions, Tracks: s.listed}, err
}

// Release changes the channel map as the entries ask, and keeps them.
func (s *fakeStore) Release(_ context.Context, _ string, entries []charmhub.Release) error {
	err := s.called("Release", "")
	defer s.mu.Unlock()
	s.releases = append(s.releases, entries)
	if err == nil || s.done {
		for _, entry := range entries[:len(entries)-s.ignored] {
			for _, base := range s.basesOf(entry) {
				s.on = slices.DeleteFunc(s.on, func(r charmhub.Release) bool {
					return r.Channel == entry.Channel &&
						r.Base == base
				})
				entry.Base, entry.Resources = base, maps.Clone(entry.Resources)
				s.on = append(s.on, entry)
			}
		}
	}
	return err
}

// basesOf are those that an entry is for.
func (s *fakeStore) basesOf(entry charmhub.Release) []charm.Base {
	at := slices.IndexFunc(s.revisions, func(r charmhub.CharmRevision) bool { return r.Revision == entry.Revision })
	if at < 0 || entry.Base != (charm.Base{}) && !s.anyBase {
		return []charm.Base{entry.Base}
	}
	return s.revisions[at].Bases
}

// Upload returns the file's name for an ID.
func (s *fakeStore) Upload(
	_ context.Context, name string, size int64, open func() (io.ReadCloser, error),
) (string, error) {
	err := s.called("Upload", name)
	defer s.mu.Unlock()
	if err != nil {
		return "", err
	}
	content, err := open()
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(content)
	if err = errors.Join(err, content.Close()); err != nil {
		return "", err
	}
	s.sent[name], err = charm.ReadArchive(bytes.NewReader(text), size)
	return name, err
}

// CreateCharmRevision returns the ID for an address.
func (s *fakeStore) CreateCharmRevision(_ context.Context, _, uploadID string) (string, error) {
	err := s.called("CreateCharmRevision", uploadID)
	defer s.mu.Unlock()
	return uploadID, err
}

// Await adds the charm revision that an uploaded file becomes to the list.
func (s *fakeStore) Await(_ context.Context, name string) (charmhub.Reviewed, error) {
	err := s.called("Await", name)
	defer s.mu.Unlock()
	number := s.numbers[name]
	_, exists := errors.AsType[*charmhub.ExistsError](err)
	if exists {
		s.late = 1
	}
	if err == nil || exists {
		s.revisions = slices.Insert(s.revisions, 0,
			charmhub.CharmRevision{Revision: number, SHA3: s.sent[name].SHA3, Bases: s.sent[name].Bases})
	}
	return charmhub.Reviewed{Revision: number, Existed: s.existed}, err
}

// releasing is a releaser, and what it did.
type releasing struct {
	Releaser
	out    *bytes.Buffer
	mu     sync.Mutex
	waited []time.Duration
}

// newReleaser returns a releaser that uses the store, keeps its output, and notes waits without waiting.
func newReleaser(store *fakeStore) *releasing {
	runner, out := newRunner(env{})
	r := &releasing{out: out}
	r.Releaser = Releaser{
		Store: Store{store, store}, Files: workspace.Workspace{}, Runner: runner,
		Wait: func(ctx context.Context, d time.Duration) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.waited = append(r.waited, d)
			return context.Cause(ctx)
		},
	}
	return r
}

// charmFile writes a charm file and returns its path.
func charmFile(tb testing.TB, file, name string, bases ...charm.Base) (path string) {
	tb.Helper()
	return imagetest.TempFile(tb, file, []byte(charmtest.File(tb, charmtest.Metadata(name), bases...)))
}

// sumOf is the digest by which Charmhub knows a charm file.
func sumOf(tb testing.TB, path string) string {
	tb.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	archive, err := charm.ReadArchive(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		tb.Fatal(err)
	}
	return archive.SHA3
}

package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/source"
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

// store is a Charmhub in memory, whose answers a test can replace by errors.
type store struct {
	mu        sync.Mutex
	resources []charmhub.Resource
	revisions []charmhub.Revision // newest first, of every resource
	late      int                 // how many calls for the list of revisions lack what was created
	pending   []charmhub.Revision // created, and not listed yet
	answer    *charmhub.Revision  // instead of a new one
	existed   bool                // the review says that the answer existed
	patched   func()              // is called after each SetArchitectures, and may undo it
	fail      map[string][]error  // by method; each call takes the first
	calls     []string
	created   []charmhub.NewRevision
	uploaded  []string
	on        func(call string)

	text  string         // of the image, instead of one without a name
	names map[int]string // of the images of revisions, as far as they are public
	asked []int          // the revisions that these were asked for
}

// newStore returns a store whose charm has an image and a file resource, without revisions.
func newStore() *store {
	return &store{
		resources: []charmhub.Resource{{Name: "my-image", Type: charm.TypeImage}, {Name: "my-file", Type: charm.TypeFile}},
		fail:      map[string][]error{},
	}
}

// called notes a call, and returns the next error that the test has set for it.
func (s *store) called(name string) error {
	if s.on != nil {
		s.on(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, name)
	if errs := s.fail[name]; len(errs) > 0 {
		s.fail[name] = errs[1:]
		return errs[0]
	}
	return nil
}

// count returns how many calls of this name there were.
func (s *store) count(name string) (n int) {
	for _, call := range s.calls {
		if call == name {
			n++
		}
	}
	return n
}

// Resources returns the charm's resources.
func (s *store) Resources(context.Context, string) ([]charmhub.Resource, error) {
	return s.resources, s.called("Resources")
}

// Revisions returns the listed revisions. The first calls lack a revision that is still pending, as often as late
// says.
func (s *store) Revisions(context.Context, string, string) ([]charmhub.Revision, error) {
	err := s.called("Revisions")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late--; s.late < 0 {
		s.revisions, s.pending = append(s.pending, s.revisions...), nil
	}
	return slices.Clone(s.revisions), err
}

// UploadCredentials returns the name of the resource's repository, without a login.
func (s *store) UploadCredentials(_ context.Context, charm, resource string) (charmhub.RegistryCredentials, error) {
	return charmhub.RegistryCredentials{ImageName: "registry.example/" + charm + "/" + resource},
		s.called("UploadCredentials")
}

// ImageBlob returns the text that describes an image: the test's, or one made of the digest.
func (s *store) ImageBlob(_ context.Context, _, _, digest string) ([]byte, error) {
	if err := s.called("ImageBlob"); err != nil {
		return nil, err
	}
	if s.text != "" {
		return []byte(s.text), nil
	}
	return []byte("description of " + digest), nil
}

// ImageNames returns the test's public names of images, and notes the revisions in the question.
func (s *store) ImageNames(_ context.Context, _, _ string, of []charmhub.Revision) (map[int]string, error) {
	for _, revision := range of {
		s.asked = append(s.asked, revision.Revision)
	}
	return s.names, s.called("ImageNames")
}

// PrepareUpload does nothing.
func (s *store) PrepareUpload(context.Context) {}

// Upload reads the content twice, as a retry does, and keeps it below the file's name.
func (s *store) Upload(_ context.Context, name string, size int64, open func() (io.ReadCloser, error)) (string, error) {
	for range 2 { // as a retry does
		content, err := open()
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(content)
		if err = errors.Join(err, content.Close()); err != nil {
			return "", err
		}
		if int64(len(text)) != size {
			return "", fmt.Errorf("%d bytes, and %d were announced", len(text), size)
		}
		s.uploaded = append(s.uploaded, name+": "+string(text))
	}
	return "id", s.called("Upload")
}

// CreateRevision keeps the new revision, for Await to accept.
func (s *store) CreateRevision(_ context.Context, _, _ string, n charmhub.NewRevision) (string, error) {
	s.created = append(s.created, n)
	return "/status", s.called("CreateRevision")
}

// Await accepts the revision that was created, with the next number, or the test's answer in place of it.
func (s *store) Await(context.Context, string) (charmhub.Reviewed, error) {
	err := s.called("Await")
	s.mu.Lock()
	defer s.mu.Unlock()
	made := charmhub.Revision{Revision: len(s.revisions), Architectures: s.created[0].Architectures}
	if s.answer != nil {
		made = *s.answer
	}
	if err == nil && len(s.pending) == 0 {
		s.pending = []charmhub.Revision{made}
	}
	return charmhub.Reviewed{Revision: made.Revision, Existed: s.existed}, err
}

// SetArchitectures changes the architectures of a revision.
func (s *store) SetArchitectures(_ context.Context, _, _ string, revision int, architectures []string) error {
	if err := s.called(fmt.Sprintf("SetArchitectures %d %s", revision, architectures)); err != nil {
		return err
	}
	s.record(revision, architectures...)
	if s.patched != nil {
		s.patched()
	}
	return nil
}

// record changes the architectures of a revision.
func (s *store) record(revision int, architectures ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.revisions {
		if s.revisions[n].Revision == revision {
			s.revisions[n].Architectures = architectures
		}
	}
}

// repository is one that holds images, and keeps what is done to it.
type repository struct {
	mu       sync.Mutex
	images   map[v1.Hash]image.ImageOrIndex
	located  map[v1.Hash]image.ImageOrIndex // by ID, or by the first of an index's images
	present  bool                           // Plan finds what Manifest doesn't
	lacks    bool                           // the config
	compared bool                           // by Find of an ID, or by Push
	keyed    image.ImageOrIndex             // under any key; nil for none
	fail     map[string]error

	keyedSource v1.Hash
	on          func(call string) // nil, or is called first
	calls       []string
	early       atomic.Int64 // layers sent early
}

// newRepository returns a repository without images.
func newRepository() *repository {
	return &repository{images: map[v1.Hash]image.ImageOrIndex{}, located: map[v1.Hash]image.ImageOrIndex{},
		fail: map[string]error{}}
}

// called notes a call, and returns the error that the test has set for it.
func (r *repository) called(name string) error {
	if r.on != nil {
		r.on(name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, name)
	return r.fail[name]
}

// Name returns the repository's name with its host.
func (r *repository) Name() string { return "registry.example/my-charm/my-image" }

// Find returns the image that has the manifest's digest, or else the one that is recorded for the identity.
func (r *repository) Find(_ context.Context, id image.Identity) (found registry.Found, err error) {
	call, found := "Find", registry.Found{Image: r.images[id.Manifest], Unread: r.fail["unread"]}
	switch {
	case len(id.Images) > 0:
		call += " images"
		if found.Image == nil {
			found.Image = r.located[id.Images[0].Digest]
		}
	case id.Config != v1.Hash{}:
		call += " config"
		if found.Image == nil {
			found.Image, found.Compared = r.located[id.Config], r.compared
		}
	}
	return found, r.called(call)
}

// FindKey returns the image that the test has recorded under any key.
func (r *repository) FindKey(context.Context, v1.Hash) (registry.Keyed, error) {
	return registry.Keyed{Image: r.keyed, Source: r.keyedSource}, r.called("FindKey")
}

// Layers returns no layers.
func (r *repository) Layers(context.Context) registry.Layers {
	_ = r.called("Layers")
	return registry.Layers{}
}

// Lacks returns whether the test wants the config to be missing.
func (r *repository) Lacks(context.Context, v1.Hash) (bool, error) { return r.lacks, r.called("Lacks") }

// SendBlob reads the layer to its end and counts it.
func (r *repository) SendBlob(_ context.Context, layer partial.CompressedLayer) error {
	r.early.Add(1) // at any time
	if err := r.fail["SendBlob"]; err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, content)
	return errors.Join(err, content.Close())
}

// Plan returns a plan to send the whole image as one blob, or nothing if the image is present.
func (r *repository) Plan(_ context.Context, img image.ImageOrIndex, _ registry.Layers) (*registry.Plan, error) {
	size, err := img.Size()
	if err = errors.Join(err, r.called("Plan")); err != nil || r.present {
		return &registry.Plan{Present: r.present}, err
	}
	return &registry.Plan{Missing: []v1.Descriptor{{Size: size}}}, nil
}

// Push reports the plan's bytes as sent.
func (r *repository) Push(_ context.Context, plan *registry.Plan, progress func(int64)) (bool, error) {
	progress(plan.Missing[0].Size)
	return r.compared, r.called("Push")
}

// Record notes the images with their sources, and whether the tag latest moves.
func (r *repository) Record(_ context.Context, moveLatest bool, images ...registry.Recorded) error {
	for _, one := range images {
		call := fmt.Sprintf("Record %t", one.Compared)
		for _, source := range one.Sources {
			call += " " + source.String()
		}
		if one.Compared || len(one.Sources) > 0 {
			_ = r.called(call)
		}
	}
	if moveLatest {
		_ = r.called("MoveLatest")
	}
	return r.fail["Record"]
}

// RecordKey notes the source of the image that is recorded under a key.
func (r *repository) RecordKey(_ context.Context, _ v1.Hash, _ image.ImageOrIndex, source v1.Hash) error {
	return r.called("RecordKey " + source.String())
}

// sources are images by the texts of their references.
type sources struct {
	mu     sync.Mutex
	images map[string]source.Source
	fail   map[string]error
	tags   map[string]v1.Hash
	tagged []string // those that CheckTag saw
	on     func()   // nil, or is called by Open
}

// Open returns the image under the text of the reference, or NotFoundError.
func (s *sources) Open(_ context.Context, ref source.Reference) (source.Source, error) {
	if s.on != nil {
		s.on()
	}
	if err := s.fail[ref.Text]; err != nil {
		return nil, err
	}
	found, ok := s.images[ref.Text]
	if !ok {
		return nil, &source.NotFoundError{Name: ref.Text, Place: "the container engine"}
	}
	return found, nil
}

// CheckTag notes the reference.
func (s *sources) CheckTag(_ context.Context, ref source.Reference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tagged = append(s.tagged, ref.Text)
}

// Resolve returns the digest of a tag.
func (s *sources) Resolve(_ context.Context, tagged string) (v1.Hash, error) {
	digest, ok := s.tags[tagged]
	if !ok {
		return digest, errors.New("no such tag")
	}
	return digest, nil
}

// house is a publisher with all that it talks to.
type house struct {
	*Publisher
	store      *store
	repository *repository
	sources    *sources
	runner     *action.Runner
	out        *bytes.Buffer
	waited     []time.Duration

	whileWaiting func()
}

// newHouse returns a publisher that talks to fakes only, and never really waits.
func newHouse(e env) *house {
	h := &house{store: newStore(), repository: newRepository(), sources: &sources{
		images: map[string]source.Source{}, fail: map[string]error{}, tags: map[string]v1.Hash{},
	}}
	h.runner, h.out = newRunner(e)
	h.Publisher = &Publisher{
		Store: Store{h.store, h.store}, Sources: h.sources, Files: workspace.Workspace{}, Runner: h.runner,
		Repository: func(context.Context, charmhub.RegistryCredentials, *zap.Logger) (Repository, error) {
			return Repository{h.repository, h.repository}, h.repository.called("Open")
		},
		Wait: func(ctx context.Context, d time.Duration) error {
			h.waited = append(h.waited, d)
			if h.whileWaiting != nil {
				h.whileWaiting()
			}
			return context.Cause(ctx)
		},
	}
	return h
}

// add makes an image available under a digest or ID, as the input image takes it.
func (h *house) add(tb testing.TB, text string, src source.Source) Part {
	tb.Helper()
	ref, err := source.Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	h.sources.images[text] = src
	return Part{Reference: ref}
}

// publish runs the use case for images, and fails the test if that fails.
func (h *house) publish(tb testing.TB, platform *v1.Platform, parts ...Part) Result {
	tb.Helper()
	results, err := h.Publish(tb.Context(), Inputs{Charm: "my-charm", Resource: "my-image", Images: parts,
		Platform: platform})
	if err != nil {
		tb.Fatal(err)
	}
	return results[0]
}

// fails runs the same, and fails the test unless the error has the fragments.
func (h *house) fails(tb testing.TB, parts []Part, fragments ...string) {
	tb.Helper()
	results, err := h.Publish(tb.Context(), Inputs{Charm: "my-charm", Resource: "my-image", Images: parts})
	wantError(tb, err, fragments...)
	if results != nil {
		tb.Errorf("results of a failed run: %v", results)
	}
}

// digestOf returns the digest of an image or index.
func digestOf(tb testing.TB, m image.ImageOrIndex) v1.Hash {
	tb.Helper()
	digest, err := m.Digest()
	if err != nil {
		tb.Fatal(err)
	}
	return digest
}

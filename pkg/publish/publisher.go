package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/source"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// Store is the part of Charmhub's API that a Publisher needs. [charmhub.Client] implements it.
type Store struct {
	RevisionStore
	ImageStore
}

// RevisionStore lists and creates the revisions of a charm's resources.
type RevisionStore interface {
	Resources(ctx context.Context, charm string) ([]charmhub.Resource, error)
	Revisions(ctx context.Context, charm, resource string) ([]charmhub.Revision, error)
	CreateRevision(ctx context.Context, charm, resource string, n charmhub.NewRevision) (statusURL string, err error)
	SetArchitectures(ctx context.Context, charm, resource string, revision int, architectures []string) error
	upload.Store
}

// ImageStore has the requests that only images need.
type ImageStore interface {
	UploadCredentials(ctx context.Context, charm, resource string) (charmhub.RegistryCredentials, error)
	ImageBlob(ctx context.Context, charm, resource, digest string) ([]byte, error)
	ImageNames(ctx context.Context, charm, resource string, of []charmhub.Revision) (map[int]string, error)
	PrepareUpload(ctx context.Context)
}

// Repository is the repository of a resource. [registry.View] implements it.
type Repository struct {
	Finder
	Writer
}

// Finder finds images in the repository. It sends each request once per run.
type Finder interface {
	Name() string
	Find(ctx context.Context, id image.Identity) (registry.Found, error)
	FindKey(ctx context.Context, key v1.Hash) (registry.Keyed, error)
	Lacks(ctx context.Context, config v1.Hash) (bool, error)
	Layers(ctx context.Context) registry.Layers
	Plan(ctx context.Context, img image.ImageOrIndex, packedLayers registry.Layers) (*registry.Plan, error)
}

// Writer sends images and records how to find them.
type Writer interface {
	SendBlob(ctx context.Context, layer partial.CompressedLayer) error
	Push(ctx context.Context, plan *registry.Plan, progress func(bytes int64)) (compared bool, err error)
	Record(ctx context.Context, moveLatest bool, images ...registry.Recorded) error
	RecordKey(ctx context.Context, key v1.Hash, img image.ImageOrIndex, source v1.Hash) error
}

// Sources opens images where they are stored. [source.Opener] implements it.
type Sources interface {
	Open(ctx context.Context, ref source.Reference) (source.Source, error)
	CheckTag(ctx context.Context, ref source.Reference)
	Resolve(ctx context.Context, tagged string) (v1.Hash, error)
}

// Files opens the files that inputs name. [workspace.Workspace] implements it.
type Files interface {
	Open(path string) (*os.File, error)
}

// Runner shows what is being done. [action.Runner] implements it.
type Runner interface {
	Logger() *zap.Logger
	Mask(secret string)
	Group(title string) (end func())
	Progress(what string, total int64) (add func(bytes int64), done func())
}

// Publisher publishes resources. It has no state of its own, and its methods may be called from several goroutines.
type Publisher struct {
	Store   Store
	Sources Sources
	Files   Files
	Runner  Runner
	// Repository opens the repository of an image resource. The repository writes to the logger.
	Repository func(context.Context, charmhub.RegistryCredentials, *zap.Logger) (Repository, error)
	// Wait pauses, as [transport.Sleep] does.
	Wait func(context.Context, time.Duration) error
	Options
}

// Options configure a Publisher.
type Options struct {
	Compression pack.Compression // of the layers of images that have no manifest
	Key         v1.Hash          // digest of a text that names what an image is made of; zero for none
	PushOnly    bool             // push an image, and make no revision
	DryRun      bool             // plan only
	NoRecord    bool             // write no records of images to the registry, and don't move its tag latest
	Declared    bool             // don't check the types of the resources, because the caller has checked them
}

// Target is the resource of a charm to publish to.
type Target struct{ Charm, Resource string }

// name returns the resource's name for messages.
func (t Target) name() string {
	return fmt.Sprintf("resource '%s' for charm '%s'", t.Resource, t.Charm)
}

// during adds to an error what was being done. A message about a stopped run needs it.
func during(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &stageError{doing, err}
}

const (
	stageLocate   = "looking for what is there already" // the default, for errors without a stage
	stageCompress = "compressing layers"
	stageSend     = "sending the image to the registry"
	stageContent  = "sending the revision's content to Charmhub"
	stageCreate   = "creating the revision" // from the moment when the store is asked for it
	stageRecord   = "recording the architectures of the revision"
)

// stageError is an error with what was being done.
type stageError struct {
	doing string
	error
}

// Unwrap returns the error itself.
func (e *stageError) Unwrap() error { return e.error }

// stopped returns an error that says what the run was doing when its context ended. Other errors are returned
// unchanged.
func stopped(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || cause == nil {
		return err
	}
	doing := stageLocate
	if stage, ok := errors.AsType[*stageError](err); ok {
		doing = stage.doing
	}
	after := "no revision was created"
	switch doing {
	case stageCreate:
		after = "the store may still create the revision, and running again picks it up"
	case stageRecord:
		after = "the revision exists; run this again, which records what is missing"
	}
	return fmt.Errorf("stopped while %s: %w; %s", doing, cause, after)
}

// checkType returns an error unless the charm declares the resource with the type want. The error names the inputs for
// the other type.
func (p *Publisher) checkType(ctx context.Context, t Target, want, instead string) error {
	if p.Declared {
		return nil
	}
	resources, err := p.Store.Resources(ctx, t.Charm)
	if err != nil {
		return err
	}
	var names []string
	var declared charmhub.Resource // by the newest of the charm's revisions
	for _, resource := range resources {
		switch {
		case resource.Name != t.Resource && !slices.Contains(names, resource.Name):
			names = append(names, resource.Name)
		case resource.Name == t.Resource && (declared.Name == "" || newer(resource, declared)):
			declared = resource
		}
	}
	switch {
	case declared.Name == "":
		return fmt.Errorf(
			"charm '%s' has no resource '%s' on Charmhub: the charm has %s; upload a revision of the charm that "+
				"declares it first",
			t.Charm,
			t.Resource,
			joinNames(names),
		)
	case declared.Type != want:
		return fmt.Errorf("resource '%s' of charm '%s' is of type %s, not %s; use the input %s for it",
			t.Resource, t.Charm, declared.Type, want, instead)
	}
	return nil
}

// newer reports whether a was declared by a newer revision of the charm than b. An unknown revision is the oldest.
func newer(a, b charmhub.Resource) bool {
	return a.CharmRevision != nil && (b.CharmRevision == nil || *a.CharmRevision > *b.CharmRevision)
}

// joinNames joins names for a sentence.
func joinNames(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

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

// Store is Charmhub, as [charmhub.Client] has it.
type Store struct {
	RevisionStore
	ImageStore
}

// RevisionStore is what Charmhub knows of a charm's resources, and takes as their revisions.
type RevisionStore interface {
	Resources(ctx context.Context, charm string) ([]charmhub.Resource, error)
	Revisions(ctx context.Context, charm, resource string) ([]charmhub.Revision, error)
	CreateRevision(ctx context.Context, charm, resource string, n charmhub.NewRevision) (statusURL string, err error)
	SetArchitectures(ctx context.Context, charm, resource string, revision int, architectures []string) error
	upload.Store
}

// ImageStore is what an image needs beside that.
type ImageStore interface {
	UploadCredentials(ctx context.Context, charm, resource string) (charmhub.RegistryCredentials, error)
	ImageBlob(ctx context.Context, charm, resource, digest string) ([]byte, error)
	ImageNames(ctx context.Context, charm, resource string, of []charmhub.Revision) (map[int]string, error)
	PrepareUpload(ctx context.Context)
}

// Repository is a resource's repository, as [registry.View] has it.
type Repository struct {
	Finder
	Writer
}

// Finder answers what the repository has. Each of its questions is asked once in a run.
type Finder interface {
	Name() string
	Find(ctx context.Context, id image.Identity) (registry.Found, error)
	FindKey(ctx context.Context, key v1.Hash) (registry.Keyed, error)
	Lacks(ctx context.Context, config v1.Hash) (bool, error)
	Layers(ctx context.Context) registry.Layers
	Plan(ctx context.Context, img image.ImageOrIndex, packedLayers registry.Layers) (*registry.Plan, error)
}

// Writer sends images, and records what they are found by.
type Writer interface {
	SendBlob(ctx context.Context, layer partial.CompressedLayer) error
	Push(ctx context.Context, plan *registry.Plan, progress func(bytes int64)) (compared bool, err error)
	Record(ctx context.Context, moveLatest bool, images ...registry.Recorded) error
	RecordKey(ctx context.Context, key v1.Hash, img image.ImageOrIndex, source v1.Hash) error
}

// Sources is where images come from, as [source.Opener] has it.
type Sources interface {
	Open(ctx context.Context, ref source.Reference) (source.Source, error)
	CheckTag(ctx context.Context, ref source.Reference)
	Resolve(ctx context.Context, tagged string) (v1.Hash, error)
}

// Files opens the files that inputs name, as [workspace.Workspace] does.
type Files interface {
	Open(path string) (*os.File, error)
}

// Runner shows what is being done, as [action.Runner] does.
type Runner interface {
	Logger() *zap.Logger
	Mask(secret string)
	Group(title string) (end func())
	Progress(what string, total int64) (add func(bytes int64), done func())
}

// Publisher publishes resources. It has no state of its own.
type Publisher struct {
	Store   Store
	Sources Sources
	Files   Files
	Runner  Runner
	// Repository opens the repository of an image resource, which logs there.
	Repository func(context.Context, charmhub.RegistryCredentials, *zap.Logger) (Repository, error)
	// Wait pauses, as [transport.Sleep] does.
	Wait func(context.Context, time.Duration) error
	Options
}

// Options say how to publish.
type Options struct {
	Compression pack.Compression // of the layers of images that have no manifest
	Key         v1.Hash          // digest of a text that names what an image is made of; zero for none
	PushOnly    bool             // push an image, and make no revision
	DryRun      bool             // plan only
	NoRecord    bool             // leave no hints for later runs in the registry
	Declared    bool             // that the charm declares the resources is known, and as which type
}

// Target is the resource that is to get a revision.
type Target struct{ Charm, Resource string }

// name is the resource in a sentence.
func (t Target) name() string {
	return fmt.Sprintf("resource '%s' for charm '%s'", t.Resource, t.Charm)
}

// during marks an error with what was being done, for the message of a run that
// was stopped.
func during(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &stageError{doing, err}
}

const (
	stageLocate   = "looking for what is there already" // unless an error says something else
	stageCompress = "compressing layers"
	stageSend     = "sending the image to the registry"
	stageContent  = "sending the revision's content to Charmhub"
	stageCreate   = "creating the revision" // the store was asked for it
	stageRecord   = "recording the architectures of the revision"
)

type stageError struct {
	doing string
	error
}

func (e *stageError) Unwrap() error { return e.error }

// stopped says what a run was doing when its context ended. Whatever else an error
// says is a consequence of that.
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

// checkType makes sure that the charm declares the resource, and as what is
// about to be published; else it names the inputs for the other type.
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
		return fmt.Errorf("charm '%s' has no resource '%s' on Charmhub: the charm has %s; upload a revision of the charm that declares it first",
			t.Charm, t.Resource, list(names))
	case declared.Type != want:
		return fmt.Errorf("resource '%s' of charm '%s' is of type %s, not %s; use the input %s for it",
			t.Resource, t.Charm, declared.Type, want, instead)
	}
	return nil
}

// newer reports whether a newer revision of the charm declares a than b. A revision that
// the store doesn't say is older than any other.
func newer(a, b charmhub.Resource) bool {
	return a.CharmRevision != nil && (b.CharmRevision == nil || *a.CharmRevision > *b.CharmRevision)
}

// list joins names for a sentence.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

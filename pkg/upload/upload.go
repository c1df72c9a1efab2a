// Package upload is the two things that the action does: put an image, or a
// file, on Charmhub as a revision of a charm's resource, and change nothing
// where that is so already.
//
// It joins the other packages, which don't know of each other: inputs come
// from action, go through image and registry (an image) or straight on (a
// file) to charmhub, and return to action as outputs. Nothing flows back.
package upload

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// Run does what the inputs of the runner ask for, and sets its outputs. The
// version names this program towards servers. An error is a text for the
// person who reads the log; it has not been printed yet.
func Run(ctx context.Context, runner *action.Runner, version string) error {
	j, err := newJob(ctx, runner, version)
	if err != nil {
		return err
	}
	if j.Metadata != "" {
		return j.uploadCharm(ctx)
	}
	r := j.upload(ctx)
	if r.err != nil {
		return r.err
	}
	return j.tell(r.took, r)
}

// upload does the job of one resource.
func (j *job) upload(ctx context.Context) *report {
	start := time.Now()
	r := &report{charm: j.Charm, dryRun: j.DryRun, Outputs: action.Outputs{Resource: j.Resource}}
	r.err = parallel.Guard(func() error { return j.uploadTo(ctx, r) })
	if cause := context.Cause(ctx); r.err != nil && cause != nil {
		r.err = j.stopped(cause)
	}
	r.took = time.Since(start)
	return r
}

// uploadTo fills in the report; a source of the charm's metadata has to be
// pinned first.
func (j *job) uploadTo(ctx context.Context, r *report) error {
	if j.source != "" {
		if err := j.pin(ctx); err != nil {
			return err
		}
	}
	if j.File != "" {
		return j.uploadFile(ctx, r)
	}
	return j.uploadImage(ctx, r)
}

// stopped says where a run was when it was told to stop.
func (j *job) stopped(cause error) error {
	if j.doing == reviewing {
		return fmt.Errorf("stopped while %s: %w; the store may still create the revision, and running again picks it up", j.doing, cause)
	}
	return fmt.Errorf("stopped while %s: %w; no revision was created", j.doing, cause)
}

// What a run is doing, for the message when it is stopped.
const (
	looking     = "looking for what is there already"
	compressing = "compressing layers"
	sending     = "sending the image to the registry"
	handingIn   = "sending the revision's content to Charmhub"
	reviewing   = "creating the revision"
)

// job is one run: checked inputs, and the means to act on them.
type job struct {
	action.Inputs
	source    string // of the charm's metadata, in place of images
	images    []part
	platform  *v1.Platform
	userAgent string

	doing string

	runner *action.Runner
	files  workspace.Workspace
	log    *zap.Logger
	// transport is one for all, since it remembers what hosts don't do.
	transport http.RoundTripper
	store     *charmhub.Client
	// declared returns the charm's resources; it asks once.
	declared func() ([]charmhub.Resource, error)
	access   image.RegistryAccess
	opener   *image.Opener
}

// part is one image of those that the inputs name.
type part struct {
	image.Reference
	platform *v1.Platform // given in the same line
}

// newJob checks the inputs. Its error has all complaints about them; of calls,
// at most those that look up a tag for its complaint were made by then.
func newJob(ctx context.Context, runner *action.Runner, version string) (*job, error) {
	in, err := runner.Inputs()
	complaints := []error{err}
	j := &job{
		Inputs: in, doing: looking, runner: runner, files: runner.Workspace(), log: runner.Logger(),
		userAgent: "upload-resource/" + version,
	}
	j.transport = transport.New(runner.Mask, j.log)
	j.hideCredentials(append(in.Images, in.Digest, in.Source.Registry+"/")...)
	complaints = append(complaints, j.parseImages()...)
	credentials, err := charmhub.ParseCredentials(in.Token)
	if in.Token != "" {
		complaints = append(complaints, err)
	}
	access, err := j.registryAccess()
	if err == nil {
		complaints = withDigests(ctx, j.settled(access, complaints), complaints)
	}
	if err := errors.Join(append(complaints, err)...); err != nil {
		return nil, err
	}
	for _, secret := range credentials.Secrets() {
		runner.Mask(secret)
	}
	j.store = charmhub.New(charmhub.Config{
		StoreURL: in.Endpoints.Store.String(), StorageURL: in.Endpoints.Storage.String(), SSOURL: in.Endpoints.SSO.String(),
		Credentials: credentials, Transport: j.transport, UserAgent: j.userAgent,
		Logger: j.log, Mask: runner.Mask,
	})
	j.declared = sync.OnceValues(func() ([]charmhub.Resource, error) { return j.store.Resources(ctx, j.Charm) })
	j.access, j.opener = access, image.NewOpener(j.log, access, j.files)
	return j, nil
}

// parseImages reads the inputs digest, image and platform.
func (j *job) parseImages() (complaints []error) {
	if j.Digest != "" {
		ref, _ := image.ParseDigest(j.Digest) // the runner's side has complained about its spelling
		j.images = []part{{Reference: ref}}
	}
	for _, line := range j.Images {
		refs, platform, err := image.ParseLine(line, j.files.Exists)
		complaints = append(complaints, err)
		for _, ref := range refs {
			j.images = append(j.images, part{ref, platform})
		}
	}
	if j.Platform != "" {
		platform, err := image.ParsePlatform(j.Platform)
		complaints = append(complaints, err)
		j.platform = &platform
	}
	return complaints
}

// checkType makes sure that the charm declares the resource, and as what is
// about to be uploaded.
func (j *job) checkType(want, instead string) error {
	resources, err := j.declared()
	if err != nil {
		return err
	}
	var names []string
	var declared *charmhub.Resource // by the newest of the charm's revisions
	for i, resource := range resources {
		switch {
		case resource.Name != j.Resource && !slices.Contains(names, resource.Name):
			names = append(names, resource.Name)
		case resource.Name == j.Resource && (declared == nil || resource.CharmRevision > declared.CharmRevision):
			declared = &resources[i]
		}
	}
	if declared != nil && declared.Type != want {
		return fmt.Errorf("resource '%s' of charm '%s' is of type %s, not %s: use the input %s for it",
			j.Resource, j.Charm, declared.Type, want, instead)
	}
	if declared != nil {
		return nil
	}
	return fmt.Errorf("charm '%s' has no resource '%s' on Charmhub: it has %s; upload a revision of the charm that declares it first",
		j.Charm, j.Resource, list(names))
}

package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// Image makes an image the content of a resource: the one that the parts name, or
// the index that joins theirs; of either the one for platform alone, if not nil.
// Without parts it is the image that was recorded under the key, and the result is
// Unknown where there is none. After an error the result says what was done before
// it.
func (p *Publisher) Image(ctx context.Context, t Target, parts []Part, platform *v1.Platform) (result Result, err error) {
	log := p.Runner.Logger()
	at, err := p.begin(ctx, t, parts)
	defer at.close()
	if err != nil {
		return result, err
	}

	img, err := p.find(ctx, at.repo, at.opened, platform)
	if err != nil {
		return result, err
	}
	if img == nil {
		log.Info("No image is recorded under this key, and none is given: nothing to upload")
		return Result{Unknown: true}, nil
	}
	defer img.close()
	text, err := p.describe(ctx, t, at, img, &result)
	if err != nil {
		return result, err
	}

	plan, err := p.plan(ctx, at.repo, img)
	if err != nil {
		return result, explain(at.opened, img.ImageOrIndex, err)
	}
	result.Blobs, result.Reused = plan.Missing, plan.Reused
	switch {
	case plan.Present:
		log.Info("Using the OCI image from Canonical's registry")
	case p.DryRun:
		log.Info("Remote image not found, would upload from local registry")
		log.Info(toSend(plan))
		log.Info("Dry run: would push " + result.RemoteDigest)
		if !p.PushOnly {
			log.Info("Dry run: would create a revision of " + t.name())
		}
		return result, nil
	default:
		log.Info("Remote image not found, uploading from local registry")
		verified, err := p.push(ctx, at.repo, plan)
		if err != nil {
			return result, explain(at.opened, img.ImageOrIndex, during(stageSend, err))
		}
		result.Uploaded = true
		log.Info("Image uploaded, new remote digest: " + result.RemoteDigest)
		if verified {
			img.verify()
		}
	}

	err = together(
		func() error { p.record(ctx, at.repo, img, result.Uploaded); return nil },
		func() (err error) {
			if !p.PushOnly {
				result.Revised, err = p.reviseImage(ctx, t, result, text, at.known)
			}
			return err
		},
	)
	if err == nil && len(parts) > 0 {
		p.recordKey(ctx, at.repo, img)
	}
	return result, err
}

// start is what is known before an image is looked for.
type start struct {
	known  listing
	login  charmhub.RegistryCredentials
	repo   Repository
	opened []opened
}

// begin makes the requests that don't depend on each other. What it returns is to
// be closed, also after an error.
func (p *Publisher) begin(ctx context.Context, t Target, parts []Part) (at start, err error) {
	err = together(
		func() error {
			if len(parts) == 0 { // it was checked when the key was recorded
				return nil
			}
			return p.checkType(ctx, t, charm.TypeImage, "filepath")
		},
		func() (err error) {
			if !p.PushOnly {
				at.known, err = p.list(ctx, t)
			}
			return err
		},
		func() (err error) {
			if at.login, err = p.Store.UploadCredentials(ctx, t.Charm, t.Resource); err == nil {
				at.repo, err = p.Repository(ctx, at.login, p.Runner.Logger())
			}
			return err
		},
		func() (err error) { at.opened, err = p.open(ctx, parts); return err },
	)
	return at, err
}

func (at start) close() {
	for _, o := range at.opened {
		if o.source != nil {
			_ = o.source.Close()
		}
	}
}

// describe completes the result by what is known of an image before anything is
// sent. For one that the repository holds it also returns the text that describes
// it to Juju, which is asked for meanwhile.
func (p *Publisher) describe(ctx context.Context, t Target, at start, img *found, result *Result) (text []byte, err error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, explain(at.opened, img.ImageOrIndex, err)
	}
	result.SourceDigest, result.RemoteDigest = img.source.String(), digest.String()
	result.RemoteImage = at.login.ImageName + "@" + result.RemoteDigest
	err = together(
		func() (err error) {
			if result.Platforms, err = img.runsOn(); err == nil {
				result.Digests, err = img.digests()
			}
			return explain(at.opened, img.ImageOrIndex, err)
		},
		func() (err error) {
			if img.present && !p.PushOnly {
				text, err = p.Store.ImageBlob(ctx, t.Charm, t.Resource, result.RemoteDigest)
			}
			return during(stageContent, err)
		},
	)
	return text, err
}

// reviseImage makes the text that describes an image to Juju the content of a
// revision. It asks for a text that wasn't asked for before.
func (p *Publisher) reviseImage(ctx context.Context, t Target, r Result, text []byte, known listing) (Revised, error) {
	if text == nil {
		var err error
		if text, err = p.Store.ImageBlob(ctx, t.Charm, t.Resource, r.RemoteDigest); err != nil {
			return Revised{}, during(stageContent, err)
		}
	}
	return p.revise(ctx, t, imageContent(t.Resource+".json", text, r.Platforms), known)
}

// opened is a part that was looked for where its reference points. A digest
// may be in the charm's repository alone, so a failure isn't final yet.
type opened struct {
	Part
	source *source.Source // nil after a failure
	err    error
}

// open looks for the parts where their references point. It fails only for what
// can't be found anywhere else; what it returns is to be closed also then. An image
// in another registry is opened where the charm's repository turns out to lack it.
func (p *Publisher) open(ctx context.Context, parts []Part) ([]opened, error) {
	all := make([]opened, len(parts))
	steps := make([]func() error, len(parts))
	for n, part := range parts {
		steps[n] = func() error {
			all[n].Part = part
			if part.Kind == source.KindRegistry {
				p.Sources.CheckTag(ctx, part.Reference)
				return nil
			}
			all[n].source, all[n].err = p.Sources.Open(ctx, part.Reference)
			if _, full := part.Digest(); full {
				return nil
			}
			return explainNotFound(all[n], nil)
		}
	}
	return all, together(steps...)
}

// explainNotFound says that a digest is neither in the repository nor in the
// engine. A shortened one was looked for in the engine alone.
func explainNotFound(o opened, repo Repository) error {
	const makeIt = "build, load or pull it in an earlier step of the same job"
	_, full := o.Digest()
	var unknown *source.NotFoundError
	switch {
	case o.err == nil:
		return nil
	case !errors.As(o.err, &unknown) && full:
		return fmt.Errorf("image %s is not in the charm's repository %s, and %w", o.Text, repo.Name(), o.err)
	case unknown == nil:
		return o.err
	case full:
		return fmt.Errorf("image %s is unknown: neither the charm's repository %s nor %s has it; %s",
			o.Text, repo.Name(), unknown.Place, makeIt)
	default:
		return fmt.Errorf("image %s, which %s, is unknown: %s has none by that ID or digest; %s, "+
			"or give the whole digest of one in the charm's repository", o.Text, source.DigestProblem("sha256:"+o.Hex), unknown.Place, makeIt)
	}
}

// runsOn returns the platforms of an image. It fails for what is no image to run.
func (f *found) runsOn() ([]v1.Platform, error) {
	if f.platforms != nil {
		return f.platforms, nil
	}
	return image.Platforms(f.ImageOrIndex)
}

// digests returns those under which a runtime may report the image. The digest at
// its source is one of them: a node that has an index may give its digest for the
// one platform's manifest, too.
func (f *found) digests() ([]v1.Hash, error) {
	digests, err := image.Digests(f.ImageOrIndex)
	if err == nil && !slices.Contains(digests, f.source) {
		digests = append(digests, f.source)
	}
	return digests, err
}

// plan finds out what of an image the repository lacks.
func (p *Publisher) plan(ctx context.Context, repo Repository, f *found) (*registry.Plan, error) {
	if f.present {
		return &registry.Plan{Present: true}, nil
	}
	plan, err := repo.Plan(ctx, f.ImageOrIndex, f.held, f.packed())
	if err == nil && plan.Present {
		return plan, nil
	}
	// What is wrong with an image says more than why it can't be planned.
	return plan, cmp.Or(image.Check(f.ImageOrIndex), err)
}

func (p *Publisher) push(ctx context.Context, repo Repository, plan *registry.Plan) (verified bool, err error) {
	defer p.Runner.Group("Send the image")()
	if !p.PushOnly {
		p.Store.PrepareUpload(ctx) // of the revision's content
	}
	p.Runner.Logger().Info(toSend(plan))
	add, done := p.Runner.Progress("Sending to the registry", registry.Size(plan.Missing))
	defer done()
	return repo.Push(ctx, plan, add)
}

func toSend(plan *registry.Plan) string {
	return fmt.Sprintf("%s to send, %s in the registry already", amount(plan.Missing), amount(plan.Reused))
}

// explain says which of the inputs an error is about that came up while an
// image was read and sent, and what to do about one that isn't complete: it names
// all platforms that a local index lacks, not just the first.
func explain(all []opened, m image.ImageOrIndex, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*image.MissingError](err); ok {
		var platforms []string
		for _, platform := range image.Missing(m) {
			platforms = append(platforms, platform.String())
		}
		if len(platforms) > 0 {
			err = fmt.Errorf("the image lists %s, but doesn't hold it: %w; pull what is missing first, "+
				"or choose what is there with the input platform", list(platforms), err)
		} else {
			err = fmt.Errorf("%w; pull or write it anew as a whole", err)
		}
	}
	switch len(all) {
	case 0:
		return fmt.Errorf("the image recorded under the key: %w", err)
	case 1:
		return fmt.Errorf("%s: %w", all[0].Text, err)
	}
	var texts []string
	for _, o := range all {
		texts = append(texts, o.Text)
	}
	return fmt.Errorf("one of %s: %w", list(texts), err)
}

// record leaves hints for the next run: where each source went, and the newest
// image as the tag latest, which charmcraft moves, too. A registry that refuses
// them does no harm.
func (p *Publisher) record(ctx context.Context, repo Repository, f *found, pushed bool) {
	if p.DryRun || p.NoRecord {
		return
	}
	var hints parallel.Group // neither needs the other
	for _, r := range f.records {
		hints.Go(func() error {
			if err := repo.Record(ctx, r.image, r.verified, f.hints, r.sources...); err != nil {
				p.Runner.Logger().Debug("could not write the locations record", zap.Error(err))
			}
			return nil
		})
	}
	if pushed {
		hints.Go(func() error {
			if err := repo.MoveLatest(ctx, f.ImageOrIndex, f.hints); err != nil {
				p.Runner.Logger().Debug("could not move the tag latest", zap.Error(err))
			}
			return nil
		})
	}
	_ = hints.Wait() // errors are in the log
}

// recordKey writes what the image's key means. It is left out of a dry run.
func (p *Publisher) recordKey(ctx context.Context, repo Repository, f *found) {
	if p.Key == (v1.Hash{}) || p.DryRun {
		return
	}
	if err := repo.RecordKey(ctx, p.Key, f.ImageOrIndex, f.source); err != nil {
		p.Runner.Logger().Warn("Could not record the key; a run that asks for it finds nothing", zap.Error(err))
	}
}

// architectures returns Charmhub's names for those platforms that are Linux, or
// "all" if it has a name for none, which is what such an image is recorded for.
func architectures(platforms []v1.Platform) []string {
	var all []string
	for _, p := range platforms {
		p = image.Normalize(p)
		if name, ok := charm.Architecture(p.Architecture); ok && p.OS == "linux" {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return []string{charm.AllArchitectures}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// amount is the number and size of blobs.
func amount(blobs []v1.Descriptor) string {
	return fmt.Sprintf("%s (%s)", plural(len(blobs), "blob"), action.Size(registry.Size(blobs)))
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

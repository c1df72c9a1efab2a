package publish

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// PublishImage uploads an image to a resource: the one image that the parts name, or the index that joins theirs. If
// platform isn't nil, it selects one platform of an index. With no parts, it uses the image recorded under the key;
// if none is recorded, result.Unknown is true. If Charmhub already has the content, it changes nothing. After an
// error, the result says which steps were completed before; blobs may have been sent even if result.Uploaded is
// false.
func (p *Publisher) PublishImage(
	ctx context.Context,
	t Target,
	parts []Part,
	platform *v1.Platform,
) (result Result, err error) {
	log := p.Runner.Logger()
	run, err := p.begin(ctx, t, parts, platform)
	defer run.close()
	if err != nil {
		return result, err
	}

	img, err := run.locate(ctx, platform)
	if err != nil {
		return result, err
	}
	if img == nil {
		log.Info("No image is recorded under this key; digest and image are empty, so this was a look-up")
		return Result{Unknown: true}, nil
	}
	text, err := run.describe(ctx, img, &result)
	if err != nil {
		return result, err
	}

	plan, err := run.plan(ctx, img)
	if err != nil {
		return result, explain(run.parts, img.image, err)
	}
	result.Blobs, result.Reused = plan.Missing, plan.Reused
	// The specification has the words of these lines. Its local registry is wherever the image comes from, and
	// Canonical's is the one that has the charm's repository.
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
		compared, err := run.push(ctx, plan)
		if err != nil {
			return result, explain(run.parts, img.image, during(stageSend, err))
		}
		result.Uploaded = true
		img.compared = img.compared || compared
		log.Info("Image uploaded, new remote digest: " + result.RemoteDigest)
	}

	err = parallel.All(
		func() error { run.record(ctx, img, result.Uploaded); return nil },
		func() (err error) {
			if !p.PushOnly {
				result.Revised, err = p.reviseImage(ctx, t, result, text, run.earlier)
			}
			return err
		},
	)
	if err != nil && result.Uploaded {
		err = fmt.Errorf("making the revision of the image, which the registry has now: %w", err)
	}
	if err == nil && len(parts) > 0 {
		run.recordKey(ctx, img)
	}
	return result, err
}

// begin starts the requests that don't depend on each other. Close the result, even after an error.
func (p *Publisher) begin(ctx context.Context, t Target, parts []Part, platform *v1.Platform) (*imageRun, error) {
	run := &imageRun{Publisher: p, target: t, parts: make([]*openedPart, len(parts))}
	run.ctx, run.cancel = context.WithCancel(ctx)
	run.single = len(parts) == 1 && parts[0].Platform == nil && platform == nil
	steps := []func() error{
		func() error {
			if len(parts) == 0 { // the run that recorded the key has checked the type
				return nil
			}
			return p.checkType(ctx, t, charm.TypeImage, "filepath")
		},
		func() (err error) {
			if !p.PushOnly {
				run.earlier, err = p.requestRevisions(ctx, t)
			}
			return err
		},
		func() (err error) {
			if run.login, err = p.Store.UploadCredentials(ctx, t.Charm, t.Resource); err == nil {
				run.repository, err = p.Repository(ctx, run.login, p.Runner.Logger())
			}
			return err
		},
	}
	for n, part := range parts {
		run.parts[n] = &openedPart{Part: part}
		if part.Kind == source.KindRegistry {
			run.parts[n].remote = run.openRemote(run.parts[n])
		}
		steps = append(steps, func() error { return run.open(ctx, run.parts[n]) })
	}
	return run, parallel.All(steps...)
}

// open opens the source of a part. If that fails for a whole digest, open keeps the error in the part and doesn't
// fail, because the charm's repository may have the image. An image in another registry is opened later, when the
// charm's repository seems to lack it.
func (r *imageRun) open(ctx context.Context, part *openedPart) error {
	if part.Kind == source.KindRegistry {
		r.askText(part)
		r.Sources.CheckTag(ctx, part.Reference)
		return nil
	}
	part.source, part.err = r.Sources.Open(ctx, part.Reference)
	if part.err != nil {
		part.source = nil
	}
	if part.source != nil {
		r.askText(part)
	}
	if _, full := part.Digest(); full {
		return nil
	}
	return explainNotFound(*part, "")
}

// askText requests the text that describes an image, if the image's digest is known from the start. The text is only
// used if the repository turns out to have the image.
func (r *imageRun) askText(part *openedPart) {
	digest, _ := part.Digest()
	if part.source != nil {
		digest = part.source.Identity().Manifest
	}
	if digest == (v1.Hash{}) || !r.single || r.PushOnly {
		return
	}
	r.digest, r.text = digest, sync.OnceValue(func() []byte {
		text, err := r.Store.ImageBlob(r.ctx, r.target.Charm, r.target.Resource, digest.String())
		if err != nil {
			r.Runner.Logger().Debug("The store gave no text for the image", zap.Error(err))
		}
		return text
	})
	r.early.Go(func() error {
		if r.text() == nil && part.remote != nil { // most likely the repository lacks the image, so its source is needed
			_, _ = part.remote()
		}
		return nil
	})
}

// openRemote returns a function that opens an image in another registry, at its first call.
func (r *imageRun) openRemote(part *openedPart) func() (source.Source, error) {
	return sync.OnceValues(func() (_ source.Source, err error) {
		part.remoteSource, err = r.Sources.Open(r.ctx, part.Reference)
		return part.remoteSource, err
	})
}

// close closes the sources and waits until nothing is sent any more.
func (r *imageRun) close() {
	r.cancel()
	_ = r.early.Wait() // every error is in the log
	for _, part := range r.parts {
		switch {
		case part != nil && part.source != nil:
			_ = part.source.Close()
		case part != nil && part.remoteSource != nil: // it was opened early, and not needed
			_ = part.remoteSource.Close()
		}
	}
	for _, packed := range r.packed {
		_ = packed.Close()
	}
}

// describe adds to the result what is known about an image before anything is sent. If the repository has the image, it
// also returns the text that describes the image to Juju, which is requested concurrently.
func (r *imageRun) describe(ctx context.Context, img *targetImage, result *Result) (text []byte, err error) {
	digest, err := img.image.Digest()
	if err != nil {
		return nil, explain(r.parts, img.image, err)
	}
	result.SourceDigest, result.RemoteDigest = img.source.String(), digest.String()
	result.RemoteImage = r.login.ImageName + "@" + result.RemoteDigest
	err = parallel.All(
		func() (err error) {
			if result.Platforms, err = img.runsOn(); err == nil {
				result.Digests, err = img.digests()
			}
			return explain(r.parts, img.image, err)
		},
		func() (err error) {
			if img.present && digest == r.digest {
				text = r.text()
			}
			if img.present && text == nil && !r.PushOnly {
				text, err = r.Store.ImageBlob(ctx, r.target.Charm, r.target.Resource, result.RemoteDigest)
			}
			return during(stageContent, err)
		},
	)
	return text, err
}

// runsOn returns the platforms of an image. It fails for an artifact that can't be run.
func (img *targetImage) runsOn() ([]v1.Platform, error) {
	if img.platforms != nil {
		return img.platforms, nil
	}
	return image.Platforms(img.image)
}

// digests returns the digests under which a runtime may report the image. The digest at its source is one of them: a
// node that has an index may report the index's digest for the manifest of its platform.
func (img *targetImage) digests() ([]v1.Hash, error) {
	digests, err := image.Digests(img.image)
	if err == nil && !slices.Contains(digests, img.source) {
		digests = append(digests, img.source)
	}
	return digests, err
}

// plan returns which parts of an image the repository lacks.
func (r *imageRun) plan(ctx context.Context, img *targetImage) (*registry.Plan, error) {
	if img.present {
		return &registry.Plan{Present: true}, nil
	}
	packedLayers := registry.Layers{}
	for _, packed := range r.packed {
		maps.Copy(packedLayers, packed.Blobs())
	}
	plan, err := r.repository.Plan(ctx, img.image, packedLayers)
	if err == nil && plan.Present {
		return plan, nil
	}
	// If the image itself is wrong, that is the more useful error.
	return plan, cmp.Or(image.Check(img.image), err)
}

// push sends the missing parts of an image and shows the progress.
func (r *imageRun) push(ctx context.Context, plan *registry.Plan) (compared bool, err error) {
	defer r.Runner.Group("Send the image")()
	if !r.PushOnly {
		r.Store.PrepareUpload(ctx) // of the revision's content
	}
	r.Runner.Logger().Info(toSend(plan))
	add, done := r.Runner.Progress("Sending to the registry", registry.Size(plan.Missing))
	defer done()
	plan.WillRecord = !r.NoRecord
	return r.repository.Push(ctx, plan, add)
}

// toSend returns a line for the log about what is sent and reused.
func toSend(plan *registry.Plan) string {
	return fmt.Sprintf("%s to send, %s in the registry already", amount(plan.Missing), amount(plan.Reused))
}

// record stores how the next run can find the image. If the image was pushed, it also moves the tag latest, as
// charmcraft does. Errors are only logged: the next run is slower then.
func (r *imageRun) record(ctx context.Context, img *targetImage, pushed bool) {
	if r.DryRun || r.NoRecord {
		return
	}
	var all []registry.Recorded
	for _, one := range append([]*targetImage{img}, img.parts...) {
		recorded := registry.Recorded{Image: one.image, Compared: one.compared}
		if one.recordUnder != (v1.Hash{}) {
			recorded.Sources = append(recorded.Sources, one.recordUnder)
		}
		all = append(all, recorded)
	}
	if err := r.repository.Record(ctx, pushed, all...); err != nil {
		r.Runner.Logger().Debug("could not write the locations record or move the tag latest", zap.Error(err))
	}
}

// recordKey records the image under its key, unless nothing may be recorded.
func (r *imageRun) recordKey(ctx context.Context, img *targetImage) {
	if r.Key == (v1.Hash{}) || r.DryRun || r.NoRecord {
		return
	}
	if err := r.repository.RecordKey(ctx, r.Key, img.image, img.source); err != nil {
		r.Runner.Logger().Warn("Could not record the key; a run that asks for it finds nothing", zap.Error(err))
	}
}

// reviseImage creates a revision with the text that describes an image to Juju, unless one has it. It requests the text
// if text is nil.
func (p *Publisher) reviseImage(
	ctx context.Context,
	t Target,
	r Result,
	text []byte,
	earlier listing,
) (Revised, error) {
	if text == nil {
		var err error
		if text, err = p.Store.ImageBlob(ctx, t.Charm, t.Resource, r.RemoteDigest); err != nil {
			return Revised{}, during(stageContent, err)
		}
	}
	content := imageContent(t.Resource+".json", text, r.Platforms)
	if _, ok := content.find(earlier.revisions); !ok && !r.Uploaded { // no earlier one describes a new image
		var err error
		if content.revisionsDescribing, err = p.revisionsDescribing(
			ctx,
			t,
			text,
			r.RemoteDigest,
			earlier.revisions,
		); err != nil {
			return Revised{}, err
		}
	}
	return p.revise(ctx, t, content, earlier)
}

package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
)

// imageJob is a job about an image, with what was asked for at its start.
type imageJob struct {
	*job
	report    *report
	name      string // of the repository, as the cluster will know it
	repo      *registry.Repository
	revisions []charmhub.Revision
	opened    []opened
}

// opened is a part that was looked for where its reference points. A digest
// may be in the charm's repository alone, so a failure isn't final yet.
type opened struct {
	part
	source *image.Source // nil after a failure
	err    error
}

func (j *job) uploadImage(ctx context.Context, r *report) error {
	i := &imageJob{job: j, report: r, opened: make([]opened, len(j.images))}
	defer i.close()
	if err := i.prepare(ctx); err != nil {
		return err
	}
	found, err := i.address(ctx)
	defer found.close()
	if err != nil {
		return err
	}
	if err := i.describe(found); err != nil {
		return i.explain(found, err)
	}
	there, err := i.push(ctx, found)
	if err != nil {
		return i.explain(found, err)
	}
	if !there {
		i.wouldCreate()
		return nil
	}
	return i.release(ctx)
}

// describe puts into the report what is known before anything is sent. It fails
// for what is no image to run.
func (i *imageJob) describe(found *addressed) error {
	digest, err := found.Digest()
	if err != nil {
		return err
	}
	if i.report.platforms, err = found.runsOn(); err != nil {
		return err
	}
	i.report.SourceDigest, i.report.RemoteDigest = found.source.String(), digest.String()
	i.report.RemoteImage = i.name + "@" + digest.String()
	return nil
}

// prepare asks for all that doesn't depend on each other at once.
func (i *imageJob) prepare(ctx context.Context) error {
	return together(
		func() error { return i.checkType(charmhub.TypeImage, "filepath") },
		func() (err error) { i.revisions, err = i.store.Revisions(ctx, i.Charm, i.Resource); return err },
		func() (err error) { i.repo, err = i.openRepository(ctx); return err },
		func() error { return i.openSources(ctx) },
	)
}

func (i *imageJob) openRepository(ctx context.Context) (*registry.Repository, error) {
	login, err := i.store.UploadCredentials(ctx, i.Charm, i.Resource)
	if err != nil {
		return nil, err
	}
	i.name = login.ImageName
	options := registry.Options{
		Image: login.ImageName, Username: login.Username, Password: login.Password,
		Transport: i.transport, Logger: i.log, Decompress: image.Decompress,
	}
	if at := i.Endpoints.Registry; at != nil {
		// A mirror or a proxy of the registry that Charmhub names.
		_, repository, _ := strings.Cut(login.ImageName, "/")
		options.Image, options.Path = at.Host+"/"+repository, at.Path
	}
	return registry.Open(ctx, options)
}

// openSources fails only for what can't be found anywhere else. An image in
// another registry is opened where the charm's repository turns out to lack it.
func (i *imageJob) openSources(ctx context.Context) error {
	steps := make([]func() error, len(i.images))
	for n, part := range i.images {
		if i.opened[n] = (opened{part: part}); part.Kind == image.KindRegistry {
			steps[n] = func() error { i.opener.CheckTag(ctx, part.Reference); return nil }
			continue
		}
		steps[n] = func() error {
			src, err := i.opener.Open(ctx, part.Reference)
			i.opened[n] = opened{part, src, err}
			if _, whole := part.Whole(); whole || err == nil {
				return nil
			}
			return i.nowhere(i.opened[n])
		}
	}
	return together(steps...)
}

func (i *imageJob) close() {
	for _, o := range i.opened {
		if o.source != nil {
			_ = o.source.Close()
		}
	}
}

// push sends what the repository lacks, if anything. It tells whether the
// image is there now, which it isn't after a dry run.
func (i *imageJob) push(ctx context.Context, found *addressed) (there bool, err error) {
	plan := &registry.Plan{Present: found.present}
	if !found.present {
		plan, err = i.repo.Plan(ctx, found.Manifest, found.layers())
		if err != nil || !plan.Present {
			// What is wrong with an image says more than why it can't be planned.
			if bad := image.Check(found.Manifest); bad != nil || err != nil {
				return false, cmp.Or(bad, err)
			}
		}
	}
	if plan.Present {
		i.log.Info("Using the OCI image from Canonical's registry")
		i.record(ctx, found)
		return true, nil
	}
	i.report.sent, i.report.reused = plan.Missing, plan.Reused
	if i.DryRun {
		i.log.Info("Remote image not found, would upload from local registry")
		i.log.Info(toSend(plan))
		i.log.Info("Dry run: would push " + i.report.RemoteDigest)
		return false, nil
	}
	i.log.Info("Remote image not found, uploading from local registry")
	if err := i.send(ctx, plan); err != nil {
		return false, err
	}
	if plan.Verified {
		found.records = append(found.records, record{source: plan.Image.Digest, remote: plan.Image.Digest, verified: true})
	}
	i.report.Uploaded = true
	i.log.Info("Image uploaded, new remote digest: " + i.report.RemoteDigest)
	i.record(ctx, found)
	i.moveLatest(ctx, plan.Image.Digest)
	return true, nil
}

func (i *imageJob) send(ctx context.Context, plan *registry.Plan) error {
	i.doing = sending
	defer i.group("Send the image")()
	i.log.Info(toSend(plan))
	progress := i.progress("Sending to the registry", registry.Size(plan.Missing))
	defer progress.Done()
	return i.repo.Push(ctx, plan, progress.Add)
}

func toSend(plan *registry.Plan) string {
	return fmt.Sprintf("%s to send, %s in the registry already", amount(plan.Missing), amount(plan.Reused))
}

// explain says which of the inputs an error is about that came up while an
// image was read and sent, and what to do about one that isn't whole.
func (i *imageJob) explain(found *addressed, err error) error {
	texts := make([]string, len(i.opened))
	for n, o := range i.opened {
		texts[n] = o.Text
	}
	if err = incomplete(found.Manifest, err); len(texts) > 1 {
		return fmt.Errorf("one of %s: %w", list(texts), err)
	}
	return fmt.Errorf("%s: %w", texts[0], err)
}

// incomplete names all platforms that a local index lacks, not just the first.
func incomplete(m image.Manifest, err error) error {
	var missing *image.MissingError
	if !errors.As(err, &missing) {
		return err
	}
	var platforms []string
	for _, platform := range image.Missing(m) {
		platforms = append(platforms, platform.String())
	}
	if len(platforms) == 0 {
		return fmt.Errorf("%w; pull or write it anew as a whole", err)
	}
	return fmt.Errorf("the image lists %s, but doesn't hold it: pull what is missing first, "+
		"or choose what is there with the input platform: %w", list(platforms), err)
}

// record leaves a hint for the next run: where each packed source went. A
// registry that refuses it does no harm.
func (i *imageJob) record(ctx context.Context, found *addressed) {
	if i.DryRun || i.NoRecord {
		return
	}
	for _, r := range found.records {
		if err := i.repo.Record(ctx, r.remote, r.verified, r.source); err != nil {
			i.log.Debug("could not write the locations record", zap.Error(err))
		}
	}
}

// moveLatest makes the tag latest name what was pushed, as charmcraft does. It
// is another hint.
func (i *imageJob) moveLatest(ctx context.Context, digest v1.Hash) {
	if i.NoRecord {
		return
	}
	if err := i.repo.MoveLatest(ctx, digest); err != nil {
		i.log.Debug("could not move the tag latest", zap.Error(err))
	}
}

// release makes the pushed image the resource's content.
func (i *imageJob) release(ctx context.Context) error {
	text, err := i.store.ImageBlob(ctx, i.Charm, i.Resource, i.report.RemoteDigest)
	if err != nil {
		return err
	}
	described := textContent(i.Resource+".json", text)
	described.architectures = architectures(i.report.platforms)
	_, err = i.publish(ctx, described, i.revisions, i.report)
	return err
}

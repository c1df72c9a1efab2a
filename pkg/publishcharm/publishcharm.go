// Package publishcharm has the use case that takes a packed charm to a channel: it uploads the charm files, then their
// resources, and then releases both with one request. Each of these is a use case of another package; this one reads
// what the charm files declare, and says what is missing.
//
// [ReadInputs] says what to publish, [Publish] does it and returns a [Result], and [Report] turns this into the
// log's last lines, the step's summary and its outputs.
package publishcharm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/publish"
	"github.com/charmhub-actions/upload-resource/pkg/release"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
)

// Result is the outcome of publishing a charm: the release, and the resources that were uploaded for it.
type Result struct {
	Release   release.Result
	Resources []publish.Result // those that were to be uploaded
}

// IsReportable reports whether there is more to say than an error.
func (r Result) IsReportable() bool {
	sent := func(one publish.Result) bool { return one.Uploaded || one.Revision != nil }
	return r.Release.IsReportable() || slices.ContainsFunc(r.Resources, sent)
}

// Publish uploads the charm files and the resources, and releases them, unless something failed. What is wrong with the
// release, as far as that can be known, is found before anything is sent.
func Publish(
	ctx context.Context, in Inputs, uploader publish.Publisher, releaser release.Releaser,
) (result Result, err error) {
	uploader.Sources = sources{uploader.Sources, new(sync.Mutex), in.Opened}
	upload := func(ctx context.Context, declared bool) (revisions map[string]charmhub.Revision, err error) {
		uploader.Declared = declared
		result.Resources, err = uploader.PublishSet(ctx, in.Charm, in.Items)
		return in.revisions(result.Resources), errors.Join(err, failUnknown(result.Resources))
	}
	to := release.Inputs{
		Charm: in.Charm, Channels: in.Channels, Files: in.Paths, Read: in.Files, Resources: maps.Clone(in.Revisions),
		KeepResources: true, HasLines: true,
		Upload: upload, DryRun: in.DryRun,
	}
	for _, item := range in.Items {
		to.Resources[item.Resource] = channelmap.ToUpload
	}
	var planErr error
	if in.DryRun {
		result.Resources, planErr = in.planUploads(ctx, uploader)
		for _, planned := range result.Resources {
			if planned.Revision != nil {
				to.Resources[planned.Resource] = *planned.Revision
			}
		}
	}
	result.Release, err = releaser.Release(ctx, to)
	result.Release.Digests = digests(result.Resources)
	return result, errors.Join(planErr, err)
}

// revisions returns the revisions that the uploads found or made, by the resources' names.
func (in Inputs) revisions(results []publish.Result) map[string]charmhub.Revision {
	revisions := map[string]charmhub.Revision{}
	for n, r := range results {
		if r.Revision == nil {
			continue
		}
		kind := charm.TypeImage
		if in.Items[n].File != "" {
			kind = charm.TypeFile
		}
		revisions[r.Resource] = charmhub.Revision{Revision: *r.Revision, Type: kind}
	}
	return revisions
}

// digests returns those of the images, by the resources' names.
func digests(results []publish.Result) map[string]string {
	all := map[string]string{}
	for _, r := range results {
		if r.RemoteDigest != "" {
			all[r.Resource] = r.RemoteDigest
		}
	}
	return all
}

// failUnknown makes a failure of each image that is recorded under no key: without it there is nothing to release.
func failUnknown(results []publish.Result) error {
	var errs []error
	for n := range results {
		if r := &results[n]; r.Unknown {
			r.Unknown, r.Err = false,
				fmt.Errorf("no image is recorded under the key; build it, and give it as the source before the key")
			errs = append(errs, fmt.Errorf("resource '%s': %w", r.Resource, r.Err))
		}
	}
	return errors.Join(errs...)
}

// planUploads says what would be uploaded. A resource that Charmhub doesn't know, since no charm file that declares it
// was uploaded yet, would be.
func (in Inputs) planUploads(ctx context.Context, uploader publish.Publisher) ([]publish.Result, error) {
	resources, err := uploader.Store.Resources(ctx, in.Charm)
	if err != nil {
		return nil, err
	}
	var known []publish.Item
	var results []publish.Result
	for _, item := range in.Items {
		if slices.ContainsFunc(resources, func(r charmhub.Resource) bool { return r.Name == item.Resource }) {
			known = append(known, item)
			continue
		}
		uploader.Runner.Logger().Info(fmt.Sprintf("Dry run: would upload resource '%s', which Charmhub learns of from a "+
			"charm file", item.Resource))
		results = append(results, publish.Result{Target: publish.Target{Charm: in.Charm, Resource: item.Resource},
			DryRun: true})
	}
	uploader.Declared = true
	planned, err := uploader.PublishSet(ctx, in.Charm, known)
	return append(results, planned...), errors.Join(err, failUnknown(planned))
}

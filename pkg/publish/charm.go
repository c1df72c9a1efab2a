package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// resourcesAtOnce is the maximum number of resources that are published concurrently.
const resourcesAtOnce = 4

// PublishCharm publishes the images of all resources for which the charm's metadata, in the file at path, names a
// source. If name is empty, the metadata names the charm. If a resource fails, the others are still published. The
// error then joins all failures, and the results are complete. The results of resources that are left out come last.
func (p *Publisher) PublishCharm(ctx context.Context, path, name string) ([]Result, error) {
	metadata, err := inputs.ReadMetadata(p.Files, path)
	if err != nil {
		return nil, err
	}
	for _, resource := range metadata.Resources {
		maskCredentials(p.Runner.Mask, resource.Source)
	}
	images := metadata.Images()
	if len(images) == 0 {
		return nil, fmt.Errorf(
			"input metadata: %s has no resource of type %s with an upstream-source; add one, or use the inputs "+
				"resource and image",
			path,
			charm.TypeImage,
		)
	}
	if name == "" {
		if name, err = inputs.CharmName(metadata, path); err != nil {
			return nil, err
		}
	}
	leftOut := p.leftOut(metadata, name)
	p.Runner.Logger().Info(fmt.Sprintf("Uploading %d resources of charm '%s': %s", len(images), name, joinNames(images)))
	var items []Item
	for _, resource := range images {
		items = append(items, Item{Resource: resource, Upstream: metadata.Resources[resource].Source})
	}
	results, err := p.PublishSet(ctx, name, items)
	return slices.Concat(results, leftOut), err
}

// Item is a resource to publish in a set, with its image (Images or Upstream) or its file. With none of them, it gets
// the image recorded under the key.
type Item struct {
	Resource string
	Images   []Part  // several are joined into one index
	Upstream string  // an upstream-source; a tag is resolved
	File     string  // path
	Key      v1.Hash // of an image; zero for none
}

// PublishSet publishes several resources of a charm, some of them concurrently. If one fails, the others are still
// published. The error then joins all failures, and the results are complete.
func (p *Publisher) PublishSet(ctx context.Context, name string, items []Item) ([]Result, error) {
	each := *p
	each.Store.RevisionStore = onceStore{
		p.Store,
		sync.OnceValues(func() ([]charmhub.Resource, error) { return p.Store.Resources(ctx, name) }),
	}
	results := make([]Result, len(items))
	var group parallel.Group
	group.SetLimit(resourcesAtOnce)
	for n, item := range items {
		group.Go(func() error {
			one, target := each, Target{name, item.Resource}
			one.Runner, one.Key = namedRunner{p.Runner, item.Resource}, item.Key
			results[n] = one.attempt(ctx, target, func() (Result, error) { return one.publishItem(ctx, target, item) })
			return nil
		})
	}
	_ = group.Wait() // failures are in the results, so that none hides another
	return results, failures(results)
}

// publishItem publishes one resource of a set.
func (p *Publisher) publishItem(ctx context.Context, t Target, item Item) (Result, error) {
	switch {
	case item.File != "":
		return p.PublishFile(ctx, t, item.File, nil)
	case item.Upstream != "":
		part, err := p.pin(ctx, item.Upstream)
		if err != nil {
			return Result{}, fmt.Errorf("upstream-source: %w", err)
		}
		item.Images = []Part{part}
	}
	return p.PublishImage(ctx, t, item.Images, nil)
}

// leftOut returns the results of resources that have no image to publish. It logs the reason for each.
func (p *Publisher) leftOut(metadata charm.Metadata, name string) (results []Result) {
	for _, resource := range slices.Sorted(maps.Keys(metadata.Resources)) {
		var why string
		switch declared := metadata.Resources[resource]; {
		case declared.Type == charm.TypeImage && declared.Source != "":
			continue
		case declared.Type == charm.TypeImage:
			why = "without upstream-source; upload it with the inputs resource and image"
		case declared.Type == charm.TypeFile:
			why = "of type file; upload it with the inputs resource and filepath"
		default:
			why = fmt.Sprintf("of type %.80q, which is no type of resource; write oci-image or file", declared.Type)
		}
		p.Runner.Logger().Info(fmt.Sprintf("Left out: resource '%s' is %s", resource, why))
		results = append(results, Result{Target: Target{name, resource}, LeftOut: why, DryRun: p.DryRun})
	}
	return results
}

// onceStore is a store with the cached list of a charm's resources.
type onceStore struct {
	RevisionStore
	resources func() ([]charmhub.Resource, error)
}

// Resources returns the cached list.
func (s onceStore) Resources(context.Context, string) ([]charmhub.Resource, error) {
	return s.resources()
}

// namedRunner names the resource in everything that it shows. It shows no groups, because concurrent ones would be
// mixed up.
type namedRunner struct {
	Runner
	name string
}

// Logger returns a logger that names the resource.
func (r namedRunner) Logger() *zap.Logger { return r.Runner.Logger().Named(r.name) }

// Group does nothing.
func (namedRunner) Group(string) func() { return func() {} }

// Progress shows progress that names the resource.
func (r namedRunner) Progress(what string, total int64) (func(int64), func()) {
	return r.Runner.Progress(r.name+": "+what, total)
}

// pin parses the source of an image. It resolves a tag to its current digest, so that the run doesn't notice if the tag
// moves.
func (p *Publisher) pin(ctx context.Context, text string) (Part, error) {
	ref, err := source.Parse("docker://" + strings.TrimPrefix(text, "docker://"))
	tagged, ok := errors.AsType[*source.TagError](err)
	if !ok {
		return Part{Reference: ref}, err
	}
	digest, err := p.Sources.Resolve(ctx, tagged.Name)
	if err != nil {
		return Part{}, err
	}
	p.Runner.Logger().Info("Resolved the tag", zap.String("tag", tagged.Name), zap.Stringer("digest", digest))
	ref, err = source.Parse(tagged.Name[:strings.LastIndex(tagged.Name, ":")] + "@" + digest.String())
	return Part{Reference: ref}, err
}

// failures joins the errors of the failed resources, nil if none failed.
func failures(results []Result) error {
	var failed []error
	for _, r := range results {
		if r.Err != nil {
			failed = append(failed, fmt.Errorf("resource '%s': %w", r.Resource, r.Err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d resources failed:\n%w", len(failed), len(results), errors.Join(failed...))
}

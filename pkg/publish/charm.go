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

// resourcesAtOnce is how many resources of a charm are published at once.
const resourcesAtOnce = 4

// Charm publishes every image that the charm's metadata in the file at path names
// a source for. The charm's name is that of the metadata if it is empty. The
// others are published also where one image fails; then the error is about all that
// failed, and the results are complete. Results of the resources that are left out come last.
func (p *Publisher) Charm(ctx context.Context, path, name string) ([]Result, error) {
	metadata, err := inputs.ReadMetadata(p.Files, path)
	if err != nil {
		return nil, err
	}
	for _, resource := range metadata.Resources {
		maskCredentials(p.Runner.Mask, resource.Source)
	}
	images := metadata.Images()
	if len(images) == 0 {
		return nil, fmt.Errorf("input metadata: %s has no resource of type %s with an upstream-source; add one, or use the inputs resource and image",
			path, charm.TypeImage)
	}
	if name == "" {
		if name, err = inputs.CharmName(metadata, path); err != nil {
			return nil, err
		}
	}
	leftOut := p.leftOut(metadata, name)
	p.Runner.Logger().Info(fmt.Sprintf("Uploading %d resources of charm '%s': %s", len(images), name, list(images)))
	var items []Item
	for _, resource := range images {
		items = append(items, Item{Resource: resource, Upstream: metadata.Resources[resource].Source})
	}
	results, err := p.PublishSet(ctx, name, items)
	return slices.Concat(results, leftOut), err
}

// Item is one of several resources, and what it gets: an image of Images or Upstream, or a
// file. If it gets nothing, it is the image that is recorded under the key.
type Item struct {
	Resource string
	Images   []Part  // several are joined into one index
	Upstream string  // an upstream-source; a tag is resolved
	File     string  // path
	Key      v1.Hash // of an image; zero for none
}

// PublishSet publishes resources of a charm, some at once. The others are published also where
// one fails; then the error is about all that failed, and the results are complete.
func (p *Publisher) PublishSet(ctx context.Context, name string, items []Item) ([]Result, error) {
	each := *p
	each.Store.RevisionStore = onceStore{p.Store, sync.OnceValues(func() ([]charmhub.Resource, error) { return p.Store.Resources(ctx, name) })}
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

func (p *Publisher) publishItem(ctx context.Context, t Target, item Item) (Result, error) {
	switch {
	case item.File != "":
		return p.File(ctx, t, item.File, nil)
	case item.Upstream != "":
		part, err := p.pin(ctx, item.Upstream)
		if err != nil {
			return Result{}, fmt.Errorf("upstream-source: %w", err)
		}
		item.Images = []Part{part}
	}
	return p.PublishImage(ctx, t, item.Images, nil)
}

// leftOut logs which resources of the charm have no image to publish, and why.
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

// onceStore is a store that is asked once for the one charm's resources.
type onceStore struct {
	RevisionStore
	resources func() ([]charmhub.Resource, error)
}

func (s onceStore) Resources(context.Context, string) ([]charmhub.Resource, error) {
	return s.resources()
}

// namedRunner says which of several resources it shows something of. These would
// tear each other's groups apart, so there are none.
type namedRunner struct {
	Runner
	name string
}

func (r namedRunner) Logger() *zap.Logger { return r.Runner.Logger().Named(r.name) }
func (namedRunner) Group(string) func()   { return func() {} }
func (r namedRunner) Progress(what string, total int64) (func(int64), func()) {
	return r.Runner.Progress(r.name+": "+what, total)
}

// pin reads the source of an image, and resolves a tag to the digest that it
// names now. From then on the tag may move without this run noticing.
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

// failures joins the errors of those that failed.
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

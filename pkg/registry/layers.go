package registry

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

const (
	maxChildren = 32  // entries of an index that are considered, attestations included
	maxLearned  = 256 // layers that are reused
)

// Layers returns the reusable layers of the image or index tagged latest, at most maxLearned of them. They are reusable
// if a record proves, with this store token, that the layers were compared with their diff IDs, and if the repository
// still has the blobs. Without that proof, a config could pass any blob off as a layer, and the blob would become part
// of another image. If two images of an index have the same diff ID, the first one's blob is returned, so the result is
// deterministic. What can't be read is left out and logged at debug level.
func (v *View) Layers(ctx context.Context) Layers {
	layers, err := v.layersByTag.get(ctx, tagLatest, func() (Layers, error) {
		newest := v.latest(ctx)
		if newest == nil {
			return nil, nil
		}
		subject := recordedAs(newest.Descriptor, newest.Manifest)
		if rec := v.record(ctx, subject); rec.image != newest.Digest || !v.prover.believes(rec, layersKind, subject) {
			return nil, nil
		}
		return v.layersBelow(ctx, newest), nil
	})
	if err != nil {
		return nil
	}
	return layers
}

// layersBelow returns the layers of an image, or of all images in an index, that the repository has.
func (v *View) layersBelow(ctx context.Context, newest *remote.Descriptor) Layers {
	var images []*v1.Manifest
	var candidates []v1.Descriptor // each once
	for _, d := range v.children(ctx, newest) {
		m, err := comparableManifest(d.MediaType, d.Manifest)
		if err != nil {
			v.log.Debug("An image's layers can't be reused", zap.Stringer("manifest", d.Digest), zap.Error(err))
			continue
		}
		images = append(images, m)
		for _, layer := range m.Layers {
			listed := slices.ContainsFunc(candidates, func(c v1.Descriptor) bool { return c.Digest == layer.Digest })
			if isCompressed(layer.MediaType) && !listed && len(candidates) < maxLearned {
				candidates = append(candidates, layer)
			}
		}
	}
	var exists map[v1.Hash]bool
	byImage := make([]Layers, len(images))
	var g parallel.Group
	g.SetLimit(checkers)
	g.Go(func() (err error) {
		exists, err = v.hasBlobs(ctx, candidates)
		v.log.Debug("Layers of the tag latest", zap.Int("blobs", len(candidates)), zap.Error(err))
		return nil
	})
	for i, m := range images {
		g.Go(func() error {
			var err error
			if byImage[i], err = v.layersOf(ctx, m); err != nil {
				v.log.Debug("An image's layers can't be reused", zap.Stringer("config", m.Config.Digest), zap.Error(err))
			}
			return nil
		})
	}
	_ = g.Wait() // every error is in the log
	reusable := Layers{}
	for _, layers := range slices.Backward(byImage) {
		maps.Copy(reusable, layers)
	}
	maps.DeleteFunc(reusable, func(_ v1.Hash, blob v1.Descriptor) bool { return !exists[blob.Digest] })
	return reusable
}

// children returns the images of an index, except those that can't be read. For a single image it returns that image.
func (v *View) children(ctx context.Context, d *remote.Descriptor) []*remote.Descriptor {
	if !d.MediaType.IsIndex() {
		return []*remote.Descriptor{d}
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(d.Manifest))
	if err != nil {
		v.log.Debug("Unreadable index", zap.Stringer("digest", d.Digest), zap.Error(err))
		return nil
	}
	read := make([]*remote.Descriptor, min(len(index.Manifests), maxChildren))
	var g parallel.Group
	g.SetLimit(checkers)
	for i := range read {
		if index.Manifests[i].MediaType.IsImage() {
			g.Go(func() error { read[i] = v.referencedManifest(ctx, index.Manifests[i].Digest); return nil })
		}
	}
	_ = g.Wait() // referencedManifest logs
	return slices.DeleteFunc(read, func(d *remote.Descriptor) bool { return d == nil })
}

// layersOf maps the diff IDs of an image to its compressed layers. Both are listed in the same order.
func (v *View) layersOf(ctx context.Context, m *v1.Manifest) (Layers, error) {
	diffIDs, err := v.readDiffIDs(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != len(diffIDs) {
		return nil, fmt.Errorf("%d layers but %d diff IDs", len(m.Layers), len(diffIDs))
	}
	layers := Layers{}
	for i, blob := range slices.Backward(m.Layers) { // of two blobs for one diff ID the first stays
		switch compressed := isCompressed(blob.MediaType); {
		case compressed && blob.Digest == diffIDs[i]:
			return nil, fmt.Errorf("layer %s is uncompressed but labelled %s", blob.Digest, blob.MediaType)
		case compressed:
			layers[diffIDs[i]] = blob
		}
	}
	return layers, nil
}

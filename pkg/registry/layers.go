package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

const maxChildren = 32 // images of an index whose layers are reused

// Layers are blobs by the diff IDs (the digests of the uncompressed layers) that they are proven to have.
type Layers = map[v1.Hash]v1.Descriptor

// Layers returns the layers of the image or index tagged latest that the repository holds. It is believed only if its
// record says that this program compared its layers with their diff IDs, when it packed or sent them: a config may say
// anything, and a blob that isn't the layer that it is taken for would become part of another image. Of two images in an
// index the first that has a diff ID decides, so the same repository gives the same answer. What can't be read is left
// out, which is a line of the debug log. A manifest may outlive its blobs, so each of them is asked for.
func (r *Repository) Layers(ctx context.Context, hints Hints) Layers {
	newest := hints.latest
	if !hints.asked {
		newest = r.latest(ctx)
	}
	if newest == nil || !r.isVerified(ctx, hints, newest.Digest) {
		return nil
	}
	if hints.layers != nil {
		return hints.layers
	}
	return r.heldLayers(ctx, hints, newest)
}

// heldLayers returns the layers of an image or index as its configs name them, as far as the repository holds them.
func (r *Repository) heldLayers(ctx context.Context, hints Hints, newest *remote.Descriptor) Layers {
	images := r.children(ctx, hints, newest)
	manifests := make([]*v1.Manifest, len(images))
	var blobs []v1.Descriptor // each once
	for i, d := range images {
		m, err := imageManifest(d.MediaType, d.Manifest)
		if err != nil {
			r.log.Debug("An image's layers can't be reused", zap.Stringer("manifest", d.Digest), zap.Error(err))
			m = &v1.Manifest{}
		}
		manifests[i] = m
		for _, d := range m.Layers {
			if isCompressed(d.MediaType) && !slices.ContainsFunc(blobs, func(b v1.Descriptor) bool { return b.Digest == d.Digest }) {
				blobs = append(blobs, d)
			}
		}
	}
	byImage := make([]Layers, len(images))
	present := map[v1.Hash]bool{}
	var g parallel.Group
	g.SetLimit(checkers)
	g.Go(func() error {
		err := r.ask(ctx, blobs, present)
		r.log.Debug("Layers of the tag latest", zap.Int("blobs", len(blobs)), zap.Error(err))
		return nil
	})
	for i, m := range manifests {
		g.Go(func() error {
			var err error
			if byImage[i], err = r.layersOf(ctx, m); err != nil {
				r.log.Debug("An image's layers can't be reused", zap.Stringer("manifest", images[i].Digest), zap.Error(err))
			}
			return nil
		})
	}
	_ = g.Wait() // every error is in the log
	held := Layers{}
	for _, layers := range slices.Backward(byImage) {
		maps.Copy(held, layers)
	}
	maps.DeleteFunc(held, func(_ v1.Hash, blob v1.Descriptor) bool { return !present[blob.Digest] })
	return held
}

// children returns the images of an index, as far as they can be read; a single image is its own.
func (r *Repository) children(ctx context.Context, hints Hints, d *remote.Descriptor) []*remote.Descriptor {
	if !d.MediaType.IsIndex() {
		return []*remote.Descriptor{d}
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(d.Manifest))
	if err != nil {
		r.log.Debug("Unreadable index", zap.Stringer("digest", d.Digest), zap.Error(err))
		return nil
	}
	read := make([]*remote.Descriptor, min(len(index.Manifests), maxChildren))
	var g parallel.Group
	g.SetLimit(checkers)
	for i := range read {
		if index.Manifests[i].MediaType.IsImage() {
			g.Go(func() error {
				h := hints.clone()
				read[i] = r.follow(ctx, &h, index.Manifests[i].Digest)
				return nil
			})
		}
	}
	_ = g.Wait() // follow logs
	return slices.DeleteFunc(read, func(d *remote.Descriptor) bool { return d == nil })
}

// layersOf pairs the compressed layers of an image with their diff IDs, which are in the same order.
func (r *Repository) layersOf(ctx context.Context, m *v1.Manifest) (Layers, error) {
	if !isConfig(m.Config.MediaType) {
		return nil, fmt.Errorf("the image's config is of type %q", m.Config.MediaType)
	}
	diffIDs, err := r.readDiffIDs(ctx, m.Config)
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

// readDiffIDs returns what a config that the repository holds says of the layers.
func (r *Repository) readDiffIDs(ctx context.Context, config v1.Descriptor) ([]v1.Hash, error) {
	defer image.LockConfig(config.Size)()
	raw, err := r.readBlob(ctx, config, image.MaxConfig)
	if err != nil {
		return nil, err
	}
	return image.DiffIDs(raw)
}

// isCompressed reports whether blobs of this type are compressed layers that may be used in any image.
func isCompressed(t types.MediaType) bool {
	return t == types.DockerLayer || t == types.OCILayer || t == types.OCILayerZStd
}

// readBlob fetches a blob of at most limit bytes and verifies its size and digest.
func (r *Repository) readBlob(ctx context.Context, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, more than the %d expected", d.Digest, d.Size, limit)
	}
	blob, err := remote.Layer(r.name.Digest(d.Digest.String()), r.remoteOptions(ctx)...)
	if err != nil {
		return nil, err
	}
	content, err := blob.Compressed() // as it is stored, verified at its end
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(content, limit+1))
	if err = errors.Join(err, content.Close()); err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("blob %s has not the %d bytes that its manifest says", d.Digest, d.Size)
	}
	return raw, nil
}

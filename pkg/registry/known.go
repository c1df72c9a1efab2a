package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

const (
	maxConfig   = 4 << 20 // bytes of an image's config
	maxChildren = 32      // images of an index that layers are learned from
)

// layer is one layer under both of its names.
type layer struct {
	diffID v1.Hash
	blob   v1.Descriptor
}

// Known returns, by diff ID (the digest of the uncompressed layer), the blobs that the repository holds according to the
// image or index tagged latest. It is believed only if its record says that this program compared its layers with their
// diff IDs, when it packed or sent them: a config may say anything, and a blob that isn't the layer that it is taken for
// would become part of another image. Of two images in an index the first that knows a diff ID decides, so the same
// repository gives the same answer. What can't be read teaches nothing, which is a line of the debug log. A manifest may
// outlive its blobs, so each of them is asked for; Plan doesn't ask again.
func (r *Repository) Known(ctx context.Context) map[v1.Hash]v1.Descriptor {
	newest := r.latest(ctx)
	if newest == nil {
		return nil
	}
	if err := r.isVerified(ctx, newest.Digest); err != nil {
		r.log.Debug("No layers learned", zap.Stringer("manifest", newest.Digest), zap.Error(err))
		return nil
	}
	images := r.children(ctx, newest)
	if newest.MediaType.IsImage() {
		images = append(images, newest)
	}
	lessons := make([][]layer, len(images))
	var g parallel.Group
	g.SetLimit(checkers)
	for i, image := range images {
		g.Go(func() error {
			var err error
			if lessons[i], err = r.layersOf(ctx, image); err != nil {
				r.log.Debug("No layers learned", zap.Stringer("manifest", image.Digest), zap.Error(err))
			}
			return nil
		})
	}
	_ = g.Wait() // every error is in the log
	return r.there(ctx, firstOf(lessons))
}

// there returns those of the learned blobs that the repository has, and remembers them.
func (r *Repository) there(ctx context.Context, learned map[v1.Hash]v1.Descriptor) map[v1.Hash]v1.Descriptor {
	known := map[v1.Hash]v1.Descriptor{}
	var g parallel.Group
	g.SetLimit(checkers)
	for diffID, blob := range learned {
		g.Go(func() error {
			found, err := r.has(ctx, blobs, blob)
			if !found {
				r.log.Debug("A manifest names a blob that isn't there", zap.Stringer("digest", blob.Digest), zap.Error(err))
				return nil
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			known[diffID], r.known[blob.Digest] = blob, true
			return nil
		})
	}
	_ = g.Wait() // every error is in the log
	return known
}

func firstOf(lessons [][]layer) map[v1.Hash]v1.Descriptor {
	known := map[v1.Hash]v1.Descriptor{}
	for _, layers := range lessons {
		for _, l := range layers {
			if _, taken := known[l.diffID]; !taken {
				known[l.diffID] = l.blob
			}
		}
	}
	return known
}

// children fetches the images of an index; a single image has none.
func (r *Repository) children(ctx context.Context, d *remote.Descriptor) []*remote.Descriptor {
	if !d.MediaType.IsIndex() {
		return nil
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(d.Manifest))
	if err != nil {
		r.log.Debug("Unreadable index", zap.Stringer("digest", d.Digest), zap.Error(err))
		return nil
	}
	found := make([]*remote.Descriptor, min(len(index.Manifests), maxChildren))
	var g parallel.Group
	g.SetLimit(checkers)
	for i := range found {
		if index.Manifests[i].MediaType.IsImage() {
			g.Go(func() error { found[i] = r.follow(ctx, index.Manifests[i].Digest); return nil })
		}
	}
	_ = g.Wait() // follow logs
	return withoutNil(found)
}

// layersOf pairs the layers of an image with their diff IDs: they are in one order.
func (r *Repository) layersOf(ctx context.Context, d *remote.Descriptor) ([]layer, error) {
	m, err := imageManifest(d)
	if err != nil {
		return nil, err
	}
	if !isConfig(m.Config.MediaType) {
		return nil, fmt.Errorf("its config is of type %q", m.Config.MediaType)
	}
	diffIDs, err := r.readDiffIDs(ctx, m.Config)
	if err != nil {
		return nil, err
	}
	return pair(m.Layers, diffIDs)
}

// readDiffIDs returns what a config that the repository holds says of the layers.
func (r *Repository) readDiffIDs(ctx context.Context, config v1.Descriptor) ([]v1.Hash, error) {
	raw, err := r.readBlob(ctx, config, maxConfig)
	if err != nil {
		return nil, err
	}
	parsed, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return parsed.RootFS.DiffIDs, nil
}

func pair(blobs []v1.Descriptor, diffIDs []v1.Hash) ([]layer, error) {
	if len(blobs) != len(diffIDs) {
		return nil, fmt.Errorf("%d layers but %d diff IDs", len(blobs), len(diffIDs))
	}
	var layers []layer
	for i, blob := range blobs {
		switch compressed := isCompressed(blob.MediaType); {
		case compressed && blob.Digest == diffIDs[i]:
			return nil, fmt.Errorf("layer %s is uncompressed but labelled %s", blob.Digest, blob.MediaType)
		case compressed:
			layers = append(layers, layer{diffIDs[i], blob})
		}
	}
	return layers, nil
}

// isCompressed tells whether blobs of this type are compressed layers that may be used in any image.
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

func withoutNil(all []*remote.Descriptor) []*remote.Descriptor {
	var found []*remote.Descriptor
	for _, d := range all {
		if d != nil {
			found = append(found, d)
		}
	}
	return found
}

// isKnown tells whether Known returned that blob.
func (r *Repository) isKnown(digest v1.Hash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[digest]
}

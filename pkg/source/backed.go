package source

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// store returns the manifests and blobs of an image by descriptor. The caller verifies the content: read does for
// manifests and configs, and whoever reads a layer does for the layer.
type store interface {
	fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
}

// newBacked returns the image or index that d describes. It reads nothing yet.
func newBacked(ctx context.Context, from store, d v1.Descriptor) (image.ImageOrIndex, error) {
	if d.Size <= 0 {
		return nil, fmt.Errorf(
			"%s is listed with %d bytes, which no manifest has; build, save or pull the image again",
			d.Digest,
			d.Size,
		)
	}
	node := backed{ctx: ctx, store: from, descriptor: d}
	node.raw = sync.OnceValues(func() ([]byte, error) { return read(ctx, from, d, manifestLimit) })
	switch {
	case d.MediaType.IsIndex():
		return backedIndex{node, &sync.Map{}}, nil
	case d.MediaType.IsImage():
		core := backedImage{backed: node}
		core.config = sync.OnceValues(core.readConfig)
		image, err := partial.CompressedToImage(core)
		if remote, ok := from.(*remoteStore); ok {
			return mountableImage{Image: image, from: remote.image}, err
		}
		return image, err
	default:
		return nil, fmt.Errorf("%s is of type %q, which is neither an image nor an index of images", d.Digest, d.MediaType)
	}
}

// read returns a manifest, index or config after verifying its digest. It fails if the document exceeds the limit.
func read(ctx context.Context, from store, d v1.Descriptor, most limit) ([]byte, error) {
	content, err := from.fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	raw, err := readDocument(content, d.Size, most)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", d.Digest, err)
	}
	switch {
	case d.Size > 0 && int64(len(raw)) != d.Size:
		return nil, fmt.Errorf(
			"%s has %d bytes where %d are declared: the image is damaged; build, save or pull it again",
			d.Digest,
			len(raw),
			d.Size,
		)
	case sum(raw) != d.Digest:
		return nil, fmt.Errorf("%s has the digest %s: the image is damaged; build, save or pull it again", d.Digest, sum(raw))
	}
	return raw, nil
}

// backed has the fields and methods that images and indexes share.
type backed struct {
	ctx        context.Context //nolint:containedctx // v1's interfaces take none
	store      store
	descriptor v1.Descriptor
	raw        func() ([]byte, error)
}

// MediaType returns the media type of the manifest.
func (a backed) MediaType() (types.MediaType, error) { return a.descriptor.MediaType, nil }

// Digest returns the digest of the manifest.
func (a backed) Digest() (v1.Hash, error) { return a.descriptor.Digest, nil }

// RawManifest returns the bytes of the manifest. It reads them once.
func (a backed) RawManifest() ([]byte, error) { return a.raw() }

// Size returns the size of the manifest in bytes.
func (a backed) Size() (int64, error) {
	raw, err := a.raw()
	return int64(len(raw)), err
}

// backedImage implements [partial.CompressedImageCore].
type backedImage struct {
	backed
	config func() ([]byte, error)
}

// cachedConfig is the maximum size in bytes of a config that is cached. Most configs have a tenth of it. The cached
// configs of a large index must fit into memory.
const cachedConfig = 32 << 10

// RawConfigFile returns the bytes of the config.
func (i backedImage) RawConfigFile() ([]byte, error) {
	manifest, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	if size := manifest.Config.Size; size <= 0 || size > cachedConfig {
		return i.readConfig()
	}
	return i.config()
}

// readConfig reads and verifies the config.
func (i backedImage) readConfig() ([]byte, error) {
	manifest, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	return read(i.ctx, i.store, manifest.Config, configLimit)
}

// ConfigLayer returns the config as a layer for [partial.ConfigLayer]. A large config isn't kept in memory.
func (i backedImage) ConfigLayer() (v1.Layer, error) {
	manifest, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	if manifest.Config.Size > cachedConfig {
		return partial.CompressedToLayer(backedLayer{ctx: i.ctx, store: i.store, descriptor: manifest.Config})
	}
	raw, err := i.RawConfigFile()
	return static.NewLayer(raw, manifest.Config.MediaType), err
}

// LayerByDigest returns the compressed layer with that digest.
func (i backedImage) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Layers {
		if d.Digest == digest {
			return backedLayer{ctx: i.ctx, store: i.store, descriptor: d}, nil
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s", i.descriptor.Digest, digest)
}

// backedLayer implements [partial.CompressedLayer].
type backedLayer struct {
	ctx        context.Context //nolint:containedctx // v1's interfaces take none
	store      store
	descriptor v1.Descriptor
}

// Digest returns the digest of the compressed layer.
func (l backedLayer) Digest() (v1.Hash, error) { return l.descriptor.Digest, nil }

// Size returns the number of compressed bytes.
func (l backedLayer) Size() (int64, error) { return l.descriptor.Size, nil }

// MediaType returns the media type from the manifest.
func (l backedLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }

// Compressed opens the compressed layer.
func (l backedLayer) Compressed() (io.ReadCloser, error) {
	return l.store.fetch(l.ctx, l.descriptor)
}

// backedIndex implements [v1.ImageIndex]. It caches its children, so that each manifest and config is read once.
type backedIndex struct {
	backed
	children *sync.Map // image.ImageOrIndex by digest
}

// IndexManifest parses the index.
func (x backedIndex) IndexManifest() (*v1.IndexManifest, error) {
	raw, err := x.raw()
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("index %s is damaged: %w", x.descriptor.Digest, err)
	}
	return manifest, nil
}

// Image returns the image in the index with that digest.
func (x backedIndex) Image(digest v1.Hash) (v1.Image, error) {
	return child[v1.Image](x, digest)
}

// ImageIndex returns the nested index with that digest.
func (x backedIndex) ImageIndex(digest v1.Hash) (v1.ImageIndex, error) {
	return child[v1.ImageIndex](x, digest)
}

// child returns the image or index with that digest. It fails if the index lists another kind of manifest.
func child[T any](x backedIndex, digest v1.Hash) (T, error) {
	var none T
	d, listed, err := x.lists(digest)
	if err != nil {
		return none, err
	}
	found, ok := x.children.Load(digest)
	if !ok && listed {
		opened, err := newBacked(x.ctx, x.store, d)
		if err != nil {
			return none, err
		}
		found, _ = x.children.LoadOrStore(digest, opened)
	}
	if typed, ok := found.(T); ok {
		return typed, nil
	}
	return none, fmt.Errorf("index %s has no such manifest %s", x.descriptor.Digest, digest)
}

// lists returns the descriptor with that digest, and whether the index lists it.
func (x backedIndex) lists(digest v1.Hash) (d v1.Descriptor, listed bool, err error) {
	manifest, err := x.IndexManifest()
	if err != nil {
		return d, false, err
	}
	at := slices.IndexFunc(manifest.Manifests, func(d v1.Descriptor) bool { return d.Digest == digest })
	if at < 0 {
		return d, false, nil
	}
	return manifest.Manifests[at], true, nil
}

// Layer returns a manifest that is neither an image nor an index, or a blob to which such a manifest refers.
func (x backedIndex) Layer(digest v1.Hash) (v1.Layer, error) {
	d, listed, err := x.lists(digest)
	if err != nil {
		return nil, err
	}
	if listed {
		asked := d
		// remoteStore requests a manifest only for a media type that it knows as a manifest's, otherwise a blob.
		asked.MediaType = types.OCIManifestSchema1
		raw, err := read(x.ctx, x.store, asked, manifestLimit)
		return static.NewLayer(raw, d.MediaType), err
	}
	return partial.CompressedToLayer(backedLayer{ctx: x.ctx, store: x.store, descriptor: v1.Descriptor{Digest: digest}})
}

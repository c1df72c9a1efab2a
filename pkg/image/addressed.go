package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// store gives the content of an addressed image: a manifest or blob by its
// descriptor. The content is the caller's to verify.
type store interface {
	fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
}

// newAddressed returns the image or index that d describes. Nothing is read
// before it is asked for.
func newAddressed(ctx context.Context, from store, d v1.Descriptor) (Manifest, error) {
	node := addressed{ctx: ctx, store: from, descriptor: d}
	node.raw = sync.OnceValues(func() ([]byte, error) { return read(ctx, from, d) })
	switch {
	case d.MediaType.IsIndex():
		return addressedIndex{node, &sync.Map{}}, nil
	case d.MediaType.IsImage():
		core := addressedImage{addressed: node}
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

// read returns a manifest, an index or a config, verified.
func read(ctx context.Context, from store, d v1.Descriptor) ([]byte, error) {
	content, err := from.fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	raw, err := readDocument(content, d.Size)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", d.Digest, err)
	}
	switch {
	case d.Size > 0 && int64(len(raw)) != d.Size:
		return nil, fmt.Errorf("%s has %d bytes where %d are declared: the image is damaged", d.Digest, len(raw), d.Size)
	case sum(raw) != d.Digest:
		return nil, fmt.Errorf("%s has the digest %s: the image is damaged", d.Digest, sum(raw))
	}
	return raw, nil
}

// addressed is what images and indexes share.
type addressed struct {
	ctx        context.Context //nolint:containedctx // v1's interfaces take none
	store      store
	descriptor v1.Descriptor
	raw        func() ([]byte, error)
}

func (a addressed) MediaType() (types.MediaType, error) { return a.descriptor.MediaType, nil }
func (a addressed) Digest() (v1.Hash, error)            { return a.descriptor.Digest, nil }
func (a addressed) RawManifest() ([]byte, error)        { return a.raw() }

func (a addressed) Size() (int64, error) {
	raw, err := a.raw()
	return int64(len(raw)), err
}

// addressedImage implements [partial.CompressedImageCore].
type addressedImage struct {
	addressed
	config func() ([]byte, error)
}

// keptConfig is how many bytes a config may have that is kept. Real ones have a
// tenth of it; all of a large index are to fit into the memory.
const keptConfig = 32 << 10

func (i addressedImage) RawConfigFile() ([]byte, error) {
	manifest, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	if size := manifest.Config.Size; size <= 0 || size > keptConfig {
		return i.readConfig()
	}
	return i.config()
}

func (i addressedImage) readConfig() ([]byte, error) {
	manifest, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	return read(i.ctx, i.store, manifest.Config)
}

func (i addressedImage) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := partial.Manifest(i)
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Layers {
		if d.Digest == digest {
			return addressedLayer{ctx: i.ctx, store: i.store, descriptor: d}, nil
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s", i.descriptor.Digest, digest)
}

// addressedLayer implements [partial.CompressedLayer].
type addressedLayer struct {
	ctx        context.Context //nolint:containedctx // v1's interfaces take none
	store      store
	descriptor v1.Descriptor
}

func (l addressedLayer) Digest() (v1.Hash, error)            { return l.descriptor.Digest, nil }
func (l addressedLayer) Size() (int64, error)                { return l.descriptor.Size, nil }
func (l addressedLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }
func (l addressedLayer) Compressed() (io.ReadCloser, error) {
	return l.store.fetch(l.ctx, l.descriptor)
}

// addressedIndex implements [v1.ImageIndex]. What was opened of it is kept, so
// that each manifest and config in it is read once.
type addressedIndex struct {
	addressed
	children *sync.Map // Manifest by digest
}

func (x addressedIndex) IndexManifest() (*v1.IndexManifest, error) {
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

func (x addressedIndex) Image(digest v1.Hash) (v1.Image, error) {
	return child[v1.Image](x, digest)
}

func (x addressedIndex) ImageIndex(digest v1.Hash) (v1.ImageIndex, error) {
	return child[v1.ImageIndex](x, digest)
}

func child[T any](x addressedIndex, digest v1.Hash) (T, error) {
	var none T
	manifest, err := x.IndexManifest()
	if err != nil {
		return none, err
	}
	for _, d := range manifest.Manifests {
		if d.Digest != digest {
			continue
		}
		found, ok := x.children.Load(digest)
		if !ok {
			opened, err := newAddressed(x.ctx, x.store, d)
			if err != nil {
				return none, err
			}
			found, _ = x.children.LoadOrStore(digest, opened)
		}
		if typed, ok := found.(T); ok {
			return typed, nil
		}
	}
	return none, fmt.Errorf("index %s has no such manifest %s", x.descriptor.Digest, digest)
}

// Layer returns a manifest that is neither an image nor an index, or a blob that
// such a manifest lists. These are all that an index can't give otherwise.
func (x addressedIndex) Layer(digest v1.Hash) (v1.Layer, error) {
	manifest, err := x.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range manifest.Manifests {
		if d.Digest != digest {
			continue
		}
		asked := d
		asked.MediaType = types.OCIManifestSchema1 // a store tells manifests from blobs by their types
		raw, err := read(x.ctx, x.store, asked)
		return static.NewLayer(raw, d.MediaType), err
	}
	return partial.CompressedToLayer(addressedLayer{ctx: x.ctx, store: x.store, descriptor: v1.Descriptor{Digest: digest}})
}

// Package source opens container images where they are stored: in registries, in the container engine, in OCI layouts
// and archives, and in files that `docker save` wrote.
//
// [Parse] reads a reference, and [Opener.Open] opens the image that it names, without reading a layer. A [Source] is
// of one of two types:
//
//   - [Backed]: the image has a manifest and compressed blobs (a registry, an OCI layout or archive, the containerd
//     image store). It is pushed unchanged, and so its digest stays the same.
//   - [*Unpacked]: the image has a config and uncompressed layers (Docker's graph drivers, docker-archive files).
//     Package pack compresses the layers and makes a manifest.
package source

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// Source is an image where it is stored: a [Backed] or an [*Unpacked] one.
type Source interface {
	// Identity returns the digests by which a registry can be asked for the image. It makes no request.
	Identity() image.Identity
	// Close releases what the source holds open. The image must not be read afterwards.
	Close() error
}

// Backed is an image that has a manifest where it is stored. Its manifests and configs are verified by their digests
// when they are read; whoever reads a layer has to verify the layer's digest.
type Backed interface {
	Source
	// Manifest returns the image or index. Its manifests, configs and layers are read, exported or fetched when they are
	// used, under the context of the call that created them: Open, or Manifest if it had to export the image. It has to
	// if the engine didn't say whether it is an image or an index (API < 1.48); Identity then also has the Images of an
	// index afterwards. Manifest isn't safe for concurrent use.
	Manifest(ctx context.Context) (image.ImageOrIndex, error)
	// Local reports whether manifests and configs are read without a request or an export.
	Local() bool
}

// Streamed is a backed image whose store gives all of its blobs in one stream, and none of them alone.
type Streamed interface {
	Backed
	// Stream reads the image once. It calls take for each blob other than manifests and configs. Take need not read all
	// of the content: it can be read later, which takes another stream. Stream isn't safe for concurrent use.
	Stream(ctx context.Context, take func(d v1.Descriptor, content io.Reader)) error
}

// opened is an image in a registry or an OCI layout whose manifest was read.
type opened struct {
	digest v1.Hash
	image  image.ImageOrIndex
	local  bool
	close  func() error // nil if nothing is held open
}

// Identity returns the digest of the manifest.
func (o *opened) Identity() image.Identity { return image.Identity{Manifest: o.digest} }

// Manifest returns the image or index.
func (o *opened) Manifest(context.Context) (image.ImageOrIndex, error) { return o.image, nil }

// Local reports whether manifests and configs are read without a request or an export.
func (o *opened) Local() bool { return o.local }

// Close closes what the image holds open.
func (o *opened) Close() error {
	if o.close == nil {
		return nil
	}
	return o.close()
}

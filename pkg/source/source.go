// Package source opens container images where they are stored: registries, the container engine, OCI layouts and
// archives, files that `docker save` wrote.
//
// [Parse] reads a reference, and [Opener.Open] opens the image that it names, without reading a layer. A [Source] is
// one of two kinds, which its type says:
//
//   - [Backed]: the image has its manifest and its compressed blobs already (a registry, an OCI layout or archive, the
//     containerd image store). It is pushed as it is, and its digest doesn't change.
//   - [*Unpacked]: the image has a config and layers as they are unpacked (Docker's graph drivers, docker-archive
//     files). Package pack makes a manifest-backed image of it.
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
	// Close releases what the source holds open. Nothing is read of the image afterwards.
	Close() error
}

// Backed is an image that has a manifest where it is stored.
type Backed interface {
	Source
	// Manifest returns the image or index. Its manifests, config and layers are read, exported or fetched when they are
	// asked for, not before, under the context that the image was opened with. An engine that doesn't tell images from
	// indexes exports the image here, under ctx, and Identity knows more afterwards. Manifest isn't safe for concurrent
	// use.
	Manifest(ctx context.Context) (image.ImageOrIndex, error)
	// Local reports whether manifests and configs are read without a request or an export.
	Local() bool
}

// Streamed is a backed image whose store gives all of its blobs in one stream, and none of them alone.
type Streamed interface {
	Backed
	// Stream reads the image once. It gives each blob that is no manifest or config to take, which need not read all of
	// the content. What take didn't read can be read later, from another stream.
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

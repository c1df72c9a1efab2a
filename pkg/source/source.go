// Package source opens container images where they are stored: registries, the
// container engine, OCI layouts and archives, files that `docker save` wrote.
//
// An image is manifest-backed or uncompressed. A manifest-backed one has its
// manifest and its compressed blobs already (a registry, an OCI layout or
// archive, the containerd image store): it is pushed as it is, and its digest
// doesn't change. An uncompressed one (Docker's graph drivers, docker-archive files)
// has a config and layers as they are unpacked; package pack makes a
// manifest-backed image of it.
//
// [Parse] reads a reference, and [Opener.Open] opens the image that it names,
// without reading a layer.
package source

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// Source is an image where it is stored. One of Image and Uncompressed is set, or
// Stored alone. Close it when no more of it is read.
type Source struct {
	// Digest identifies the image where it is stored: the digest of its manifest
	// or index, or its image ID in a store that names images by their config.
	Digest v1.Hash

	Image        image.ImageOrIndex // a manifest-backed image or index
	Uncompressed *Uncompressed
	// Stored is set for an image that an engine stores with its manifest. Engines
	// before version 1.48 of their API don't say whether it is an image or an
	// index: then Stored is set alone.
	Stored *Stored

	close func() error
}

// Close releases what the source holds open. A zero Source can be closed.
func (s *Source) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close()
}

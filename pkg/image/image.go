// Package image finds container images where they live and makes them ready
// to travel to a registry.
//
// An image is either addressed or unpacked. An addressed image has its
// manifest and its compressed blobs already (a registry, an OCI layout or
// archive, the containerd image store): it travels as it is and keeps its
// digest. An unpacked one (Docker's graph drivers, docker-archive files) has
// a config and uncompressed layers only: Pack makes an addressed image of it,
// once, and the same one on every machine.
//
// [Parse] reads a reference, [Opener.Open] finds what it names without
// reading a layer, and [Pack] compresses what has to be compressed. The
// package never writes to a registry, and never decides whether an image has
// to be sent.
package image

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Manifest is an addressed image or index: what [v1.Image] and
// [v1.ImageIndex] have in common.
type Manifest interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

// Source is an image that was found where it lives. One of Addressed and
// Unpacked is set, or Stored alone. Close it when no more of it will be read.
type Source struct {
	// Name is what the user called it, for messages.
	Name string
	// Digest is what the image is called where it lives: the digest of its
	// manifest or index, or its image ID in a store that names images by
	// their config.
	Digest v1.Hash

	Addressed Manifest
	Unpacked  *Unpacked
	// Stored is set for what an engine keeps with its manifest. Engines before
	// version 1.48 of their API don't say whether it is an image or an index:
	// then it is set alone.
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

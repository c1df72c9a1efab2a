// Package image checks images and indexes, selects images by platform, and joins images into an index. It reads
// manifests and configs, never layers. It makes no network requests of its own, but an [ImageOrIndex] may.
package image

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ImageOrIndex is the common part of [v1.Image] and [v1.ImageIndex]. A value is always one of the two.
type ImageOrIndex interface { //nolint:revive // image.OrIndex would say nothing
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

// Package image checks images and indexes: which platforms they run on, whether an
// engine can run them, which images an index lists. It also joins images into one
// index. It reads manifests and configs, never a layer, and makes no network call
// of its own.
package image

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ImageOrIndex is a manifest-backed image or index: what [v1.Image] and
// [v1.ImageIndex] have in common.
type ImageOrIndex interface { //nolint:revive // image.OrIndex would say nothing
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	Size() (int64, error)
	RawManifest() ([]byte, error)
}

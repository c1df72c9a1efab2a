package image

import (
	"bytes"
	"context"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Stored is an image of an engine's containerd image store. Its digest is its
// manifest's or index's, so whether a registry has it can be asked without
// reading it: it is exported as a whole, which takes its time.
type Stored struct {
	// Images are the images of an index, without attestations, as far as the
	// engine tells without an export; else nil.
	Images []v1.Descriptor

	read func(context.Context) (Manifest, error)
}

// Read returns the image or index. It is exported when its manifest is first
// read, at the latest.
func (s *Stored) Read(ctx context.Context) (Manifest, error) { return s.read(ctx) }

// RunnableImages returns the images that an index lists, without attestations
// and the like; nil for what isn't an index that says of all of them what they
// run on.
func RunnableImages(rawIndex []byte) []v1.Descriptor {
	index, err := v1.ParseIndexManifest(bytes.NewReader(rawIndex))
	if err != nil {
		return nil
	}
	var images []v1.Descriptor
	for _, d := range index.Manifests {
		switch {
		case isAttached(d):
		case d.Platform == nil || !d.MediaType.IsImage():
			return nil
		default:
			images = append(images, d)
		}
	}
	return images
}

// SameImages tells whether two indexes list the same images for the same
// platforms, in whatever order.
func SameImages(a, b []v1.Descriptor) bool {
	same := func(d v1.Descriptor) func(v1.Descriptor) bool {
		return func(other v1.Descriptor) bool {
			return d.Digest == other.Digest && d.Platform.Equals(*other.Platform)
		}
	}
	return len(a) > 0 && len(a) == len(b) &&
		!slices.ContainsFunc(a, func(d v1.Descriptor) bool { return !slices.ContainsFunc(b, same(d)) }) &&
		!slices.ContainsFunc(b, func(d v1.Descriptor) bool { return !slices.ContainsFunc(a, same(d)) })
}

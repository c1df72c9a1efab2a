package image

import (
	"bytes"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// RunnableImages returns the images that an index lists for runtimes. Entries that are attached to images
// ([IsAttached]) are left out. It returns nil if rawIndex isn't an index. It also returns nil if a runtime could run
// something that the index doesn't describe by platform, digest and size: an entry without a platform, of another media
// type, or with content of its own (urls, data).
func RunnableImages(rawIndex []byte) []v1.Descriptor {
	index, err := v1.ParseIndexManifest(bytes.NewReader(rawIndex))
	if err != nil {
		return nil
	}
	var images []v1.Descriptor
	for _, d := range index.Manifests {
		switch {
		case IsAttached(d):
		case d.Platform == nil, !d.MediaType.IsImage(), len(d.URLs) > 0, d.Data != nil:
			return nil
		default:
			images = append(images, d)
		}
	}
	return images
}

// SameImages reports whether two results of [RunnableImages] list the same images for the same platforms. The order
// doesn't matter. It returns false if a list is empty.
func SameImages(a, b []v1.Descriptor) bool {
	contains := func(all []v1.Descriptor, one v1.Descriptor) bool {
		return slices.ContainsFunc(all, func(other v1.Descriptor) bool { return sameImage(one, other) })
	}
	return len(a) > 0 && len(a) == len(b) &&
		!slices.ContainsFunc(a, func(d v1.Descriptor) bool { return !contains(b, d) }) &&
		!slices.ContainsFunc(b, func(d v1.Descriptor) bool { return !contains(a, d) })
}

// sameImage reports whether two entries of indexes describe the same image for the same platform. Both need a platform.
func sameImage(a, b v1.Descriptor) bool {
	return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType && a.Platform.Equals(*b.Platform)
}

// MissingError is the error for a manifest or blob that an image refers to, but that is missing from the image's
// source.
type MissingError struct{ v1.Descriptor }

// Error names the missing digest, and its platform if the index gives one.
func (e *MissingError) Error() string {
	what := e.Digest.String()
	if e.Platform != nil {
		what += " for " + e.Platform.String()
	}
	return what + " is listed, but not there: the image is incomplete"
}

// Missing returns the platforms whose manifests are listed in the index m, but missing from its source. The containerd
// image store has such an index after a pull of one platform. For a single image, or an index that can't be read, it
// returns nil.
func Missing(m ImageOrIndex) []v1.Platform {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		return nil
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil
	}
	var missing []v1.Platform
	for _, d := range manifest.Manifests {
		if d.Platform == nil || !d.MediaType.IsImage() {
			continue
		}
		image, err := index.Image(d.Digest)
		if err == nil {
			_, err = image.RawManifest()
		}
		var absent *MissingError
		if errors.As(err, &absent) && !d.Platform.Equals(unknown) {
			missing = append(missing, *d.Platform)
		}
	}
	return missing
}

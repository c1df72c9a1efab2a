package image

import (
	"bytes"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// RunnableImages returns the images that an index lists, without what is attached to them ([IsAttached]). It returns nil
// if rawIndex isn't an index, or if a runtime could take something else from it than an image that the index describes by
// platform, digest and size: an entry without a platform, of another media type, or with content of its own (urls, data).
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

// SameImages reports whether two lists of [RunnableImages] have the same images for the same platforms, in any order. An
// empty list has no image in common with any other.
func SameImages(a, b []v1.Descriptor) bool {
	contains := func(all []v1.Descriptor, one v1.Descriptor) bool {
		return slices.ContainsFunc(all, func(other v1.Descriptor) bool { return sameImage(one, other) })
	}
	return len(a) > 0 && len(a) == len(b) &&
		!slices.ContainsFunc(a, func(d v1.Descriptor) bool { return !contains(b, d) }) &&
		!slices.ContainsFunc(b, func(d v1.Descriptor) bool { return !contains(a, d) })
}

func sameImage(a, b v1.Descriptor) bool {
	return a.Digest == b.Digest && a.Size == b.Size && a.MediaType == b.MediaType && a.Platform.Equals(*b.Platform)
}

// MissingError is about a manifest or blob that an image refers to and that isn't
// where the image is.
type MissingError struct{ v1.Descriptor }

func (e *MissingError) Error() string {
	what := e.Digest.String()
	if e.Platform != nil {
		what += " for " + e.Platform.String()
	}
	return what + " is listed, but not there: the image is incomplete"
}

// Missing returns the platforms of an index whose manifests aren't where the
// index is; the containerd image store has such indexes after a pull of one
// platform.
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

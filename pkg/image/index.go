package image

import (
	"bytes"
	"errors"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// RunnableImages returns the images that an index lists, without attestations and
// other attached manifests. It returns nil if rawIndex is no index, or one that
// lists an image without a platform.
func RunnableImages(rawIndex []byte) []v1.Descriptor {
	index, err := v1.ParseIndexManifest(bytes.NewReader(rawIndex))
	if err != nil {
		return nil
	}
	var images []v1.Descriptor
	for _, d := range index.Manifests {
		switch {
		case IsAttached(d):
		case d.Platform == nil || !d.MediaType.IsImage():
			return nil
		default:
			images = append(images, d)
		}
	}
	return images
}

// SameImages reports whether two indexes list the same images for the same
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

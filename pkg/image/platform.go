package image

import (
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// unknown is what attestations and other attached manifests have for a
// platform.
var unknown = v1.Platform{OS: "unknown", Architecture: "unknown"}

// Platforms returns what an image or the children of an index run on, in
// their order. Attachments such as attestations don't count.
func Platforms(m Manifest) ([]v1.Platform, error) {
	switch m := m.(type) {
	case v1.Image:
		platform, err := configPlatform(m)
		return []v1.Platform{platform}, err
	case v1.ImageIndex:
		children, err := flatten(m)
		if err != nil {
			return nil, err
		}
		var all []v1.Platform
		for _, child := range children {
			if !child.attached() {
				all = append(all, *child.Platform)
			}
		}
		return all, nil
	default:
		return nil, fmt.Errorf("%T is neither an image nor an index", m)
	}
}

func configPlatform(image v1.Image) (v1.Platform, error) {
	config, err := image.ConfigFile()
	if err != nil {
		return v1.Platform{}, err
	}
	return *config.Platform(), nil
}

// leaf is an image in an index: its descriptor, its platform filled in from
// its config where the index is silent.
type leaf struct {
	v1.Descriptor
	image v1.Image
}

func (l leaf) attached() bool {
	return l.Platform.Equals(unknown) || l.Annotations["vnd.docker.reference.type"] != ""
}

// No real index is as large as this; one that lists the same index many times,
// on every level, would never end.
const (
	maxManifests = 1000     // images and indexes in an index, and thereby how deep they nest
	maxIndex     = 16 << 20 // bytes of their manifests together, which are all kept
)

var errTooLarge = errors.New("more than any real index")

// bounded returns an error if an index is too large to be real. It reads the
// indexes in it, and no image.
func bounded(m Manifest) error {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		return nil
	}
	var d descent
	err := d.into(index, func(v1.ImageIndex, v1.Descriptor) error { return nil })
	if errors.Is(err, errTooLarge) {
		return err
	}
	return nil // what can't be read may not be needed
}

// flatten returns all images of an index and of the indexes in it, in order.
func flatten(index v1.ImageIndex) (leaves []leaf, err error) {
	var d descent
	err = d.into(index, func(parent v1.ImageIndex, d v1.Descriptor) error {
		leaf, err := newLeaf(parent, d)
		leaves = append(leaves, leaf)
		return err
	})
	return leaves, err
}

// descent is one way through an index and the indexes in it.
type descent struct{ manifests, bytes int64 }

// into calls visit for each image.
func (d *descent) into(index v1.ImageIndex, visit func(parent v1.ImageIndex, d v1.Descriptor) error) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, child := range manifest.Manifests {
		if err := d.count(child); err != nil {
			return err
		}
		if !child.MediaType.IsIndex() {
			err = visit(index, child)
		} else if nested, failure := index.ImageIndex(child.Digest); failure != nil {
			err = failure
		} else {
			err = d.into(nested, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *descent) count(child v1.Descriptor) error {
	if d.manifests++; d.manifests > maxManifests {
		return fmt.Errorf("it lists more than %d images, %w", maxManifests, errTooLarge)
	}
	if d.bytes += max(child.Size, 0); d.bytes > maxIndex || d.bytes < 0 {
		return fmt.Errorf("the manifests that it lists have more than %d bytes, %w", maxIndex, errTooLarge)
	}
	return nil
}

func newLeaf(parent v1.ImageIndex, d v1.Descriptor) (leaf, error) {
	image, err := parent.Image(d.Digest)
	if err != nil {
		return leaf{}, err
	}
	if d.Platform == nil {
		platform, err := configPlatform(image)
		if err != nil {
			return leaf{}, err
		}
		d.Platform = &platform
	}
	return leaf{Descriptor: d, image: image}, nil
}

// SelectPlatform returns the one image of m that runs on want. An image that
// has no other platform to offer is checked, too.
func SelectPlatform(m Manifest, want v1.Platform) (Manifest, error) {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		have, err := Platforms(m)
		if err != nil || have[0].Satisfies(want) {
			return m, err
		}
		return nil, fmt.Errorf("it runs on %s, not on %s", have[0], want)
	}
	leaves, err := flatten(index)
	if err != nil {
		return nil, err
	}
	var have []string
	for _, leaf := range leaves {
		switch {
		case leaf.attached():
		case leaf.Platform.Satisfies(want):
			return leaf.image, nil
		default:
			have = append(have, leaf.Platform.String())
		}
	}
	return nil, fmt.Errorf("it has no image for %s; it has %s", want, strings.Join(have, ", "))
}

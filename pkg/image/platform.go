package image

import (
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

// maxManifests bounds how many images and indexes are in an index, and
// thereby how deep they nest; an index that lists the same one many times, on
// every level, would never end.
const maxManifests = 1000

// flatten returns all images of an index and of the indexes in it, in order.
func flatten(index v1.ImageIndex) ([]leaf, error) {
	var f flattener
	err := f.add(index)
	return f.leaves, err
}

type flattener struct {
	leaves []leaf
	seen   int
}

func (f *flattener) add(index v1.ImageIndex) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		if f.seen++; f.seen > maxManifests {
			return fmt.Errorf("it lists more than %d images, more than any real index", maxManifests)
		}
		if err := f.addChild(index, d); err != nil {
			return err
		}
	}
	return nil
}

func (f *flattener) addChild(index v1.ImageIndex, d v1.Descriptor) error {
	if d.MediaType.IsIndex() {
		nested, err := index.ImageIndex(d.Digest)
		if err != nil {
			return err
		}
		return f.add(nested)
	}
	image, err := index.Image(d.Digest)
	if err != nil {
		return err
	}
	if d.Platform == nil {
		platform, err := configPlatform(image)
		if err != nil {
			return err
		}
		d.Platform = &platform
	}
	f.leaves = append(f.leaves, leaf{Descriptor: d, image: image})
	return nil
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

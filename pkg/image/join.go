package image

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Part is an image or index that becomes part of a bigger index.
type Part struct {
	// Name is what the user called it, for messages.
	Name string
	Manifest
	// Platform replaces the platform that the image itself gives.
	Platform *v1.Platform
}

// Join makes one index of all images of the parts, in their order; indexes
// among them are flattened, since Docker can't pull nested ones. The same
// parts give the same bytes. Two images for one platform are refused.
func Join(parts []Part) (v1.ImageIndex, error) {
	var adds []mutate.IndexAddendum
	taken := map[string]string{}
	mediaType := types.DockerManifestList
	for _, part := range parts {
		leaves, err := part.leaves()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.Name, err)
		}
		for _, leaf := range leaves {
			if platform := leaf.Platform.String(); !leaf.attached() {
				if other, ok := taken[platform]; ok {
					return nil, fmt.Errorf("%s and %s are both for %s; name each platform once, "+
						"or tell them apart with ` platform=os/arch/variant` after the image", other, part.Name, platform)
				}
				taken[platform] = part.Name
			}
			if leaf.MediaType != types.DockerManifestSchema2 {
				mediaType = types.OCIImageIndex
			}
			adds = append(adds, mutate.IndexAddendum{Add: leaf.image, Descriptor: leaf.Descriptor})
		}
	}
	return mutate.IndexMediaType(mutate.AppendManifests(empty.Index, adds...), mediaType), nil
}

func (p Part) leaves() ([]leaf, error) {
	if index, ok := p.Manifest.(v1.ImageIndex); ok {
		if p.Platform != nil {
			return nil, fmt.Errorf("it is an index of several images, and platform=%s can't be true of all", p.Platform)
		}
		return flatten(index)
	}
	image, ok := p.Manifest.(v1.Image)
	if !ok {
		return nil, fmt.Errorf("%T is neither an image nor an index", p.Manifest)
	}
	d, err := describe(image)
	if err != nil {
		return nil, err
	}
	if p.Platform != nil {
		d.Platform = p.Platform
	}
	return []leaf{{Descriptor: d, image: image}}, nil
}

// describe returns the descriptor of an image, with the platform of its
// config.
func describe(image v1.Image) (d v1.Descriptor, err error) {
	if d.MediaType, err = image.MediaType(); err != nil {
		return d, err
	}
	if d.Digest, err = image.Digest(); err != nil {
		return d, err
	}
	if d.Size, err = image.Size(); err != nil {
		return d, err
	}
	platform, err := configPlatform(image)
	d.Platform = &platform
	return d, err
}

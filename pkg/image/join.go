package image

import (
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Part is an image or index to join.
type Part struct {
	// Name is the reference as the user wrote it. Errors show it.
	Name  string
	Image ImageOrIndex
	// Platform replaces the image's own platform. If it is nil, the image's config or the index decides.
	Platform *v1.Platform
}

// Join returns an index of all images of parts, in order. The images of an index are listed one by one, because Docker
// can't pull nested indexes; their attestations are kept. The same parts give the same bytes. Join fails if two images
// are for the same platform, or if an image has no platform.
func Join(parts []Part) (v1.ImageIndex, error) {
	var adds []mutate.IndexAddendum
	type entry struct {
		part   int
		digest v1.Hash
	}
	taken := map[string]entry{}
	mediaType := types.DockerManifestList
	for n, part := range parts {
		leaves, err := part.leaves()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.Name, err)
		}
		for _, leaf := range leaves {
			if leaf.runnable {
				platform := Normalize(*leaf.Platform).String()
				other, ok := taken[platform]
				switch {
				case ok && other.part != n && other.digest == leaf.Digest:
					return nil, fmt.Errorf("images %d and %d are the same, %s; give each platform's own", other.part+1, n+1,
						leaf.Digest)
				case ok:
					return nil, fmt.Errorf("%s and %s are both for %s; name each platform once, "+
						"or distinguish them with ` platform=os/arch/variant` after the image",
						parts[other.part].Name, part.Name, platform)
				}
				taken[platform] = entry{n, leaf.Digest}
			}
			if leaf.MediaType != types.DockerManifestSchema2 {
				mediaType = types.OCIImageIndex
			}
			image, err := leaf.open()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", part.Name, err)
			}
			adds = append(adds, mutate.IndexAddendum{Add: listed{image}, Descriptor: leaf.Descriptor})
		}
	}
	return mutate.IndexMediaType(mutate.AppendManifests(empty.Index, adds...), mediaType), nil
}

// leaves returns the manifests that the part adds to a joined index.
func (p Part) leaves() ([]leaf, error) {
	switch m := p.Image.(type) {
	case v1.ImageIndex:
		return p.flatten(m)
	case v1.Image:
		l, err := newLeaf(m)
		switch {
		case err != nil:
			return nil, err
		case p.Platform != nil:
			l.Platform = p.Platform
		case l.Platform.OS == "":
			return nil, errors.New("the image's config doesn't say what it runs on; add ` platform=os/arch` after the image")
		}
		return []leaf{l}, nil
	default:
		return nil, fmt.Errorf("%T is neither an image nor an index", p.Image)
	}
}

// flatten returns the manifests that an index adds to a joined index. If the part has a platform, the index's single
// image gets it.
func (p Part) flatten(index v1.ImageIndex) ([]leaf, error) {
	look := leaf.fromImage
	if p.Platform != nil {
		look = func(l leaf) (leaf, error) {
			own := l.Platform
			if !IsAttached(l.Descriptor) {
				l.Platform = p.Platform // so that it needs none of its own
			}
			l, err := l.fromImage()
			if !l.runnable {
				l.Platform = own
			}
			return l, err
		}
	}
	leaves, err := flatten(index, look)
	if err != nil {
		return nil, err
	}
	images := 0
	for _, l := range leaves {
		if !l.MediaType.IsImage() {
			return nil, fmt.Errorf(
				"%s in the index is of type %q, which is neither an image nor an index of images",
				l.Digest,
				l.MediaType,
			)
		}
		if l.runnable {
			images++
		}
	}
	if p.Platform != nil && images > 1 {
		return nil, fmt.Errorf(
			"an index of several images, and platform=%s can't be true of all; leave it out, or give one of these images",
			p.Platform,
		)
	}
	return leaves, nil
}

// newLeaf checks an image and returns it with its descriptor. The descriptor has the platform from the image's config.
func newLeaf(image v1.Image) (l leaf, err error) {
	d, err := partial.Descriptor(listed{image})
	if err != nil {
		return l, err
	}
	platform, err := imagePlatform(image)
	d.Platform = &platform
	return leaf{Descriptor: *d, image: image, runnable: true}, err
}

// listed is an image whose descriptor has an artifact type only if its manifest has one. go-containerregistry would
// give every descriptor an artifact type, and older tools then drop the image from the index.
type listed struct{ v1.Image }

// ArtifactType returns the artifact type of the manifest for [partial.Descriptor], "" if it has none.
func (l listed) ArtifactType() (string, error) {
	manifest, err := l.Manifest()
	if err != nil {
		return "", err
	}
	return manifest.ArtifactType, nil
}

// ConfigLayer returns the config as a layer for [partial.ConfigLayer].
func (l listed) ConfigLayer() (v1.Layer, error) { return partial.ConfigLayer(l.Image) }

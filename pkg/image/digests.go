package image

import (
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Digests returns every digest under which a container runtime may report that
// it runs m, first its own: those of an index, of the manifests of its images,
// and of their configs, which Docker and some versions of CRI-O call image IDs.
// It reads the manifest of each image.
func Digests(m ImageOrIndex) ([]v1.Hash, error) {
	own, err := m.Digest()
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case v1.Image:
		manifest, err := m.Manifest()
		if err != nil {
			return nil, err
		}
		return []v1.Hash{own, manifest.Config.Digest}, nil
	case v1.ImageIndex:
		leaves, err := flatten(m, leaf.read)
		if err != nil {
			return nil, err
		}
		digests := []v1.Hash{own}
		for _, l := range leaves {
			if !l.runs {
				continue // an attestation
			}
			below, err := Digests(l.image)
			if err != nil {
				return nil, err
			}
			for _, digest := range below {
				if !slices.Contains(digests, digest) {
					digests = append(digests, digest)
				}
			}
		}
		return digests, nil
	default:
		return nil, fmt.Errorf("%T is neither an image nor an index", m)
	}
}

// read opens an image, and reads its manifest.
func (l leaf) read() (leaf, error) {
	l, err := l.glance()
	if err != nil || !l.runs {
		return l, err
	}
	if l.image, err = l.open(); err == nil {
		_, err = l.image.Manifest()
	}
	return l, err
}

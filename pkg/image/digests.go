package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

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

// MaxManifest is how many bytes a manifest or an index may have. It is the limit of
// CNCF distribution.
const MaxManifest = 4 << 20

// MaxConfig is how many bytes the config of an image may have. Most have a few
// thousand, but buildpacks put a bill of materials into a label.
const MaxConfig = 16 << 20

var largeConfigs sync.Mutex

// LockConfig waits until the caller may read a config of that many bytes, and
// returns a function to call when it is done with the config's bytes. Large
// configs are read one at a time, since several could fill the memory.
func LockConfig(size int64) (unlock func()) {
	if size <= MaxConfig/16 {
		return func() {}
	}
	largeConfigs.Lock()
	return largeConfigs.Unlock
}

// DiffIDs returns the diff IDs of the layers that a config lists. It decodes
// nothing else of the config.
func DiffIDs(config []byte) ([]v1.Hash, error) {
	var parsed struct {
		RootFS struct {
			DiffIDs []v1.Hash `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &parsed); err != nil {
		return nil, fmt.Errorf("the image's config is damaged: %w; build the image again", err)
	}
	return parsed.RootFS.DiffIDs, nil
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

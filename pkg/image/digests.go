package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Digests returns every digest that a container runtime may report while it runs m: the digest of m, and the digests of
// the manifests and configs of its images. Docker and some versions of CRI-O call a config's digest the image ID. The
// digest of m is first, and no digest is listed twice. Attestations are left out. Digests reads the manifest of each
// image.
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
			if !l.runnable {
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

// MaxManifest is the maximum size of a manifest or index, in bytes. CNCF distribution has the same limit.
const MaxManifest = 4 << 20

// MaxConfig is the maximum size of an image's config, in bytes. Most configs have a few thousand bytes, but buildpacks
// store a bill of materials in a label.
const MaxConfig = 16 << 20

var largeConfigs sync.Mutex

// LockConfig waits until the caller may read a config of size bytes. Call unlock when the config's bytes are no longer
// needed. Configs over 1 MiB are read one at a time, because several of them could exhaust the memory. It may be called
// from several goroutines.
func LockConfig(size int64) (unlock func()) {
	if size <= MaxConfig/16 {
		return func() {}
	}
	largeConfigs.Lock()
	return largeConfigs.Unlock
}

// DiffIDs returns the diff IDs that a config lists, in the order of the layers. It decodes no other field of the
// config.
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

// read opens a runnable image and reads its manifest.
func (l leaf) read() (leaf, error) {
	l, err := l.fromIndex()
	if !l.runnable { // as what can't be read
		return l, err
	}
	if l.image, err = l.open(); err == nil {
		_, err = l.image.Manifest()
	}
	return l, err
}

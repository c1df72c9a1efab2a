package image

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

// brokenImage fails with those of its errors that aren't nil.
type brokenImage struct {
	v1.Image
	digestErr, manifestErr error
}

// Digest fails if the test says so.
func (b brokenImage) Digest() (v1.Hash, error) {
	if b.digestErr != nil {
		return v1.Hash{}, b.digestErr
	}
	return b.Image.Digest()
}

// Manifest fails if the test says so.
func (b brokenImage) Manifest() (*v1.Manifest, error) {
	if b.manifestErr != nil {
		return nil, b.manifestErr
	}
	return b.Image.Manifest()
}

// listing has another name than the method of v1.ImageIndex, so that a struct can embed it.
type listing = v1.ImageIndex

// indexOf is an index whose images are opened as child, or not at all.
type indexOf struct {
	listing  // by another name, which isn't that of its method ImageIndex
	child    v1.Image
	childErr error
}

// Image returns the test's image, whatever the digest, or the test's error.
func (i indexOf) Image(v1.Hash) (v1.Image, error) { return i.child, i.childErr }

func TestDigestsFail(t *testing.T) {
	t.Parallel()
	img, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
	})
	gone := errors.New("gone")
	for name, m := range map[string]ImageOrIndex{
		"digest of an image":     brokenImage{Image: img, digestErr: gone},
		"manifest of an image":   brokenImage{Image: img, manifestErr: gone},
		"image in an index":      indexOf{listing: index, childErr: gone},
		"manifest in an index":   indexOf{listing: index, child: brokenImage{Image: img, manifestErr: gone}},
		"a digest, in the index": indexOf{listing: index, child: brokenImage{Image: img, digestErr: gone}},
	} {
		if digests, err := Digests(m); !errors.Is(err, gone) || digests != nil {
			t.Errorf("%s: %v, %v", name, digests, err)
		}
	}
}

func TestDiffIDs(t *testing.T) {
	t.Parallel()
	listed, err := v1.NewHash(digestA)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DiffIDs([]byte(`{"os":7,"rootfs":{"diff_ids":["` + digestA + `"]}}`))
	if diff := cmp.Diff([]v1.Hash{listed}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	_, err = DiffIDs([]byte(`{"rootfs":{"diff_ids":["sha256:"]}}`))
	imagetest.WantError(t, err, "the image's config is damaged")
}

// TestLockConfig: one large config at a time, and any number of small ones.
func TestLockConfig(t *testing.T) {
	const small = MaxConfig / 16
	unlock := LockConfig(small + 1)
	if largeConfigs.TryLock() {
		t.Fatal("another large config can be read at the same time")
	}
	LockConfig(small)()
	unlock()
	if !largeConfigs.TryLock() {
		t.Fatal("a large config that was read keeps others from being read")
	}
	defer largeConfigs.Unlock()
	LockConfig(small)()
}

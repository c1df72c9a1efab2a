package registry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// A layer has two names: the digest of its blob, in the manifest, and its diff ID, the digest of what the blob
// decompresses to, in the config (OCI image spec, config.md). Blobs are verified by everybody; diff IDs only by those who
// unpack the layer. Since a blob that is known by its diff ID becomes part of other images, what a config says is
// compared with the layer itself while that is sent.

// diffIDsOf returns the diff IDs that are to be compared with an image's layers, in their order. It is zero for what isn't
// compressed, which is compared here, and for what can't be looked into, as it is encrypted or no file system. It fails
// when the config doesn't fit the layers. It returns nil, and doesn't read the config, if there is nothing to compare.
func diffIDsOf(img v1.Image, m *v1.Manifest) ([]v1.Hash, error) {
	isLayer := func(d v1.Descriptor) bool { return isCompressed(d.MediaType) || isPlain(d.MediaType) }
	if !isConfig(m.Config.MediaType) || !slices.ContainsFunc(m.Layers, isLayer) {
		return nil, nil
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	listed, err := image.DiffIDs(config)
	if err != nil {
		return nil, err
	}
	if len(listed) != len(m.Layers) {
		return nil, fmt.Errorf("the image has %d layers, but its config lists %d diff IDs; build it again", len(m.Layers), len(listed))
	}
	diffIDs := make([]v1.Hash, len(m.Layers))
	for i, d := range m.Layers {
		claimed := listed[i]
		switch {
		case isCompressed(d.MediaType):
			diffIDs[i] = claimed
		case isPlain(d.MediaType) && d.Digest != claimed:
			return nil, wrongDiffID(d.Digest, claimed, d.Digest)
		}
	}
	return diffIDs, nil
}

func wrongDiffID(blob, claimed, actual v1.Hash) error {
	return fmt.Errorf("reading the layer %s: the image's config gives the layer the diff ID %s, but it has %s; build the image again",
		blob, claimed, actual)
}

// isConfig reports whether a config lists diff IDs: artifacts have configs of other types.
func isConfig(t types.MediaType) bool { return t == types.DockerConfigJSON || t == types.OCIConfigJSON }

// isPlain reports whether blobs of this type are layers as they are, whose digest is their diff ID.
func isPlain(t types.MediaType) bool {
	return t == types.DockerUncompressedLayer || t == types.OCIUncompressedLayer
}

// isCompressed reports whether blobs of this type are compressed layers that may be used in any image.
func isCompressed(t types.MediaType) bool {
	return t == types.DockerLayer || t == types.OCILayer || t == types.OCILayerZStd
}

var errNotAnImage = errors.New("not the manifest of a single image")

// imageManifest parses the manifest of a single image.
func imageManifest(mediaType types.MediaType, raw []byte) (*v1.Manifest, error) {
	if !mediaType.IsImage() {
		return nil, errNotAnImage
	}
	return v1.ParseManifest(bytes.NewReader(raw))
}

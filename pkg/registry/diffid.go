package registry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/registry/layercheck"
)

// A layer has two digests: that of its blob, in the manifest, and its diff ID, in the config. The diff ID is the digest
// of the decompressed blob (OCI image spec, config.md). Every client verifies the digests of blobs, but only those that
// unpack a layer verify diff IDs. A blob that is known by its diff ID becomes part of other images. Therefore layers
// are compared with their diff IDs while they are sent.

// diffIDsOf returns the diff IDs with which an image's layers have to be compared, in the order of the layers. The
// zero Hash stands for a layer that isn't compared: the digest of an uncompressed layer is its diff ID, and an
// encrypted layer or one that isn't a file system can't be decompressed. It returns nil, without reading the config,
// if configs of its type list no diff IDs or if no layer is of a known type. It fails if the config doesn't match the
// layers.
func diffIDsOf(img v1.Image, m *v1.Manifest) ([]v1.Hash, error) {
	isLayer := func(d v1.Descriptor) bool { return isCompressed(d.MediaType) || isUncompressed(d.MediaType) }
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
		return nil, fmt.Errorf(
			"the image has %d layers, but its config lists %d diff IDs; build it again",
			len(m.Layers),
			len(listed),
		)
	}
	diffIDs := make([]v1.Hash, len(m.Layers))
	for i, d := range m.Layers {
		claimed := listed[i]
		switch {
		case isCompressed(d.MediaType):
			diffIDs[i] = claimed
		case isUncompressed(d.MediaType) && d.Digest != claimed:
			return nil, wrongDiffID(d.Digest, claimed, d.Digest)
		}
	}
	return diffIDs, nil
}

// wrongDiffID returns the error for a layer whose diff ID differs from the one that the config lists.
func wrongDiffID(blob, claimed, actual v1.Hash) error {
	return fmt.Errorf(
		"reading the layer %s: the image's config gives the layer the diff ID %s, but it has %s; build the image again",
		blob,
		claimed,
		actual,
	)
}

// isConfig reports whether a config of this media type lists diff IDs. Configs of artifacts have other types.
func isConfig(t types.MediaType) bool { return t == types.DockerConfigJSON || t == types.OCIConfigJSON }

// isUncompressed reports whether the media type is that of an uncompressed layer. Its digest is its diff ID.
func isUncompressed(t types.MediaType) bool {
	return t == types.DockerUncompressedLayer || t == types.OCIUncompressedLayer
}

// isCompressed reports whether the media type is that of a compressed layer that any image may use.
func isCompressed(t types.MediaType) bool { return compressionOf(t) != "" }

// compressionOf returns the compression that the media type of a layer promises: layercheck.Gzip, layercheck.Zstd,
// or "" for any other.
func compressionOf(t types.MediaType) string {
	switch t { //nolint:exhaustive // no other type is a compressed layer's
	case types.DockerLayer, types.OCILayer:
		return layercheck.Gzip
	case types.OCILayerZStd:
		return layercheck.Zstd
	}
	return ""
}

// errNotAnImage is the error for a manifest of another media type than an image's.
var errNotAnImage = errors.New("not the manifest of a single image")

// imageManifest parses the manifest of a single image. It returns errNotAnImage for other media types.
func imageManifest(mediaType types.MediaType, raw []byte) (*v1.Manifest, error) {
	if !mediaType.IsImage() {
		return nil, errNotAnImage
	}
	return v1.ParseManifest(bytes.NewReader(raw))
}

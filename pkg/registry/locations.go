package registry

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The locations record is an image of imgpkg's making: one layer with one file, which says where images were copied.
const (
	locationsFile       = "image-locations.yml"
	locationsAPIVersion = "imgpkg.carvel.dev/v1alpha1"
	locationsKind       = "ImageLocations"
)

// newRecord returns the record of one image as an image of imgpkg, with annotations; nil means none. Authors, times and
// modes are those that imgpkg sets.
func newRecord(image name.Digest, annotations map[string]string) (v1.Image, error) {
	layer, err := newTar(locationsYAML(image.String()))
	if err != nil {
		return nil, err
	}
	record, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Author: "imgpkg", CreatedBy: "imgpkg"},
	})
	if err != nil {
		return nil, err
	}
	annotated, _ := mutate.Annotations(record, annotations).(v1.Image)
	return annotated, nil
}

// locationsYAML returns the content of the record's only file.
func locationsYAML(image string) []byte {
	return fmt.Appendf(
		nil,
		"---\napiVersion: %s\nimages:\n- image: %s\n  isBundle: false\nkind: %s\n",
		locationsAPIVersion,
		image,
		locationsKind,
	)
}

// tarLayer is an uncompressed layer in memory. go-containerregistry compresses it, as it does in imgpkg.
type tarLayer []byte

// newTar returns a layer with the record's file.
func newTar(content []byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	root := tar.Header{Typeflag: tar.TypeDir, Name: ".", Mode: 0o700}
	file := tar.Header{Typeflag: tar.TypeReg, Name: locationsFile, Mode: 0o600, Size: int64(len(content))}
	errs := []error{w.WriteHeader(&root), w.WriteHeader(&file)}
	_, err := w.Write(content)
	if err := errors.Join(append(errs, err, w.Close())...); err != nil {
		return nil, err
	}
	return partial.UncompressedToLayer(tarLayer(b.Bytes()))
}

// DiffID returns the digest of the uncompressed layer.
func (t tarLayer) DiffID() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(t))
	return h, err
}

// Uncompressed returns a reader of the layer.
func (t tarLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(t)), nil
}

// MediaType returns the media type of the layer after compression.
func (tarLayer) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }

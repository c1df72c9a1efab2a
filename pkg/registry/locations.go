package registry

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"go.yaml.in/yaml/v3"
)

// The locations record is an image of imgpkg's making: one layer with one file, which says where images were copied.
const (
	recordFile       = "image-locations.yml"
	recordAPIVersion = "imgpkg.carvel.dev/v1alpha1"
	recordKind       = "ImageLocations"

	// verifiedAnnotation, on a record's manifest, says of which manifest every layer was compared with its diff ID, by its
	// digest. It is this program's own; imgpkg leaves it out, and doesn't mind it.
	verifiedAnnotation = "com.github.charmhub-actions.upload-resource.verified"

	// maxNamed is how many images of a record are looked at.
	maxNamed = 8

	// maxRecord bounds a record's layer, packed and unpacked. One that names a single image has some 300 bytes.
	maxRecord = 64 << 10
)

// newRecord builds the record that names one image, with annotations of this program's own; nil for none. Authors, times and
// modes are those of imgpkg's own.
func newRecord(image name.Digest, annotations map[string]string) (v1.Image, error) {
	layer, err := newTar(recordYAML(image.String()))
	if err != nil {
		return nil, err
	}
	record, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Author: "imgpkg", CreatedBy: "imgpkg"},
	})
	if err != nil || annotations == nil {
		return record, err
	}
	annotated, _ := mutate.Annotations(record, annotations).(v1.Image)
	return annotated, nil
}

func recordYAML(image string) []byte {
	return fmt.Appendf(nil, "---\napiVersion: %s\nimages:\n- image: %s\n  isBundle: false\nkind: %s\n", recordAPIVersion, image, recordKind)
}

// tarLayer is an uncompressed layer in memory; go-containerregistry compresses it, as it does for imgpkg.
type tarLayer []byte

func newTar(content []byte) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	root := tar.Header{Typeflag: tar.TypeDir, Name: ".", Mode: 0o700}
	file := tar.Header{Typeflag: tar.TypeReg, Name: recordFile, Mode: 0o600, Size: int64(len(content))}
	errs := []error{w.WriteHeader(&root), w.WriteHeader(&file)}
	_, err := w.Write(content)
	if err := errors.Join(append(errs, err, w.Close())...); err != nil {
		return nil, err
	}
	return partial.UncompressedToLayer(tarLayer(b.Bytes()))
}

func (t tarLayer) DiffID() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(t))
	return h, err
}

func (t tarLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(t)), nil
}

func (tarLayer) MediaType() (types.MediaType, error) { return types.DockerLayer, nil }

// parseRecord returns the digests of the images that a record's layer names in that repository, maxNamed at most.
func parseRecord(packed []byte, repo name.Repository) ([]v1.Hash, error) {
	content, err := unpackRecord(packed)
	if err != nil {
		return nil, err
	}
	return parseLocations(content, repo)
}

func parseLocations(content []byte, repo name.Repository) (named []v1.Hash, err error) {
	var l struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Images     []struct{ Image string }
	}
	if err := yaml.Unmarshal(content, &l); err != nil {
		return nil, err
	}
	if l.APIVersion != recordAPIVersion || l.Kind != recordKind {
		return nil, fmt.Errorf("the record is a %q of %q", l.Kind, l.APIVersion)
	}
	for _, image := range l.Images {
		d, err := name.NewDigest(image.Image, name.StrictValidation)
		if err != nil || d.Context() != repo || len(named) == maxNamed {
			continue
		}
		if digest, err := v1.NewHash(d.DigestStr()); err == nil {
			named = append(named, digest)
		}
	}
	if len(named) == 0 {
		return nil, fmt.Errorf("the record names no image of %s", repo)
	}
	return named, nil
}

// unpackRecord returns the content of the record's file.
func unpackRecord(packed []byte) ([]byte, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	files := tar.NewReader(http.MaxBytesReader(nil, unzipped, maxRecord))
	for {
		header, err := files.Next()
		if err != nil {
			return nil, fmt.Errorf("looking for %s in the record: %w", recordFile, err)
		}
		if path.Base(header.Name) == recordFile {
			return io.ReadAll(files)
		}
	}
}

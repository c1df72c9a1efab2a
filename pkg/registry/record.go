package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"sigs.k8s.io/yaml"
)

// The locations record is an image of imgpkg's making: one layer with one file, which says where images were copied.
const (
	recordFile       = "image-locations.yml"
	recordAPIVersion = "imgpkg.carvel.dev/v1alpha1"
	recordKind       = "ImageLocations"

	// maxRecord bounds a record's layer, packed and unpacked. One that names a single image has some 300 bytes.
	maxRecord = 64 << 10
)

type locations struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Images     []location `json:"images"`
}

type location struct {
	Image    string `json:"image"`
	IsBundle bool   `json:"isBundle"`
}

// Record writes beside the image remote of this repository that it is where source went, for Locate to read. The
// record is a cache: a registry that refuses it (immutable tags, say) does no harm, and the error is for the debug
// log. Nothing is written when the record that Locate read says so already. The same record has the same bytes.
func (r *Repository) Record(ctx context.Context, source, remote v1.Hash) error {
	if r.recordedAs(source) == remote {
		return nil
	}
	record, err := newRecord(r.Reference(remote))
	if err == nil {
		err = r.pushAs(ctx, recordTag(source), record)
	}
	if err != nil {
		return fmt.Errorf("writing the locations record of %s: %w", source, err)
	}
	r.setRecorded(source, remote)
	return nil
}

// Tag makes a tag of this repository name the manifest of that digest, which the repository must hold. Nothing is
// sent when it was seen in this run that the tag does so already.
func (r *Repository) Tag(ctx context.Context, tag string, digest v1.Hash) error {
	if r.tagged(tag) == digest {
		return nil
	}
	m, err := r.fetch(ctx, digest)
	if err != nil {
		return fmt.Errorf("tagging %s as %q: %w", digest, tag, err)
	}
	return r.put(ctx, tag, digest, m)
}

// fetch returns a manifest's bytes, from this run's memory if it can.
func (r *Repository) fetch(ctx context.Context, digest v1.Hash) (stored, error) {
	r.mu.Lock()
	m, found := r.stored[digest]
	r.mu.Unlock()
	if found {
		return m, nil
	}
	d, found, err := r.Manifest(ctx, digest)
	if err != nil {
		return stored{}, err
	}
	if !found {
		return stored{}, fmt.Errorf("%s has no such manifest", r.name)
	}
	return stored{d.MediaType, d.Manifest}, nil
}

// recordTag is where imgpkg keeps the record of a source.
func recordTag(source v1.Hash) string {
	return source.Algorithm + "-" + source.Hex + ".image-locations.imgpkg"
}

// newRecord builds the record that names one image. Authors, times and modes are those of imgpkg's own.
func newRecord(image string) (v1.Image, error) {
	content, err := recordYAML(image)
	if err != nil {
		return nil, err
	}
	layer, err := newTar(content)
	if err != nil {
		return nil, err
	}
	return mutate.Append(empty.Image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Author: "imgpkg", CreatedBy: "imgpkg"},
	})
}

func recordYAML(image string) ([]byte, error) {
	body, err := yaml.Marshal(locations{recordAPIVersion, recordKind, []location{{Image: image}}})
	return append([]byte("---\n"), body...), err
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

// readRecord returns the digest that the record of source names in this repository.
func (r *Repository) readRecord(ctx context.Context, source v1.Hash) (v1.Hash, error) {
	d, found, err := r.get(ctx, r.name.Tag(recordTag(source)))
	if err != nil || !found {
		return v1.Hash{}, errors.Join(err, fmt.Errorf("found: %t", found))
	}
	m, err := imageManifest(d)
	if err != nil {
		return v1.Hash{}, err
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != types.DockerLayer {
		return v1.Hash{}, errors.New("it isn't one Docker layer")
	}
	packed, err := r.readBlob(ctx, m.Layers[0], maxRecord)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := parseRecord(packed, r.name)
	if err == nil {
		r.setRecorded(source, digest)
	}
	return digest, err
}

// parseRecord returns the digest of the first image that a record's layer names in that repository.
func parseRecord(packed []byte, repo name.Repository) (v1.Hash, error) {
	content, err := unpackRecord(packed)
	if err != nil {
		return v1.Hash{}, err
	}
	return parseLocations(content, repo)
}

func parseLocations(content []byte, repo name.Repository) (v1.Hash, error) {
	var l locations
	if err := yaml.Unmarshal(content, &l); err != nil {
		return v1.Hash{}, err
	}
	if l.APIVersion != recordAPIVersion || l.Kind != recordKind {
		return v1.Hash{}, fmt.Errorf("it is a %q of %q", l.Kind, l.APIVersion)
	}
	for _, image := range l.Images {
		if d, err := name.NewDigest(image.Image, name.StrictValidation); err == nil && d.Context() == repo {
			return v1.NewHash(d.DigestStr())
		}
	}
	return v1.Hash{}, fmt.Errorf("it names no image of %s", repo)
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
			return nil, fmt.Errorf("looking for %s in it: %w", recordFile, err)
		}
		if path.Base(header.Name) == recordFile {
			return io.ReadAll(files)
		}
	}
}

func (r *Repository) recordedAs(source v1.Hash) v1.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recorded[source]
}

func (r *Repository) setRecorded(source, remote v1.Hash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded[source] = remote
}

// namedByRecords returns what the records that were read name, in the order of their sources.
func (r *Repository) namedByRecords() []v1.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	bySource := func(a, b v1.Hash) int { return strings.Compare(a.String(), b.String()) }
	var named []v1.Hash
	for _, source := range slices.SortedFunc(maps.Keys(r.recorded), bySource) {
		named = append(named, r.recorded[source])
	}
	return named
}

// tagged returns the digest that a tag was seen to name, zero when it wasn't asked for.
func (r *Repository) tagged(tag string) v1.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.seen[tag]; d != nil {
		return d.Digest
	}
	return v1.Hash{}
}

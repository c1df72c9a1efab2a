package harness

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Archive writes what is in an archive. It must hold no more in memory than the
// archive's reader may.
type Archive struct {
	*tar.Writer
	T     *testing.T
	Added map[string]types.MediaType // of blobs, by digest
}

// Add adds a regular file.
func (f Archive) Add(name string, content []byte) {
	f.T.Helper()
	f.Header(tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(content))})
	if _, err := f.Write(content); err != nil {
		f.T.Fatal(err)
	}
}

// Link adds a link of a kind of package tar's, such as TypeSymlink.
func (f Archive) Link(kind byte, name, target string) {
	f.T.Helper()
	f.Header(tar.Header{Name: name, Typeflag: kind, Linkname: target})
}

// Header adds an entry's header with mode 0644; its content is the caller's to write.
func (f Archive) Header(header tar.Header) {
	f.T.Helper()
	header.Mode = 0o644
	if err := f.WriteHeader(&header); err != nil {
		f.T.Fatal(err)
	}
}

// Zeros adds a file of so many bytes that are all zero.
func (f Archive) Zeros(name string, size int64) {
	f.T.Helper()
	f.Header(tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size})
	if _, err := io.CopyN(f, Zeros{}, size); err != nil {
		f.T.Fatal(err)
	}
}

// Zeros is an endless stream of zero bytes.
type Zeros struct{}

// Read fills p with zero bytes. It never fails.
func (Zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Blob adds content to an OCI layout and returns its descriptor.
func (f Archive) Blob(mediaType types.MediaType, content []byte) Descriptor {
	f.T.Helper()
	digest := DigestOf(content)
	if _, ok := f.Added[digest]; !ok {
		f.Added[digest] = mediaType
		f.Add("blobs/sha256/"+strings.TrimPrefix(digest, "sha256:"), content)
	}
	return Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(content))}
}

// Descriptor is one of OCI, with any size.
type Descriptor struct {
	MediaType    types.MediaType   `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Platform     map[string]string `json:"platform,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Data         []byte            `json:"data,omitempty"`
}

// Object is an object of JSON.
type Object = map[string]any

// Index adds an index of children, or an image of a config and a layer.
func (f Archive) Index(children ...Descriptor) Descriptor {
	f.T.Helper()
	return f.Blob(types.OCIImageIndex,
		Marshal(f.T, Object{"schemaVersion": 2, "mediaType": types.OCIImageIndex, "manifests": children}))
}

// Image adds an image that is as it should be, but for what change does to its
// manifest.
func (f Archive) Image(change func(manifest Object, layer *Descriptor)) Descriptor {
	f.T.Helper()
	layer := []byte("a layer")
	config := f.Blob(types.OCIConfigJSON, Marshal(f.T, Object{
		"os": "linux", "architecture": "amd64", "rootfs": Object{"type": "layers", "diff_ids": []string{DigestOf(layer)}},
	}))
	described := f.Blob(types.OCIUncompressedLayer, layer)
	manifest := Object{"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "config": config}
	change(manifest, &described)
	manifest["layers"] = []Descriptor{described}
	return f.Blob(types.OCIManifestSchema1, Marshal(f.T, manifest))
}

// LayoutIndex adds index.json, which makes a layout.
func (f Archive) LayoutIndex(children ...Descriptor) {
	f.T.Helper()
	f.Add("index.json", Marshal(f.T, Object{"schemaVersion": 2, "manifests": children}))
}

// SavedImage adds manifest.json and a config for layers, which makes an archive of
// `docker save`.
func (f Archive) SavedImage(diffIDs []string, layers ...string) {
	f.T.Helper()
	f.Add("config.json", Marshal(f.T, Object{
		"os": "linux", "architecture": "amd64", "rootfs": Object{"type": "layers", "diff_ids": diffIDs},
	}))
	f.SavedContents("config.json", layers...)
}

// SavedContents adds manifest.json, which lists the config and the layers of an
// archive of `docker save`.
func (f Archive) SavedContents(config string, layers ...string) {
	f.T.Helper()
	f.Add("manifest.json", Marshal(f.T, []Object{{"Config": config, "RepoTags": nil, "Layers": layers}}))
}

// Marshal returns a value as JSON.
func Marshal(t *testing.T, value any) []byte {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// WriteTar writes an archive, compressed as its name says.
func WriteTar(t *testing.T, name string, fill func(Archive)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	closers := []io.Closer{file}
	var out io.Writer = file
	switch filepath.Ext(name) {
	case ".gz":
		zip := gzip.NewWriter(out)
		out, closers = zip, append(closers, zip)
	case ".zst":
		zip, err := zstd.NewWriter(out)
		if err != nil {
			t.Fatal(err)
		}
		out, closers = zip, append(closers, zip)
	}
	w := tar.NewWriter(out)
	fill(Archive{w, t, map[string]types.MediaType{}})
	for _, c := range slices.Backward(append(closers, w)) {
		if err := c.Close(); err != nil && !strings.Contains(err.Error(), "missed writing") {
			t.Fatal(err)
		}
	}
	return path
}

// Several adds an index of n images that are as they should be, but for what change does to each.
func (f Archive) Several(n int, change func(n int, manifest Object, layer *Descriptor)) Descriptor {
	f.T.Helper()
	all := make([]Descriptor, n)
	for n := range all {
		all[n] = f.Image(func(manifest Object, layer *Descriptor) { change(n, manifest, layer) })
		all[n].Platform = map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
	}
	return f.Index(all...)
}

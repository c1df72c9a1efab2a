package imagetest

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Layout is an OCI image layout in memory: the content of its files by name.
type Layout map[string][]byte

// NewLayout returns an empty layout.
func NewLayout() Layout {
	return Layout{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
}

// Blob adds a blob and returns its descriptor.
func (l Layout) Blob(mediaType types.MediaType, content []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: Sum(content), Size: int64(len(content))}
	l[BlobName(d.Digest)] = content
	return d
}

// BlobName returns the file name of a blob in a layout.
func BlobName(digest v1.Hash) string { return "blobs/sha256/" + digest.Hex }

// Sum returns the SHA-256 digest of content.
func Sum(content []byte) v1.Hash {
	digest := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest[:])}
}

// Image adds an image for a platform such as linux/arm64/v8 and returns its descriptor. Without layers it gets one
// layer.
func (l Layout) Image(platform string, layers ...v1.Descriptor) v1.Descriptor {
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		panic(err)
	}
	if layers == nil {
		layers = []v1.Descriptor{l.Blob(types.OCILayer, []byte("layer for "+platform))}
	}
	stated := v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
	for _, layer := range layers {
		stated.RootFS.DiffIDs = append(stated.RootFS.DiffIDs, layer.Digest)
	}
	config := l.Blob(types.OCIConfigJSON, JSON(stated))
	return l.Blob(types.OCIManifestSchema1, JSON(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: layers,
	}))
}

// Index adds an index and returns its descriptor.
func (l Layout) Index(children ...v1.Descriptor) v1.Descriptor {
	return l.Blob(
		types.OCIImageIndex,
		JSON(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: children}),
	)
}

// Of adds an index.json that lists the given manifests, and returns the layout.
func (l Layout) Of(held ...v1.Descriptor) Layout {
	l["index.json"] = JSON(v1.IndexManifest{SchemaVersion: 2, Manifests: held})
	return l
}

// Tar returns the layout as a tar archive.
func (l Layout) Tar() []byte {
	var entries []Entry
	for _, name := range slices.Sorted(maps.Keys(l)) {
		entries = append(entries, Entry{Name: name, Content: l[name]})
	}
	return Tar(entries...)
}

// Folder writes the layout to a temporary folder and returns the folder's path.
func (l Layout) Folder(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, content := range l {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// WithPlatform returns a copy of d for a platform such as linux/arm64.
func WithPlatform(d v1.Descriptor, platform string) v1.Descriptor {
	d.Platform, _ = v1.ParsePlatform(platform)
	return d
}

// Annotate returns a copy of d with one annotation and no others.
func Annotate(d v1.Descriptor, key, value string) v1.Descriptor {
	d.Annotations = map[string]string{key: value}
	return d
}

// WantError fails the test unless the text of err contains all parts of want, which are separated by vertical bars.
func WantError(tb testing.TB, err error, want string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want %q", want)
	}
	for part := range strings.SplitSeq(want, "|") {
		if !strings.Contains(err.Error(), part) {
			tb.Errorf("error %q\ndoes not say %q", err, part)
		}
	}
}

package image

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

const (
	ociManifest = types.OCIManifestSchema1
	ociIndex    = types.OCIImageIndex
	ociConfig   = types.OCIConfigJSON
)

func testOpener() *Opener { return NewOpener(zap.NewNop(), anonymous, workspace.Workspace{}) }

// ociFiles is an OCI layout in the making: content by file name.
type ociFiles map[string][]byte

func newLayout() ociFiles {
	return ociFiles{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
}

// blob adds content and returns its descriptor.
func (l ociFiles) blob(mediaType types.MediaType, content []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: sum(content), Size: int64(len(content))}
	l[blobName(d.Digest)] = content
	return d
}

func blobName(digest v1.Hash) string { return "blobs/sha256/" + digest.Hex }

// image adds an image of one layer for a platform such as linux/arm64/v8.
func (l ociFiles) image(platform string, layers ...v1.Descriptor) v1.Descriptor {
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		panic(err)
	}
	if layers == nil {
		layers = []v1.Descriptor{l.blob(types.OCILayer, []byte("layer for "+platform))}
	}
	stated := v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion}
	for _, layer := range layers {
		stated.RootFS.DiffIDs = append(stated.RootFS.DiffIDs, layer.Digest)
	}
	config := l.blob(ociConfig, toJSON(stated))
	return l.blob(ociManifest, toJSON(v1.Manifest{SchemaVersion: 2, MediaType: ociManifest, Config: config, Layers: layers}))
}

// index adds an index of images.
func (l ociFiles) index(children ...v1.Descriptor) v1.Descriptor {
	return l.blob(ociIndex, toJSON(v1.IndexManifest{SchemaVersion: 2, MediaType: ociIndex, Manifests: children}))
}

// of names what the layout holds, in its index.json.
func (l ociFiles) of(held ...v1.Descriptor) ociFiles {
	l["index.json"] = toJSON(v1.IndexManifest{SchemaVersion: 2, Manifests: held})
	return l
}

func (l ociFiles) tar() []byte {
	var entries []entry
	for _, name := range slices.Sorted(maps.Keys(l)) {
		entries = append(entries, entry{name: name, content: l[name]})
	}
	return tarOf(entries...)
}

func (l ociFiles) folder(tb testing.TB) string {
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

// open returns what the layout holds.
func (l ociFiles) open(tb testing.TB) Manifest {
	tb.Helper()
	src, err := openText(tb, "oci:"+l.folder(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return src.Addressed
}

func withPlatform(d v1.Descriptor, platform string) v1.Descriptor {
	d.Platform, _ = v1.ParsePlatform(platform)
	return d
}

func annotated(d v1.Descriptor, key, value string) v1.Descriptor {
	d.Annotations = map[string]string{key: value}
	return d
}

// wantError fails the test unless err says all of want, which a vertical bar
// separates.
func wantError(tb testing.TB, err error, want string) {
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

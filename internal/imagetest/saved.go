// Package imagetest makes images for tests in every form in which tools store and save them.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// Entry is a file in a tar archive, or a symbolic link.
type Entry struct {
	Name, Link string
	Content    []byte
}

// Tar returns a tar archive of the entries.
func Tar(entries ...Entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		header := &tar.Header{Name: e.Name, Mode: 0o644, Size: int64(len(e.Content)), Typeflag: tar.TypeReg}
		if e.Link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.Link
		}
		if w.WriteHeader(header) != nil {
			panic("impossible entry " + e.Name)
		}
		_, _ = w.Write(e.Content)
	}
	_ = w.Close()
	return out.Bytes()
}

// Gzip returns content compressed with gzip.
func Gzip(content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(content)
	_ = w.Close()
	return out.Bytes()
}

// Zstd returns content compressed with zstd.
func Zstd(content []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(content, nil)
}

// JSON returns v as JSON. It panics if v can't be encoded.
func JSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// Prose returns size bytes of text that compresses about as well as programs. The same seed gives the same text.
func Prose(seed uint64, size int) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = make([]byte, 2+random.IntN(10))
		for j := range words[i] {
			words[i][j] = byte(random.UintN(256))
		}
	}
	out := make([]byte, 0, size+12)
	for len(out) < size {
		out = append(out, words[random.IntN(len(words))]...)
	}
	return out[:size]
}

// Saved is an image as engines store it. Its methods write it in each format in which tools save images.
type Saved struct {
	Layers  [][]byte
	DiffIDs []v1.Hash
	Config  []byte
}

// NewSaved returns an image with uncompressed layers.
func NewSaved(layers ...[]byte) Saved {
	s := Saved{Layers: layers}
	for _, layer := range layers {
		s.DiffIDs = append(s.DiffIDs, Sum(layer))
	}
	s.Config = JSON(map[string]any{
		"architecture": "arm64", "variant": "v8", "os": "linux", "config": map[string]any{"Cmd": []string{"/a", "<&>"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": s.DiffIDs},
	})
	return s
}

// Example returns an image that has a layer of several compressed blocks, and one layer twice.
func Example() Saved {
	small := Tar(Entry{Name: "small", Content: []byte("small\n")})
	return NewSaved(Tar(Entry{Name: "big", Content: Prose(1, 3<<20)}), small, small)
}

// ID returns the digest of the config, which is the image ID.
func (s Saved) ID() v1.Hash { return Sum(s.Config) }

// Contents returns manifest.json, which lists the contents of a saved image.
func (s Saved) Contents(config string, tags []string, layers []string) Entry {
	return Entry{
		Name:    "manifest.json",
		Content: JSON([]tarball.Descriptor{{Config: config, RepoTags: tags, Layers: layers}}),
	}
}

// DockerOld returns the files that engines up to version 24 save: layers by v1 ID, a repeated layer as a link, then the
// config and manifest.json.
func (s Saved) DockerOld() []Entry {
	var all []Entry
	var names []string
	first := map[v1.Hash]string{}
	parent := ""
	var chain []digest.Digest
	for _, diffID := range s.DiffIDs {
		chain = append(chain, digest.Digest(diffID.String()))
	}
	for i, chainID := range identity.ChainIDs(chain) {
		doc := map[string]any{"created": "1970-01-01T00:00:00Z", "layer_id": chainID}
		if parent != "" {
			doc["parent"] = "sha256:" + parent
		}
		id := Sum(JSON(doc)).Hex
		delete(doc, "layer_id")
		doc["id"], doc["os"] = id, "linux"
		if parent != "" {
			doc["parent"] = parent
		}
		layer := Entry{Name: id + "/layer.tar", Content: s.Layers[i]}
		if target, ok := first[s.DiffIDs[i]]; ok {
			layer = Entry{Name: layer.Name, Link: "../" + target}
		} else {
			first[s.DiffIDs[i]] = layer.Name
		}
		all = append(
			all,
			Entry{Name: id + "/VERSION", Content: []byte("1.0")},
			Entry{Name: id + "/json", Content: JSON(doc)},
			layer,
		)
		names = append(names, layer.Name)
		parent = id
	}
	config := s.ID().Hex + ".json"
	return append(all, Entry{Name: config, Content: s.Config}, s.Contents(config, nil, names))
}

// DockerNew returns the files that engines since version 25 save, which are also an OCI layout.
func (s Saved) DockerNew() []Entry {
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: v1.Descriptor{
		MediaType: types.OCIConfigJSON, Digest: s.ID(), Size: int64(len(s.Config)),
	}}
	all := []Entry{{Name: "blobs/sha256/" + s.ID().Hex, Content: s.Config}}
	var names []string
	for _, layer := range unique(s.Layers) {
		all = append(all, Entry{Name: "blobs/sha256/" + Sum(layer).Hex, Content: layer})
	}
	for i, diffID := range s.DiffIDs {
		names = append(names, "blobs/sha256/"+diffID.Hex)
		manifest.Layers = append(manifest.Layers, v1.Descriptor{
			MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: diffID, Size: int64(len(s.Layers[i])),
		})
	}
	raw := JSON(manifest)
	index := v1.IndexManifest{
		SchemaVersion: 2,
		Manifests:     []v1.Descriptor{{MediaType: types.OCIManifestSchema1, Digest: Sum(raw), Size: int64(len(raw))}},
	}
	return append(all, Entry{Name: "blobs/sha256/" + Sum(raw).Hex, Content: raw},
		Entry{Name: "index.json", Content: JSON(index)},
		s.Contents("blobs/sha256/"+s.ID().Hex, []string{"example:1"}, names),
		Entry{Name: "oci-layout", Content: []byte(`{"imageLayoutVersion":"1.0.0"}`)})
}

// Podman returns the files that `podman save` writes.
func (s Saved) Podman() []Entry {
	var all []Entry
	var names []string
	for i, layer := range s.Layers {
		name := Sum(layer).Hex + ".tar"
		if !containsLayer(s.Layers[:i], layer) {
			all = append(all, Entry{Name: name, Content: layer},
				Entry{Name: name[:60] + "/layer.tar", Link: "../" + name}, Entry{Name: name[:60] + "/json", Content: []byte("{}")})
		}
		names = append(names, name)
	}
	config := s.ID().Hex + ".json"
	return append(all, Entry{Name: config, Content: s.Config}, s.Contents(config, []string{}, names))
}

// Crane returns the files that `crane pull` writes, with layers compressed by compress.
func (s Saved) Crane(compress func([]byte) []byte) []Entry {
	all := []Entry{{Name: s.ID().String(), Content: s.Config}}
	var names []string
	for i, layer := range s.Layers {
		packed := compress(layer)
		name := Sum(packed).Hex + ".tar.gz"
		if !containsLayer(s.Layers[:i], layer) {
			all = append(all, Entry{Name: name, Content: packed})
		}
		names = append(names, name)
	}
	return append(all, s.Contents(s.ID().String(), []string{"example:i-was-a-digest"}, names))
}

// unique returns the layers without repetitions.
func unique(layers [][]byte) [][]byte {
	var all [][]byte
	for i, layer := range layers {
		if !containsLayer(layers[:i], layer) {
			all = append(all, layer)
		}
	}
	return all
}

// containsLayer reports whether layer is one of layers.
func containsLayer(layers [][]byte, layer []byte) bool {
	for _, other := range layers {
		if bytes.Equal(other, layer) {
			return true
		}
	}
	return false
}

// Export returns a function that opens the archive, as an engine would export it.
func Export(archive []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
}

// TempFile writes content to a temporary file and returns its path.
func TempFile(tb testing.TB, name string, content []byte) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

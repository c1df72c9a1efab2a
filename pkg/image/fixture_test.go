package image

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

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// entry is a file in a tar archive, or a symbolic link.
type entry struct {
	name, link string
	content    []byte
}

func tarOf(entries ...entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if e.link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		}
		if w.WriteHeader(header) != nil {
			panic("impossible entry " + e.name)
		}
		_, _ = w.Write(e.content)
	}
	_ = w.Close()
	return out.Bytes()
}

func gzipped(content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(content)
	_ = w.Close()
	return out.Bytes()
}

func zstandard(content []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(content, nil)
}

func toJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// prose returns text that compresses about as well as programs do.
func prose(seed uint64, size int) []byte {
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

// saved is an image as engines keep it, with writers for each way in which
// tools save it.
type saved struct {
	layers  [][]byte
	diffIDs []v1.Hash
	config  []byte
}

func newSaved(layers ...[]byte) saved {
	s := saved{layers: layers}
	for _, layer := range layers {
		s.diffIDs = append(s.diffIDs, sum(layer))
	}
	s.config = toJSON(map[string]any{
		"architecture": "arm64", "variant": "v8", "os": "linux", "config": map[string]any{"Cmd": []string{"/a", "<&>"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": s.diffIDs},
	})
	return s
}

// example has a layer of several compressed blocks, and the same layer twice.
func example() saved {
	small := tarOf(entry{name: "small", content: []byte("small\n")})
	return newSaved(tarOf(entry{name: "big", content: prose(1, 3<<20)}), small, small)
}

func (s saved) id() v1.Hash { return sum(s.config) }

func (s saved) toc(config string, tags []string, layers []string) entry {
	return entry{name: "manifest.json", content: toJSON([]savedImage{{Config: config, RepoTags: tags, Layers: layers}})}
}

// dockerOld writes what engines up to 24 save: layers below their v1 IDs, a
// repeated one as a link, the config and the contents last.
func (s saved) dockerOld() []entry {
	var all []entry
	var names []string
	first := map[v1.Hash]string{}
	parent := ""
	for i, chainID := range chainIDs(s.diffIDs) {
		doc := map[string]any{"created": "1970-01-01T00:00:00Z", "layer_id": chainID}
		if parent != "" {
			doc["parent"] = "sha256:" + parent
		}
		id := sum(toJSON(doc)).Hex
		delete(doc, "layer_id")
		doc["id"], doc["os"] = id, "linux"
		if parent != "" {
			doc["parent"] = parent
		}
		layer := entry{name: id + "/layer.tar", content: s.layers[i]}
		if target, ok := first[s.diffIDs[i]]; ok {
			layer = entry{name: layer.name, link: "../" + target}
		} else {
			first[s.diffIDs[i]] = layer.name
		}
		all = append(all, entry{name: id + "/VERSION", content: []byte("1.0")}, entry{name: id + "/json", content: toJSON(doc)}, layer)
		names = append(names, layer.name)
		parent = id
	}
	config := s.id().Hex + ".json"
	return append(all, entry{name: config, content: s.config}, s.toc(config, nil, names))
}

// dockerNew writes what engines from 25 on save: an OCI layout as well.
func (s saved) dockerNew() []entry {
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: ociManifest, Config: v1.Descriptor{
		MediaType: ociConfig, Digest: s.id(), Size: int64(len(s.config)),
	}}
	all := []entry{{name: "blobs/sha256/" + s.id().Hex, content: s.config}}
	var names []string
	for _, layer := range unique(s.layers) {
		all = append(all, entry{name: "blobs/sha256/" + sum(layer).Hex, content: layer})
	}
	for i, diffID := range s.diffIDs {
		names = append(names, "blobs/sha256/"+diffID.Hex)
		manifest.Layers = append(manifest.Layers, v1.Descriptor{
			MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: diffID, Size: int64(len(s.layers[i])),
		})
	}
	raw := toJSON(manifest)
	index := v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{{MediaType: ociManifest, Digest: sum(raw), Size: int64(len(raw))}}}
	return append(all, entry{name: "blobs/sha256/" + sum(raw).Hex, content: raw},
		entry{name: "index.json", content: toJSON(index)},
		s.toc("blobs/sha256/"+s.id().Hex, []string{"example:1"}, names),
		entry{name: "oci-layout", content: []byte(`{"imageLayoutVersion":"1.0.0"}`)})
}

// podman writes what `podman save` does.
func (s saved) podman() []entry {
	var all []entry
	var names []string
	for i, layer := range s.layers {
		name := sum(layer).Hex + ".tar"
		if !containsLayer(s.layers[:i], layer) {
			all = append(all, entry{name: name, content: layer},
				entry{name: name[:60] + "/layer.tar", link: "../" + name}, entry{name: name[:60] + "/json", content: []byte("{}")})
		}
		names = append(names, name)
	}
	config := s.id().Hex + ".json"
	return append(all, entry{name: config, content: s.config}, s.toc(config, []string{}, names))
}

// crane writes what `crane pull` does, with the compression given.
func (s saved) crane(compress func([]byte) []byte) []entry {
	all := []entry{{name: s.id().String(), content: s.config}}
	var names []string
	for i, layer := range s.layers {
		packed := compress(layer)
		name := sum(packed).Hex + ".tar.gz"
		if !containsLayer(s.layers[:i], layer) {
			all = append(all, entry{name: name, content: packed})
		}
		names = append(names, name)
	}
	return append(all, s.toc(s.id().String(), []string{"example:i-was-a-digest"}, names))
}

func unique(layers [][]byte) [][]byte {
	var all [][]byte
	for i, layer := range layers {
		if !containsLayer(layers[:i], layer) {
			all = append(all, layer)
		}
	}
	return all
}

func containsLayer(layers [][]byte, layer []byte) bool {
	for _, other := range layers {
		if bytes.Equal(other, layer) {
			return true
		}
	}
	return false
}

// exportedBy returns the image as an engine describes it, whose export is the
// archive.
func (s saved) exportedBy(archive []byte) *Unpacked {
	return &Unpacked{ID: s.id(), DiffIDs: s.diffIDs, open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive)), nil
	}}
}

// tempFile writes content to a file, and returns its path.
func tempFile(tb testing.TB, name string, content []byte) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// openText opens a reference that needs no network.
func openText(tb testing.TB, text string) (*Source, error) {
	tb.Helper()
	ref, err := Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	src, err := testOpener().Open(tb.Context(), ref)
	if err == nil {
		tb.Cleanup(func() { _ = src.Close() })
	}
	return src, err
}

func openArchive(tb testing.TB, transport, selector string, archive []byte) (*Source, error) {
	tb.Helper()
	return openText(tb, transport+tempFile(tb, "image.tar", archive)+selector)
}

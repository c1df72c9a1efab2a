package image

import (
	"io"
	"testing"

	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// BenchmarkPack packs a layer that compresses to about half, as programs do.
func BenchmarkPack(b *testing.B) {
	image := newSaved(tarOf(entry{name: "layer", content: prose(1, 64<<20)}))
	u := image.exportedBy(tarOf(image.dockerNew()...))
	dir := b.TempDir()
	b.SetBytes(int64(len(image.layers[0])))
	b.ResetTimer()
	for b.Loop() {
		packed, err := Pack(b.Context(), u, PackOptions{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		manifest, err := packed.Manifest()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(manifest.Layers[0].Size)/float64(len(image.layers[0])), "compressed/plain")
		_ = packed.Close()
	}
}

// BenchmarkDecompress reads a compressed archive as Open does.
func BenchmarkDecompress(b *testing.B) {
	plain := prose(1, 64<<20)
	file, err := openTar(workspace.Workspace{}, tempFile(b, "archive", gzipped(plain)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = file.Close() })
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		content, err := file.open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			b.Fatal(err)
		}
		_ = content.Close()
	}
}

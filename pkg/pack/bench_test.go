package pack_test

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
)

// BenchmarkPack packs a layer that compresses to about half, as programs do.
func BenchmarkPack(b *testing.B) {
	example := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "layer", Content: imagetest.Prose(1, 64<<20)}))
	u := uncompressed(example, imagetest.Tar(example.DockerNew()...))
	b.Setenv("TMPDIR", b.TempDir())
	for _, compression := range []pack.Compression{pack.Gzip, pack.Zstd} {
		b.Run(string(compression), func(b *testing.B) {
			b.SetBytes(int64(len(example.Layers[0])))
			for b.Loop() {
				packed, err := pack.Image(b.Context(), u, pack.Options{Compression: compression})
				if err != nil {
					b.Fatal(err)
				}
				manifest, err := packed.Manifest()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(manifest.Layers[0].Size)/float64(len(example.Layers[0])), "compressed/plain")
				_ = packed.Close()
			}
		})
	}
}

package source

import (
	"io"
	"testing"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// BenchmarkDecompress reads a compressed archive as Open does.
func BenchmarkDecompress(b *testing.B) {
	plain := imagetest.Prose(1, 64<<20)
	file, err := openTar(workspace.Workspace{}, imagetest.TempFile(b, "archive", imagetest.Gzip(plain)))
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

package compression

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

// TestDecompress checks content and reported compression for gzip and zstd, and for content that isn't compressed.
func TestDecompress(t *testing.T) {
	content := imagetest.Prose(3, 300_000)
	for name, test := range map[string]struct {
		stream     []byte
		compressed bool
	}{
		"plain":      {content, false},
		"gzip":       {imagetest.Gzip(content), true},
		"gzip twice": {append(imagetest.Gzip(content[:1000]), imagetest.Gzip(content[1000:])...), true},
		"zstd":       {imagetest.Zstd(content), true},
	} {
		out, compressed, err := new(Bounds).Decompress(bytes.NewReader(test.stream))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(out)
		if err != nil || compressed != test.compressed || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, compressed: %t, %v", name, len(got), compressed, err)
		}
		_ = out.Close()
	}
}

// TestDecompressShort checks content that is shorter than the formats' magic numbers.
func TestDecompressShort(t *testing.T) {
	for _, content := range []string{"", "a", "\x1f\x8b"} {
		out, compressed, err := new(Bounds).Decompress(bytes.NewReader([]byte(content)))
		if err != nil || compressed {
			t.Fatalf("%q: compressed: %t, %v", content, compressed, err)
		}
		if got, err := io.ReadAll(out); err != nil || string(got) != content {
			t.Errorf("%q became %q, %v", content, got, err)
		}
	}
}

// TestDecompressTarNamedLikeCompressed checks that a tar archive isn't taken for a compressed stream because of its
// first file's name.
func TestDecompressTarNamedLikeCompressed(t *testing.T) {
	for _, magic := range []string{"BZh9 notes", "BZh", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\xfd7zXZ"} {
		content := imagetest.Tar(imagetest.Entry{Name: magic, Content: []byte("content")})
		if !bytes.HasPrefix(content, []byte(magic)) {
			continue // the tar writer puts a PAX header before a name that isn't UTF-8
		}
		out, compressed, err := new(Bounds).Decompress(bytes.NewReader(content))
		if err != nil || compressed {
			t.Errorf("%q: compressed: %t, %v", magic, compressed, err)
			continue
		}
		if got, err := io.ReadAll(out); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%q became %d bytes, %v", magic, len(got), err)
		}
	}
}

// TestDecompressLargeWindow reads what zstd --long=27 writes.
func TestDecompressLargeWindow(t *testing.T) {
	if _, err := decompressAll(zstdWithWindow(t, 128<<20)); !errors.Is(err, ErrZstdWindow) {
		t.Errorf("error %v, want %v", err, ErrZstdWindow)
	}
}

// TestDecompressRefusesBombs checks that both the size and the ratio must be exceeded.
func TestDecompressRefusesBombs(t *testing.T) {
	const allowed = 256 << 10
	for name, test := range map[string]struct {
		content []byte
		bomb    bool
	}{
		"small and empty":      {make([]byte, allowed), false},
		"large and full":       {imagetest.Prose(4, 8*allowed), false},
		"large and empty":      {make([]byte, 8*allowed), true},
		"large and half empty": {append(imagetest.Prose(5, allowed), make([]byte, 3*allowed)...), false},
	} {
		for format, compress := range map[string]func([]byte) []byte{"gzip": imagetest.Gzip, "zstd": imagetest.Zstd} {
			bounds := &Bounds{allowed: allowed}
			out, _, err := bounds.Decompress(bytes.NewReader(compress(test.content)))
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, out)
			if test.bomb != errors.Is(err, errBomb) || !test.bomb && err != nil {
				t.Errorf("%s, %s: after %d bytes: %v", name, format, n, err)
			}
			if test.bomb && n > 2*allowed {
				t.Errorf("%s, %s: %d bytes were let through", name, format, n)
			}
			_ = out.Close()
		}
	}
}

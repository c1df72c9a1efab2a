package compression

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/pkg/internal/imagetest"
)

func TestDecompress(t *testing.T) {
	content := imagetest.Prose(3, 300_000)
	for name, try := range map[string]struct {
		packed     []byte
		compressed bool
	}{
		"plain":      {content, false},
		"gzip":       {imagetest.Gzip(content), true},
		"gzip twice": {append(imagetest.Gzip(content[:1000]), imagetest.Gzip(content[1000:])...), true},
		"zstd":       {imagetest.Zstd(content), true},
	} {
		out, compressed, err := new(Bounds).Decompress(bytes.NewReader(try.packed))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(out)
		if err != nil || compressed != try.compressed || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, compressed: %t, %v", name, len(got), compressed, err)
		}
		_ = out.Close()
	}
}

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

// TestDecompressTarNamedLikeCompressed: the name of a tar archive's first file may begin as a compressed stream does.
func TestDecompressTarNamedLikeCompressed(t *testing.T) {
	for _, magic := range []string{"BZh9 notes", "BZh", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "\xfd7zXZ"} {
		content := imagetest.Tar(imagetest.Entry{Name: magic, Content: []byte("content")})
		if !bytes.HasPrefix(content, []byte(magic)) {
			continue // a name that isn't UTF-8 is written behind another header
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

// TestDecompressLargeWindow: zstd --long=27.
func TestDecompressLargeWindow(t *testing.T) {
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithWindowSize(128<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(imagetest.Prose(6, 300_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, _, err := new(Bounds).Decompress(&packed)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	if _, err = io.Copy(io.Discard, out); !errors.Is(err, ErrWindow) {
		t.Errorf("error %v, want %v", err, ErrWindow)
	}
}

func TestDecompressRefusesBombs(t *testing.T) {
	const free = 256 << 10
	for name, try := range map[string]struct {
		content []byte
		bomb    bool
	}{
		"small and empty":      {make([]byte, free), false},
		"large and full":       {imagetest.Prose(4, 8*free), false},
		"large and empty":      {make([]byte, 8*free), true},
		"large and half empty": {append(imagetest.Prose(5, free), make([]byte, 3*free)...), false},
	} {
		for kind, pack := range map[string]func([]byte) []byte{"gzip": imagetest.Gzip, "zstd": imagetest.Zstd} {
			bounds := &Bounds{free: free}
			out, _, err := bounds.Decompress(bytes.NewReader(pack(try.content)))
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, out)
			if try.bomb != errors.Is(err, errBomb) || !try.bomb && err != nil {
				t.Errorf("%s, %s: after %d bytes: %v", name, kind, n, err)
			}
			if try.bomb && n > 2*free {
				t.Errorf("%s, %s: %d bytes were let through", name, kind, n)
			}
			_ = out.Close()
		}
	}
}

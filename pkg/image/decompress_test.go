package image

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestDecompress(t *testing.T) {
	content := prose(3, 300_000)
	for name, try := range map[string]struct {
		packed     []byte
		compressed bool
	}{
		"plain":      {content, false},
		"gzip":       {gzipped(content), true},
		"gzip twice": {append(gzipped(content[:1000]), gzipped(content[1000:])...), true},
		"zstd":       {zstandard(content), true},
	} {
		out, compressed, err := decompress(bytes.NewReader(try.packed))
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
		out, compressed, err := decompress(bytes.NewReader([]byte(content)))
		if err != nil || compressed {
			t.Fatalf("%q: compressed: %t, %v", content, compressed, err)
		}
		if got, err := io.ReadAll(out); err != nil || string(got) != content {
			t.Errorf("%q became %q, %v", content, got, err)
		}
	}
}

func TestDecompressRefusesBombs(t *testing.T) {
	const free = 256 << 10
	for name, try := range map[string]struct {
		content []byte
		bomb    bool
	}{
		"small and empty":      {make([]byte, free), false},
		"large and full":       {prose(4, 8*free), false},
		"large and empty":      {make([]byte, 8*free), true},
		"large and half empty": {append(prose(5, free), make([]byte, 3*free)...), false},
	} {
		for kind, pack := range map[string]func([]byte) []byte{"gzip": gzipped, "zstd": zstandard} {
			out, _, err := decompress(bytes.NewReader(pack(try.content)))
			if err != nil {
				t.Fatal(err)
			}
			out.(*expansion).free = free
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

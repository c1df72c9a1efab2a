package compression

import (
	"bufio"
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/containers/image/v5/pkg/compression"

	"github.com/charmhub-actions/upload-resource/pkg/internal/imagetest"
)

func xzipped(tb testing.TB, content []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := compression.CompressStream(&out, compression.Xz, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// asking returns an xz stream whose first block asks for a dictionary in the
// format's own code: 40 is 4 GiB, 30 is 64 MiB.
func asking(tb testing.TB, content []byte, code byte) []byte {
	tb.Helper()
	stream := xzipped(tb, content)
	header := stream[12 : 12+(int(stream[12])+1)*4]
	at := bytes.LastIndex(header[:len(header)-4], []byte{0x21, 1})
	header[at+2] = code
	sum := crc32.ChecksumIEEE(header[:len(header)-4])
	for i := range 4 {
		header[len(header)-4+i] = byte(sum >> (8 * i))
	}
	return stream
}

func copied(stream []byte) ([]byte, error) {
	var out bytes.Buffer
	err := copyXz(&out, bufio.NewReader(bytes.NewReader(stream)))
	return out.Bytes(), err
}

func TestXzIsCopied(t *testing.T) {
	one, two := xzipped(t, imagetest.Prose(1, 3<<20)), xzipped(t, []byte("two"))
	for name, stream := range map[string][]byte{
		"one stream": one, "nothing in it": xzipped(t, nil), "two streams": append(bytes.Clone(one), two...),
		"with padding": append(append(bytes.Clone(two), 0, 0, 0, 0), two...),
	} {
		if got, err := copied(stream); !errors.Is(err, io.EOF) || !bytes.Equal(got, stream) {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(stream), err)
		}
		content, compressed, err := new(Bounds).Decompress(bytes.NewReader(stream))
		if err != nil || !compressed {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = content.Close()
	}
}

func TestXzThatAsksForMemory(t *testing.T) {
	small, huge := xzipped(t, []byte("small")), asking(t, []byte("huge"), 40)
	for _, stream := range [][]byte{huge, append(bytes.Clone(small), huge...), asking(t, []byte("x"), 29)} {
		content, _, err := new(Bounds).Decompress(bytes.NewReader(stream))
		if err == nil {
			_, err = io.Copy(io.Discard, content)
			_ = content.Close()
		}
		imagetest.WantError(t, err, "bytes of memory, where 67108864 are allowed; compress it with xz -9 or less")
	}
	if _, err := copied(asking(t, []byte("x"), 28)); !errors.Is(err, io.EOF) {
		t.Errorf("what xz -9 asks for: %v", err)
	}
}

func TestXzDamaged(t *testing.T) {
	stream := xzipped(t, imagetest.Prose(1, 100_000))
	for n := 1; n < len(stream); n += 997 {
		if _, err := copied(stream[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut short to %d bytes: %v", n, err)
		}
	}
	filtered := bytes.Clone(stream)
	filtered[13] |= 1 // two filters
	_, err := copied(filtered)
	imagetest.WantError(t, err, "a filter of xz that isn't supported")
}

// FuzzXz: whatever comes, what is copied is what came, and a block that asks for
// much is not.
func FuzzXz(f *testing.F) {
	f.Add(xzipped(f, []byte("content")))
	f.Add(append(xzipped(f, nil), xzipped(f, imagetest.Prose(1, 1000))...))
	f.Add(asking(f, []byte("content"), 40))
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := copied(stream)
		if err == nil || !bytes.HasPrefix(stream, got) || errors.Is(err, io.EOF) && len(got) != len(stream) {
			t.Errorf("%d of %d bytes were copied, %v", len(got), len(stream), err)
		}
		content, _, err := new(Bounds).Decompress(bytes.NewReader(stream))
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(content, 1<<20))
			_ = content.Close()
		}
	})
}

func TestBzip2(t *testing.T) {
	// printf hello | bzip2 | xxd -i
	content, compressed, err := new(Bounds).Decompress(bytes.NewReader([]byte("BZh91AY&SY\x19\x31\x65\x3d\x00\x00\x00\x81\x00\x02\x44\xa0\x00\x21\x9a\x68\x33\x4d\x07\x33\x8b\xb9\x22\x9c\x28\x48\x0c\x98\xb2\x9e\x80")))
	if err != nil || !compressed {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(content); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestXzWithoutReader: the copying ends with its reader, wherever that stops.
func TestXzWithoutReader(t *testing.T) {
	stream := append(xzipped(t, []byte("content")), make([]byte, 16)...)
	for n := range len(stream) {
		read, written := io.Pipe()
		go func() {
			_, _ = io.CopyN(io.Discard, read, int64(n))
			_ = read.Close()
		}()
		if err := copyXz(written, bufio.NewReader(bytes.NewReader(stream))); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

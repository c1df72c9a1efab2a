package compression

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/therootcompany/xz"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

// xzCompress returns content as an xz stream.
func xzCompress(tb testing.TB, content []byte) []byte {
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

// xzWithDictionary returns an xz stream whose first block states a dictionary size. The size is encoded as in the
// format: 40 stands for 4 GiB, 28 for 64 MiB.
func xzWithDictionary(tb testing.TB, content []byte, encodedSize byte) []byte {
	tb.Helper()
	stream := xzCompress(tb, content)
	header := stream[12 : 12+(int(stream[12])+1)*4]
	filter := bytes.LastIndex(header[:len(header)-4], []byte{0x21, 1})
	header[filter+2] = encodedSize
	sum := crc32.ChecksumIEEE(header[:len(header)-4])
	for i := range 4 {
		header[len(header)-4+i] = byte(sum >> (8 * i))
	}
	return stream
}

// decompressAll returns the content of a compressed stream.
func decompressAll(stream []byte) ([]byte, error) {
	content, _, err := new(Bounds).Decompress(bytes.NewReader(stream))
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(content)
	return got, errors.Join(err, content.Close())
}

// TestXz checks single and concatenated streams, with and without padding.
func TestXz(t *testing.T) {
	large := imagetest.Prose(1, 3<<20)
	one, two := xzCompress(t, large), xzCompress(t, []byte("two"))
	for name, test := range map[string]struct{ stream, want []byte }{
		"one stream":   {one, large},
		"empty":        {xzCompress(t, nil), nil},
		"two streams":  {append(bytes.Clone(one), two...), append(bytes.Clone(large), "two"...)},
		"with padding": {append(append(bytes.Clone(two), 0, 0, 0, 0), two...), []byte("twotwo")},
	} {
		if got, err := decompressAll(test.stream); err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s: got %d bytes, want %d; %v", name, len(got), len(test.want), err)
		}
	}
}

// TestXzMemoryLimit checks that no block, whether the first or a later one, gets more memory than xz -9 needs.
func TestXzMemoryLimit(t *testing.T) {
	small, huge := xzCompress(t, []byte("small")), xzWithDictionary(t, []byte("huge"), 40)
	for _, stream := range [][]byte{huge, append(bytes.Clone(small), huge...), xzWithDictionary(t, []byte("x"), 29)} {
		_, err := decompressAll(stream)
		imagetest.WantError(t, err, "decompressing it takes more than 64 MiB of memory; compress it with xz -9 or less")
	}
	if got, err := decompressAll(xzWithDictionary(t, []byte("x"), 28)); err != nil || string(got) != "x" {
		t.Errorf("the dictionary of xz -9: %q, %v", got, err)
	}
}

// TestXzDamaged checks that truncated and altered streams are errors.
func TestXzDamaged(t *testing.T) {
	stream := xzCompress(t, imagetest.Prose(1, 100_000))
	for n := 6; n < len(stream); n += 9973 {
		if _, err := decompressAll(stream[:n]); !errors.Is(err, xz.ErrBuf) {
			t.Fatalf("truncated to %d bytes: error %v, want %v", n, err, xz.ErrBuf)
		}
	}
	altered := bytes.Clone(stream)
	altered[len(altered)/2] ^= 1
	if _, err := decompressAll(altered); !errors.Is(err, xz.ErrData) {
		t.Errorf("altered: error %v, want %v", err, xz.ErrData)
	}
}

// FuzzXz checks that no stream makes the decoder panic or run forever.
func FuzzXz(f *testing.F) {
	f.Add(xzCompress(f, []byte("content")))
	f.Add(append(xzCompress(f, nil), xzCompress(f, imagetest.Prose(1, 1000))...))
	f.Add(xzWithDictionary(f, []byte("content"), 40))
	f.Fuzz(func(_ *testing.T, stream []byte) {
		content, _, err := new(Bounds).Decompress(bytes.NewReader(stream))
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(content, 1<<20))
			_ = content.Close()
		}
	})
}

// TestBzip2 decompresses what `printf hello | bzip2` writes.
func TestBzip2(t *testing.T) {
	stream := "BZh91AY&SY\x19\x31\x65\x3d\x00\x00\x00\x81\x00\x02\x44\xa0\x00\x21\x9a\x68\x33\x4d\x07" +
		"\x33\x8b\xb9\x22\x9c\x28\x48\x0c\x98\xb2\x9e\x80"
	if got, err := decompressAll([]byte(stream)); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

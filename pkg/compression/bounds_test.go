package compression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

// TestBombOfSeveralStreams checks that the streams of one image are counted together.
func TestBombOfSeveralStreams(t *testing.T) {
	const allowed = 256 << 10
	bounds := &Bounds{allowed: allowed}
	layer := imagetest.Gzip(make([]byte, allowed*2/3))
	for n, want := range []error{nil, errBomb} {
		out, _, err := bounds.Decompress(bytes.NewReader(layer))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, out); !errors.Is(err, want) {
			t.Errorf("layer %d: error %v, want %v", n, err, want)
		}
		_ = out.Close()
	}
}

// zstdWithWindow returns a zstd stream of one frame whose header states a window of that many bytes.
func zstdWithWindow(t *testing.T, window int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(window))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(imagetest.Prose(7, 300_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zstdSingleSegment returns a zstd frame of size zeros whose window is its whole content (RFC 8878, section
// 3.1.1.1.1.2).
func zstdSingleSegment(size uint64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, size)
	for size > 0 {
		block := min(size, 128<<10)
		size -= block
		header := uint32(block)<<3 | 1<<1 // one byte, repeated
		if size == 0 {
			header |= 1
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return b
}

// TestMemoryIsShared checks that a stream waits for the memory of others, but fails if it is inside another stream.
func TestMemoryIsShared(t *testing.T) {
	large, small := zstdWithWindow(t, maxDecoderMemory), zstdWithWindow(t, 1<<20)
	for name, stream := range map[string][]byte{"zstd": large, "xz": xzCompress(t, []byte("content"))} {
		first, _, err := new(Bounds).Decompress(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		if isAvailable(1) {
			t.Errorf("%s: not all memory is reserved", name)
		}
		nested := &Bounds{Nested: true}
		if _, _, err := nested.Decompress(bytes.NewReader(small)); !errors.Is(err, errNested) {
			t.Errorf("%s: a stream in another one: error %v, want %v", name, err, errNested)
		}
		unreserved, _, err := nested.Decompress(bytes.NewReader(imagetest.Gzip([]byte("content"))))
		if err != nil {
			t.Errorf("%s: gzip in it: %v", name, err)
		} else {
			_ = unreserved.Close()
		}
		second := make(chan error)
		go func() {
			out, _, err := new(Bounds).Decompress(bytes.NewReader(small))
			if err == nil {
				err = errors.Join(err, out.Close())
			}
			second <- err
		}()
		_ = first.Close()
		_ = first.Close()
		if err := <-second; err != nil {
			t.Errorf("%s: the stream after it: %v", name, err)
		}
		if !isAvailable(maxDecoderMemory) {
			t.Fatalf("%s: memory wasn't given back", name)
		}
	}
}

// isAvailable reports whether at least that many bytes of decoder memory are free.
func isAvailable(bytes int64) bool {
	ok := decoderMemory.TryAcquire(bytes)
	if ok {
		decoderMemory.Release(bytes)
	}
	return ok
}

// TestReservation checks that a stream reserves the memory that its first frame needs, and that later frames get no
// more.
func TestReservation(t *testing.T) {
	small, large := zstdWithWindow(t, 1<<20), zstdWithWindow(t, 32<<20)
	hugeSegment := zstdSingleSegment(1 << 30)
	for name, test := range map[string]struct {
		stream   []byte
		reserved int64
		err      error
	}{
		"a small frame":                {small, minZstdMemory, nil},
		"a large frame":                {large, 32 << 20, nil},
		"a frame that is too large":    {zstdWithWindow(t, 128<<20), maxDecoderMemory, ErrZstdWindow},
		"a segment":                    {zstdSingleSegment(20 << 20), 20 << 20, nil},
		"a segment that is too large":  {hugeSegment, maxDecoderMemory, ErrZstdWindow},
		"a large frame behind a small": {append(bytes.Clone(small), large...), minZstdMemory, ErrZstdWindow},
		"a segment behind a small":     {append(bytes.Clone(small), hugeSegment...), minZstdMemory, ErrZstdWindow},
	} {
		out, _, err := new(Bounds).Decompress(bytes.NewReader(test.stream))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if left := maxDecoderMemory - test.reserved; !isAvailable(left) || isAvailable(left+1) {
			t.Errorf("%s: want %d bytes reserved", name, test.reserved)
		}
		if _, err := io.Copy(io.Discard, out); !errors.Is(err, test.err) {
			t.Errorf("%s: error %v, want %v", name, err, test.err)
		}
		_ = out.Close()
	}
}

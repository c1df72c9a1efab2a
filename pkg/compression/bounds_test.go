package compression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/pkg/internal/imagetest"
)

// TestBombOfSeveralStreams: what one image expands to is counted together.
func TestBombOfSeveralStreams(t *testing.T) {
	const free = 256 << 10
	bounds := &Bounds{free: free}
	layer := imagetest.Gzip(make([]byte, free*2/3))
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

// askingZstd returns a zstd stream whose one frame asks for a window of that size.
func askingZstd(t *testing.T, window int) []byte {
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

// segment returns a frame of zeros whose window is all of its content (RFC 8878, section 3.1.1.1.1.2).
func segment(size uint64) []byte {
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

// TestMemoryIsShared: streams wait for the memory that others have, and those that are in another stream can't.
func TestMemoryIsShared(t *testing.T) {
	large, small := askingZstd(t, maxWindow), askingZstd(t, 1<<20)
	for name, stream := range map[string][]byte{"zstd": large, "xz": xzipped(t, []byte("content"))} {
		first, _, err := new(Bounds).Decompress(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		if available(1) {
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
		if !available(maxWindow) {
			t.Fatalf("%s: memory wasn't given back", name)
		}
	}
}

// available reports whether so many bytes aren't reserved.
func available(bytes int64) bool {
	ok := windows.TryAcquire(bytes)
	if ok {
		windows.Release(bytes)
	}
	return ok
}

// TestReservation: what is reserved is what the first frame asks for, and no frame gets more.
func TestReservation(t *testing.T) {
	small, large := askingZstd(t, 1<<20), askingZstd(t, 32<<20)
	for name, test := range map[string]struct {
		stream   []byte
		reserved int64
		err      error
	}{
		"a small frame":                {small, leastWindow, nil},
		"a large frame":                {large, 32 << 20, nil},
		"a frame that is too large":    {askingZstd(t, 128<<20), maxWindow, ErrWindow},
		"a segment":                    {segment(20 << 20), 20 << 20, nil},
		"a segment that is too large":  {segment(1 << 30), maxWindow, ErrWindow},
		"a large frame behind a small": {append(bytes.Clone(small), large...), leastWindow, ErrWindow},
		"a segment behind a small":     {append(bytes.Clone(small), segment(1<<30)...), leastWindow, ErrWindow},
	} {
		out, _, err := new(Bounds).Decompress(bytes.NewReader(test.stream))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if left := maxWindow - test.reserved; !available(left) || available(left+1) {
			t.Errorf("%s: %d bytes are to be reserved", name, test.reserved)
		}
		if _, err := io.Copy(io.Discard, out); !errors.Is(err, test.err) {
			t.Errorf("%s: error %v, want %v", name, err, test.err)
		}
		_ = out.Close()
	}
}

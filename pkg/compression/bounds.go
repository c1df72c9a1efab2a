package compression

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// The streams of one image may decompress to more than alwaysAllowed bytes only if that is at most maxRatio times their
// compressed size. Real layers compress to a half or a third of their size, and almost empty ones to a few hundredths.
const (
	alwaysAllowed = 4 << 30
	maxRatio      = 100
)

var errBomb = errors.New("the content decompresses to more than 100 times its size: a decompression bomb, not an image")

// Bounds limits the size that the compressed streams of one image expand to, all taken together. The zero value is
// ready to use. Its streams may be read concurrently.
type Bounds struct {
	// Nested says that the streams are inside another compressed stream, which keeps its memory until they have been
	// read. A nested stream therefore doesn't wait for memory: if too little is free, it fails.
	Nested bool

	compressed, decompressed atomic.Int64 // bytes so far
	allowed                  int64        // replaces alwaysAllowed in tests, if it isn't 0
}

// boundedReader is a decompressed stream that counts its bytes and fails when the bounds are exceeded.
type boundedReader struct {
	io.ReadCloser
	bounds *Bounds
}

// Read implements [io.Reader]. It fails with errBomb or with [ErrZstdWindow].
func (r boundedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	decompressed := r.bounds.decompressed.Add(int64(n))
	allowed := cmp.Or(r.bounds.allowed, alwaysAllowed)
	if decompressed > allowed && decompressed/maxRatio > r.bounds.compressed.Load() {
		return n, errBomb
	}
	return n, explainDecoder(err)
}

// compressedReader is a compressed stream that counts its bytes.
type compressedReader struct {
	io.Reader
	bounds *Bounds
}

// Read implements [io.Reader]. Decompressors call it from their own goroutines, so the counter is atomic.
func (r compressedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.bounds.compressed.Add(int64(n))
	return n, err
}

// maxDecoderMemory is how many bytes all open decoders of the process may allocate together. A single stream may use
// all of it. `zstd -19` needs 8 MiB for decompression, `xz -9` needs 64 MiB.
const maxDecoderMemory = 64 << 20

// decoderMemory holds the bytes of maxDecoderMemory that aren't reserved.
var decoderMemory = semaphore.NewWeighted(maxDecoderMemory)

var errNested = errors.New("the layers of a compressed archive are compressed, too, " +
	"and decompressing both takes too much memory; write the archive without compressing it")

// reserve reserves memory for a decoder and then calls open to create it. The memory is released when the returned
// stream is closed, or if open fails. Without Nested, reserve waits until enough memory is free.
func (b *Bounds) reserve(bytes int64, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	if b.Nested {
		if !decoderMemory.TryAcquire(bytes) {
			return nil, errNested
		}
	} else if err := decoderMemory.Acquire(context.Background(), bytes); err != nil {
		return nil, err
	}
	decoder, err := open()
	if err != nil {
		decoderMemory.Release(bytes)
		return nil, err
	}
	return &reservedReader{decoder, bytes}, nil
}

// reservedReader is a stream for which memory is reserved. Its ReadCloser is nil after Close.
type reservedReader struct {
	io.ReadCloser
	bytes int64
}

// HoldsMemory reports whether memory is reserved for a stream of [Bounds.Decompress] until it is closed. Such a stream
// must not wait for another one, which may have to wait for the memory.
func HoldsMemory(stream io.Reader) bool {
	bounded, _ := stream.(boundedReader)
	_, reserved := bounded.ReadCloser.(*reservedReader)
	return reserved
}

// Close closes the stream and releases its memory. Further calls do nothing.
func (r *reservedReader) Close() error {
	if r.ReadCloser == nil {
		return nil
	}
	err := r.ReadCloser.Close()
	r.ReadCloser = nil
	if r.bytes > minZstdMemory {
		debug.FreeOSMemory() // otherwise the next decoder's memory would be added to this one's
	}
	decoderMemory.Release(r.bytes)
	return err
}

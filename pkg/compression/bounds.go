package compression

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
)

// What decompresses to more than freeGrowth bytes and to more than maxGrowth
// times its size is no image: real layers shrink to a half or a third, and
// the emptiest to a few hundredths.
const (
	freeGrowth = 4 << 30
	maxGrowth  = 100
)

var errBomb = errors.New("the content decompresses to more than 100 times its size: a decompression bomb, and no image")

// Bounds limits how far the streams of one image expand together. The zero value
// is ready to use.
type Bounds struct {
	// Nested is set for streams that are in another compressed stream. That holds
	// memory until they end, so what it doesn't leave them they can't wait for.
	Nested bool

	in, out atomic.Int64
	free    int64 // instead of freeGrowth
}

// expansion is a decompressed stream that counts what goes in and comes out.
type expansion struct {
	io.ReadCloser
	bounds *Bounds
}

func (e expansion) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	out := e.bounds.out.Add(int64(n))
	free := e.bounds.free
	if free == 0 {
		free = freeGrowth
	}
	if out > free && out/maxGrowth > e.bounds.in.Load() {
		return n, errBomb
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = ErrWindow
	}
	return n, err
}

// meter counts what is read through it. Decompressors read from goroutines of
// their own.
type meter struct {
	io.Reader
	bounds *Bounds
}

func (m meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.bounds.in.Add(int64(n))
	return n, err
}

// maxWindow bounds the memory that all streams may ask for at once to be
// decompressed; `zstd -19` needs 8 MiB, `xz -9` needs 64 MiB.
const maxWindow = 64 << 20

// windows is what of it is left.
var windows = semaphore.NewWeighted(maxWindow)

var errNested = errors.New("the layers of a compressed archive are compressed, too, and decompressing both takes too much memory; " +
	"write the archive without compressing it")

// reserve opens a stream when so many bytes of memory are free, and keeps them until
// it is closed.
func (b *Bounds) reserve(bytes int64, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	if b.Nested {
		if !windows.TryAcquire(bytes) {
			return nil, errNested
		}
	} else if err := windows.Acquire(context.Background(), bytes); err != nil { // whoever has them reads on
		return nil, err
	}
	out, err := open()
	if err != nil {
		windows.Release(bytes)
		return nil, err
	}
	return &reserved{out, bytes}, nil
}

// reserved is a stream that has memory reserved. It is nil inside once it is closed.
type reserved struct {
	io.ReadCloser
	bytes int64
}

func (r *reserved) Close() error {
	if r.ReadCloser == nil {
		return nil
	}
	err := r.ReadCloser.Close()
	r.ReadCloser = nil
	if r.bytes > leastWindow {
		debug.FreeOSMemory() // else the next stream's memory comes on top of this one's
	}
	windows.Release(r.bytes)
	return err
}

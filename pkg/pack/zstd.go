package pack

import (
	"bytes"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// Like level and blockSize, these decide the digests of packed images.
const (
	zstdLevel     = zstd.SpeedDefault
	zstdBlockSize = 4 << 20
)

// zstdWriter compresses blocks of a fixed size concurrently, each to a frame of its own. Every decoder reads several
// frames as one content (RFC 8878, section 3). So the output depends only on the content, not on the number of cores or
// on how Write is called. Its methods must not be called concurrently.
type zstdWriter struct {
	encoder *zstd.Encoder
	block   []byte                // what is to be compressed next
	frames  chan chan frame       // in the blob's order; its capacity limits the blocks under way
	begun   bool                  // a frame is on its way
	failed  atomic.Pointer[error] // of the writer below
	done    chan error
	blocks  sync.Pool
}

// frame is a compressed block, or the error of its compression.
type frame struct {
	data []byte
	err  error
}

// newZstdWriter returns a compressor that writes to out from a goroutine of its own until it is closed.
func newZstdWriter(out io.Writer) (*zstdWriter, error) {
	cores := min(runtime.GOMAXPROCS(0), maxConcurrentBlocks)
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstdLevel),
		zstd.WithEncoderConcurrency(cores),
		zstd.WithWindowSize(zstdBlockSize),
		zstd.WithEncoderCRC(false), // the blob has a digest
		zstd.WithZeroFrames(true),  // so that an empty layer is a frame, too
	)
	if err != nil {
		return nil, err
	}
	w := &zstdWriter{encoder: encoder, frames: make(chan chan frame, cores), done: make(chan error, 1)}
	w.blocks.New = func() any { return make([]byte, 0, zstdBlockSize) }
	w.block, _ = w.blocks.Get().([]byte)
	go func() { w.done <- parallel.Guard(func() error { return w.writeFrames(out) }) }()
	return w, nil
}

// writeFrames writes the frames in order, each as soon as it is ready. After an error it discards the remaining frames.
func (w *zstdWriter) writeFrames(out io.Writer) error {
	var failed error
	for ready := range w.frames {
		frame := <-ready
		if failed == nil {
			failed = frame.err
		}
		if failed == nil {
			_, failed = out.Write(frame.data)
		}
		if failed != nil {
			w.failed.CompareAndSwap(nil, &failed)
		}
	}
	return failed
}

// Write compresses p. It fails if out failed.
func (w *zstdWriter) Write(p []byte) (int, error) {
	n, err := w.ReadFrom(bytes.NewReader(p))
	return int(n), err
}

// ReadFrom reads right into the blocks, as io.Copy prefers, so that nothing is copied in between. It fails as Write
// does.
func (w *zstdWriter) ReadFrom(r io.Reader) (n int64, err error) {
	for err == nil {
		if failed := w.failed.Load(); failed != nil {
			return n, *failed
		}
		var got int
		got, err = r.Read(w.block[len(w.block):zstdBlockSize])
		n += int64(got)
		if w.block = w.block[:len(w.block)+got]; len(w.block) == zstdBlockSize {
			w.compress()
		}
	}
	if err == io.EOF { // nothing else is the end, for io.Copy neither
		err = nil
	}
	return n, err
}

// compress starts the compression of the current block.
func (w *zstdWriter) compress() {
	ready := make(chan frame, 1)
	w.frames <- ready
	w.begun = true
	go func(block []byte) {
		var f frame
		f.err = parallel.Guard(func() error { f.data = w.encoder.EncodeAll(block, nil); return nil })
		ready <- f
		w.blocks.Put(block[:0]) //nolint:staticcheck // a slice's header is small beside its block
	}(w.block)
	w.block, _ = w.blocks.Get().([]byte)
}

// Close compresses the last block, waits until everything is written, and returns out's error. Without any content it
// writes an empty frame.
func (w *zstdWriter) Close() error {
	if len(w.block) > 0 || !w.begun {
		w.compress()
	}
	close(w.frames)
	return <-w.done
}

package blobupload

import (
	"errors"
	"io"
	"sync"
)

// errRevoked ends a read by a transport that was given up.
var errRevoked = errors.New("the request was given up")

// chunk is the body of a request that sends bytes [start, end) of a blob. It is opened anew for every attempt, which ends
// the reads of the attempt before.
type chunk struct {
	src        *source
	start, end int64

	mu      sync.Mutex
	current *chunkReader
}

// open returns a reader of the chunk, and makes earlier ones fail.
func (c *chunk) open() io.ReadCloser {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = &chunkReader{chunk: c, off: c.start}
	return c.current
}

// revoke makes every reader fail; when it returns, none is reading.
func (c *chunk) revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = nil
}

type chunkReader struct {
	chunk *chunk
	off   int64
}

func (r *chunkReader) Read(p []byte) (int, error) {
	c := r.chunk
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != r {
		return 0, errRevoked
	}
	if r.off == c.end {
		return 0, io.EOF
	}
	n, err := c.src.ReadAt(p[:min(int64(len(p)), c.end-r.off)], r.off)
	r.off += int64(n)
	return n, err
}

// Close leaves the source to the next attempt.
func (r *chunkReader) Close() error { return nil }

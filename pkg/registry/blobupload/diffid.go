package blobupload

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// Decompressor returns what a layer's blob holds, and whether it was compressed. What it returns fails to be read where
// the blob is damaged, or made to fill memory or time.
type Decompressor func(blob io.Reader) (layer io.ReadCloser, compressed bool, err error)

// A check lags behind the sender by this many reads at most: so it goes on while the sender waits for an answer, and the
// sender goes on while the check decompresses.
const maxBlocks = 16

var spareBlocks = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// diffIDCheck decompresses a blob as it comes by, and takes the digest of its content. A nil check does nothing.
type diffIDCheck struct {
	want   v1.Hash            // is compared with got, if it isn't zero
	got    v1.Hash            // zero until the check has ended without an error
	blocks chan *bytes.Buffer // on their way to be decompressed
	end    sync.Once          // closes blocks
	cause  error              // why no more blocks come; set before blocks is closed
	begun  chan struct{}      // closed when the decompressor has begun, and has the memory that it needs
	ended  chan struct{}      // closed when err and got are known
	err    error
}

// newDiffIDCheck starts a check, which ends with finish or abandon.
func newDiffIDCheck(want v1.Hash, decompress Decompressor) *diffIDCheck {
	c := &diffIDCheck{
		want: want, blocks: make(chan *bytes.Buffer, maxBlocks), begun: make(chan struct{}), ended: make(chan struct{}),
	}
	go func() {
		defer close(c.ended)
		c.err = parallel.Guard(func() error { return c.compare(decompress) })
		if errors.Is(c.err, compression.ErrZstdWindow) { // decompressing takes too much memory
			c.err = nil
		}
	}()
	return c
}

var errAbandoned = errors.New("the check was abandoned")

func (c *diffIDCheck) compare(decompress Decompressor) error {
	layer, _, err := decompress(&blockReader{diffIDCheck: c})
	close(c.begun)
	if err != nil {
		return fmt.Errorf("decompressing the layer: %w", err)
	}
	defer func() { _ = layer.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, layer); err != nil {
		return fmt.Errorf("decompressing the layer: %w", err)
	}
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	if c.want != (v1.Hash{}) && got != c.want {
		return fmt.Errorf("the image's config gives the layer the diff ID %s, but it has %s; build the image again", c.want, got)
	}
	c.got = got
	return nil
}

// blockReader reads what a check is given.
type blockReader struct {
	*diffIDCheck
	current *bytes.Buffer
}

func (r *blockReader) Read(p []byte) (int, error) {
	if r.current == nil {
		next, open := <-r.blocks
		if !open {
			return 0, r.cause
		}
		r.current = next
	}
	n, _ := r.current.Read(p) // no block is empty
	if r.current.Len() == 0 {
		r.current.Reset()
		spareBlocks.Put(r.current)
		r.current = nil
	}
	return n, nil
}

// write gives the check the next bytes of the blob. One that has failed takes no more; finish says so.
func (c *diffIDCheck) write(p []byte) {
	if c == nil {
		return
	}
	block := spareBlocks.Get().(*bytes.Buffer)
	_, _ = block.Write(p) // it never fails
	select {
	case c.blocks <- block:
	case <-c.ended:
	}
}

// finish says that the blob is complete, and returns what came out. It may be called again.
func (c *diffIDCheck) finish() error {
	if c == nil {
		return nil
	}
	c.stop(io.EOF)
	<-c.ended
	return c.err
}

// diffID returns, after finish, what came out; zero if the blob wasn't looked into.
func (c *diffIDCheck) diffID() v1.Hash {
	if c == nil {
		return v1.Hash{}
	}
	return c.got
}

// abandon ends a check of a blob that isn't read on.
func (c *diffIDCheck) abandon() {
	if c != nil {
		c.stop(errAbandoned)
	}
}

func (c *diffIDCheck) stop(cause error) {
	c.end.Do(func() {
		c.cause = cause
		close(c.blocks)
	})
}

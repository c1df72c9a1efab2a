// Package layercheck decompresses a layer while its blob is sent to a registry, and computes the layer's diff ID: the
// digest of what the blob decompresses to.
package layercheck

import (
	"bytes"
	"context"
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

// Decompressor returns the decompressed content of a blob, and whether the blob was compressed. Reading the result
// fails if the blob is damaged, or would take too much memory or time.
type Decompressor func(blob io.Reader) (layer io.ReadCloser, compressed bool, err error)

// MaxBlocks is how many reads a check lags behind the sender at most. So it goes on while the sender waits for an
// answer, and the sender goes on while the check decompresses.
const MaxBlocks = 16

var spareBlocks = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Check looks into one blob. A nil Check does nothing.
type Check struct {
	want   v1.Hash            // is compared with got, if it isn't zero
	got    v1.Hash            // zero until the check has ended without an error
	blocks chan *bytes.Buffer // on their way to be decompressed
	end    sync.Once          // closes blocks
	cause  error              // why no more blocks come; set before blocks is closed
	begun  chan struct{}      // closed when the decompressor has begun, and has the memory that it needs
	ended  chan struct{}      // closed when err and got are known
	err    error
}

// Start starts a check, which ends with Finish or Abandon. It fails if the layer has another diff ID than want, unless
// that is zero.
func Start(want v1.Hash, decompress Decompressor) *Check {
	c := &Check{
		want: want, blocks: make(chan *bytes.Buffer, MaxBlocks), begun: make(chan struct{}), ended: make(chan struct{}),
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

// compare computes the diff ID and compares it with the expected one.
func (c *Check) compare(decompress Decompressor) error {
	layer, _, err := decompress(&blockReader{Check: c})
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
		return fmt.Errorf(
			"the image's config gives the layer the diff ID %s, but it has %s; build the image again",
			c.want,
			got,
		)
	}
	c.got = got
	return nil
}

// blockReader reads the bytes that were given to a check.
type blockReader struct {
	*Check
	current *bytes.Buffer
}

// Read implements [io.Reader].
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

// Write gives the check the next bytes of the blob. One that has failed takes no more; Finish says so.
func (c *Check) Write(p []byte) {
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

// WaitBegun waits until the decompressor has begun, or failed. That may have to wait for memory that other layers have.
func (c *Check) WaitBegun(ctx context.Context) error {
	select {
	case <-c.begun:
	case <-c.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// Finish says that the blob is complete, and returns what came out. It may be called again.
func (c *Check) Finish() error {
	if c == nil {
		return nil
	}
	c.stop(io.EOF)
	<-c.ended
	return c.err
}

// DiffID returns, after Finish, what came out; zero if the blob wasn't looked into.
func (c *Check) DiffID() v1.Hash {
	if c == nil {
		return v1.Hash{}
	}
	return c.got
}

// Abandon ends a check of a blob that isn't read on.
func (c *Check) Abandon() {
	if c != nil {
		c.stop(errAbandoned)
	}
}

// stop ends the check with a cause.
func (c *Check) stop(cause error) {
	c.end.Do(func() {
		c.cause = cause
		close(c.blocks)
	})
}

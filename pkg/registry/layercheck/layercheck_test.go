package layercheck

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
)

// blockSize is how much a sender reads at once.
const blockSize = 64 << 10

// TestCheck: what a check says of a blob that is longer than the check may lag behind. A check that ended early
// holds up nobody.
func TestCheck(t *testing.T) {
	t.Parallel()
	blob := bytes.Repeat([]byte("0123456789"), 2*MaxBlocks*blockSize/10)
	diffID, _, err := v1.SHA256(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	damaged := errors.New("damaged")
	plain := func(r io.Reader) (io.ReadCloser, bool, error) { return io.NopCloser(r), false, nil }
	for name, test := range map[string]struct {
		want       v1.Hash
		decompress Decompressor
		err        string
		got        v1.Hash
	}{
		"right":        {diffID, plain, "", diffID},
		"not compared": {v1.Hash{}, plain, "", diffID},
		"wrong":        {v1.Hash{Algorithm: "sha256", Hex: "00"}, plain, "but it has " + diffID.String(), v1.Hash{}},
		"not decompressed": {diffID, func(io.Reader) (io.ReadCloser, bool, error) { return nil, true, damaged }, "damaged",
			v1.Hash{}},
		"panic": {diffID, func(io.Reader) (io.ReadCloser, bool, error) { panic("bug") }, "bug", v1.Hash{}},
		"too large to open": {diffID, func(io.Reader) (io.ReadCloser, bool, error) {
			return io.NopCloser(iotest.ErrReader(compression.ErrZstdWindow)), true, nil
		}, "", v1.Hash{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Start(test.want, test.decompress)
			defer c.Abandon()
			for rest := blob; len(rest) > 0; {
				n := min(len(rest), blockSize-1)
				c.Write(rest[:n])
				rest = rest[n:]
			}
			for range 2 {
				err := c.Finish()
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
			}
			if c.DiffID() != test.got {
				t.Errorf("got %s, want %s", c.DiffID(), test.got)
			}
		})
	}
}

// TestAbandoned: what comes before an upload is given up isn't taken for the blob.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	c := Start(v1.Hash{}, func(r io.Reader) (io.ReadCloser, bool, error) { return io.NopCloser(r), false, nil })
	c.Write([]byte("beginning"))
	c.Abandon()
	if <-c.ended; !errors.Is(c.err, errAbandoned) {
		t.Errorf("the check ended with %v", c.err)
	}
}

// TestWaitBegun: a sender waits for the decompressor, not longer than its run lasts, and not for one that failed.
func TestWaitBegun(t *testing.T) {
	t.Parallel()
	memory := make(chan struct{})
	waiting := Start(v1.Hash{}, func(r io.Reader) (io.ReadCloser, bool, error) {
		<-memory
		return io.NopCloser(r), false, nil
	})
	defer waiting.Abandon()
	stopped := errors.New("stopped")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(stopped)
	if err := waiting.WaitBegun(ctx); !errors.Is(err, stopped) {
		t.Errorf("without memory: %v, want the end of the run", err)
	}
	close(memory)
	if err := waiting.WaitBegun(t.Context()); err != nil {
		t.Errorf("with memory: %v", err)
	}
	failed := Start(v1.Hash{}, func(io.Reader) (io.ReadCloser, bool, error) { panic("bug") })
	defer failed.Abandon()
	if err := failed.WaitBegun(t.Context()); err != nil {
		t.Errorf("after a failure: %v, which Finish says", err)
	}
}

// TestNoCheck: what isn't looked into has no diff ID.
func TestNoCheck(t *testing.T) {
	t.Parallel()
	var none *Check
	none.Write([]byte("blob"))
	none.Abandon()
	if err := none.Finish(); err != nil || none.DiffID() != (v1.Hash{}) {
		t.Errorf("%v, %v", err, none.DiffID())
	}
}

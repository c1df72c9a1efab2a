package blobupload

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
)

// TestDiffIDCheck: what a check says of a blob that is longer than the check may lag behind. A check that ended early
// holds up nobody.
func TestDiffIDCheck(t *testing.T) {
	t.Parallel()
	blob := bytes.Repeat([]byte("0123456789"), 2*maxBlocks*maxRead/10)
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
		"right":            {diffID, plain, "", diffID},
		"not compared":     {v1.Hash{}, plain, "", diffID},
		"wrong":            {v1.Hash{Algorithm: "sha256", Hex: "00"}, plain, "but it has " + diffID.String(), v1.Hash{}},
		"not decompressed": {diffID, func(io.Reader) (io.ReadCloser, bool, error) { return nil, true, damaged }, "damaged", v1.Hash{}},
		"panic":            {diffID, func(io.Reader) (io.ReadCloser, bool, error) { panic("bug") }, "bug", v1.Hash{}},
		"too large to open": {diffID, func(io.Reader) (io.ReadCloser, bool, error) {
			return io.NopCloser(iotest.ErrReader(compression.ErrZstdWindow)), true, nil
		}, "", v1.Hash{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newDiffIDCheck(test.want, test.decompress)
			defer c.abandon()
			for rest := blob; len(rest) > 0; {
				n := min(len(rest), maxRead-1)
				c.write(rest[:n])
				rest = rest[n:]
			}
			for range 2 {
				err := c.finish()
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
			}
			if c.diffID() != test.got {
				t.Errorf("got %s, want %s", c.diffID(), test.got)
			}
		})
	}
}

// TestDiffIDCheckAbandoned: what comes before an upload is given up isn't taken for the blob.
func TestDiffIDCheckAbandoned(t *testing.T) {
	t.Parallel()
	c := newDiffIDCheck(v1.Hash{}, func(r io.Reader) (io.ReadCloser, bool, error) { return io.NopCloser(r), false, nil })
	c.write([]byte("beginning"))
	c.abandon()
	if <-c.ended; !errors.Is(c.err, errAbandoned) {
		t.Errorf("the check ended with %v", c.err)
	}
}

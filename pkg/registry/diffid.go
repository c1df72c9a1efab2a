package registry

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// A layer has two names: the digest of its blob, in the manifest, and its diff ID, the digest of what the blob
// decompresses to, in the config (OCI image spec, config.md). Blobs are verified by everybody; diff IDs only by those who
// unpack the layer. Since a blob that is known by its diff ID becomes part of other images, what a config says is
// compared with the layer itself while that is sent.

// diffIDsOf returns the diff IDs that are to be compared with an image's layers, in their order. It is zero for what isn't
// compressed, which is compared here, and for what can't be looked into, as it is encrypted or no file system. It fails
// when the config doesn't fit the layers.
func diffIDsOf(img v1.Image, m *v1.Manifest) ([]v1.Hash, error) {
	diffIDs := make([]v1.Hash, len(m.Layers))
	isLayer := func(d v1.Descriptor) bool { return isCompressed(d.MediaType) || isPlain(d.MediaType) }
	if !isConfig(m.Config.MediaType) || !slices.ContainsFunc(m.Layers, isLayer) {
		return diffIDs, nil
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("the image has %d layers, but its config lists %d diff IDs; build it anew",
			len(m.Layers), len(config.RootFS.DiffIDs))
	}
	for i, d := range m.Layers {
		claimed := config.RootFS.DiffIDs[i]
		switch {
		case isCompressed(d.MediaType):
			diffIDs[i] = claimed
		case isPlain(d.MediaType) && d.Digest != claimed:
			return nil, wrongDiffID(d.Digest, claimed, d.Digest)
		}
	}
	return diffIDs, nil
}

func wrongDiffID(blob, claimed, actual v1.Hash) error {
	return fmt.Errorf("reading the layer %s: the image's config gives it the diff ID %s, but it has %s; build the image anew",
		blob, claimed, actual)
}

// isConfig tells whether a config lists diff IDs: artifacts have configs of other types.
func isConfig(t types.MediaType) bool { return t == types.DockerConfigJSON || t == types.OCIConfigJSON }

// isPlain tells whether blobs of this type are layers as they are, whose digest is their diff ID.
func isPlain(t types.MediaType) bool {
	return t == types.DockerUncompressedLayer || t == types.OCIUncompressedLayer
}

// claims adds to known what the configs of a node and those below it say: the diff ID of each blob. It fails when two
// of them disagree about one.
func (n *node) claims(known map[v1.Hash]v1.Hash) error {
	for _, b := range n.blobs {
		switch other, twice := known[b.desc.Digest]; {
		case b.diffID == v1.Hash{}:
		case twice && other != b.diffID:
			return wrongDiffID(b.desc.Digest, b.diffID, other)
		default:
			known[b.desc.Digest] = b.diffID
		}
	}
	for _, child := range n.children {
		if err := child.claims(known); err != nil {
			return err
		}
	}
	return nil
}

// diffIDCheck decompresses a blob as it comes by and compares its content with a diff ID.
type diffIDCheck struct {
	want   v1.Hash
	in     *io.PipeWriter
	result chan error
}

// newDiffIDCheck starts a check, which ends with finish or abandon.
func newDiffIDCheck(want v1.Hash, decompress Decompressor) *diffIDCheck {
	content, in := io.Pipe()
	c := &diffIDCheck{want: want, in: in, result: make(chan error, 1)}
	go func() {
		err := parallel.Guard(func() error { return c.compare(content, decompress) })
		// What comes after the layer's end or a failure has nobody to read it.
		_ = content.CloseWithError(errors.Join(err, errAbandoned))
		c.result <- err
	}()
	return c
}

var errAbandoned = errors.New("nobody reads on")

func (c *diffIDCheck) compare(content io.Reader, decompress Decompressor) error {
	layer, _, err := decompress(bufio.NewReaderSize(content, 128<<10))
	if err != nil {
		return fmt.Errorf("it is no layer that can be decompressed: %w", err)
	}
	defer func() { _ = layer.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, layer); err != nil {
		return fmt.Errorf("it is no layer that can be decompressed: %w", err)
	}
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	if got != c.want {
		return fmt.Errorf("the image's config gives it the diff ID %s, but it has %s; build the image anew", c.want, got)
	}
	return nil
}

// write gives the check the next bytes of the blob. That the check has failed shows in the end.
func (c *diffIDCheck) write(p []byte) {
	if c != nil {
		_, _ = c.in.Write(p)
	}
}

// finish says that the blob is complete, and returns what came out. It may be called again.
func (c *diffIDCheck) finish() error {
	if c == nil {
		return nil
	}
	_ = c.in.Close() // it never fails
	err := <-c.result
	c.result <- err
	return err
}

// abandon ends a check of a blob that isn't read on.
func (c *diffIDCheck) abandon() {
	if c != nil {
		_ = c.in.CloseWithError(errAbandoned)
	}
}

package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

var (
	// errOtherLayers is about an image whose layers aren't those that its config lists.
	errOtherLayers = errors.New("its layers aren't those of its config")
	// errIncomparable is about an image of a form that can't be compared, or that runtimes may read elsewhere.
	errIncomparable = errors.New("the image is of a form that can't be compared")
)

// compare reads the layers of a single image from the repository and compares them with the diff IDs that its config lists.
// It returns nil if all are equal: then the image is what the config describes, whoever pushed it. Layers that are stored
// uncompressed are their own proof and aren't read.
func (v *View) compare(ctx context.Context, d *remote.Descriptor) error {
	m, err := imageManifest(d.MediaType, d.Manifest)
	if err != nil {
		return err
	}
	diffIDs, err := v.readDiffIDs(ctx, m.Config)
	if err != nil {
		return err
	}
	if len(diffIDs) != len(m.Layers) {
		return fmt.Errorf("%w: %d layers, %d diff IDs", errOtherLayers, len(m.Layers), len(diffIDs))
	}
	toRead, total, err := v.unprovenLayers(ctx, m, diffIDs)
	if err != nil {
		return err
	}
	v.log.Info("The charm's repository has an image with this config that this store token didn't record: comparing its layers",
		zap.Stringer("manifest", d.Digest), zap.Int("layers", len(toRead)))
	add, done := v.progress("Comparing layers in the registry", total)
	defer done()
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(senders)
	for diffID, layer := range toRead {
		g.Go(func() error { return v.compareLayer(ctx, layer, diffID, add) })
	}
	return g.Wait()
}

// unprovenLayers returns the layers that have to be read, by their diff IDs, and their size. A descriptor with urls, data
// or annotations is refused: some runtimes take a layer's content from there, in part or whole, and not from the blob.
func (v *View) unprovenLayers(ctx context.Context, m *v1.Manifest, diffIDs []v1.Hash) (toRead map[v1.Hash]v1.Descriptor, total int64, err error) {
	toRead = map[v1.Hash]v1.Descriptor{}
	var stored []v1.Descriptor
	if !isOrdinary(m.Config) {
		return nil, 0, fmt.Errorf("%w: its config has urls, data or annotations", errIncomparable)
	}
	for i, layer := range m.Layers {
		other, twice := toRead[diffIDs[i]]
		switch {
		case !isOrdinary(layer):
			return nil, 0, fmt.Errorf("%w: layer %s has urls, data or annotations", errIncomparable, layer.Digest)
		case !isCompressed(layer.MediaType) && !isPlain(layer.MediaType), v.decompress == nil:
			return nil, 0, fmt.Errorf("%w: layer %s is of type %q", errIncomparable, layer.Digest, layer.MediaType)
		case layer.Digest == diffIDs[i]:
			stored = append(stored, layer)
		case isPlain(layer.MediaType):
			return nil, 0, fmt.Errorf("%w: layer %s is unpacked and hasn't the diff ID %s", errOtherLayers, layer.Digest, diffIDs[i])
		case twice && other.Digest != layer.Digest:
			return nil, 0, fmt.Errorf("%w: two blobs for the diff ID %s", errIncomparable, diffIDs[i])
		case !twice:
			toRead[diffIDs[i]] = layer
			total += layer.Size
		}
	}
	held, err := v.hasBlobs(ctx, stored)
	for digest, has := range held {
		if !has {
			return nil, 0, fmt.Errorf("%w: %s is missing", errIncomplete, digest)
		}
	}
	return toRead, total, err
}

// isOrdinary reports whether a blob's digest is all that the manifest says of where its content comes from.
func isOrdinary(d v1.Descriptor) bool {
	return len(d.URLs) == 0 && d.Data == nil && len(d.Annotations) == 0
}

// compareLayer reads one layer and compares it with its diff ID.
func (r *Repository) compareLayer(ctx context.Context, d v1.Descriptor, diffID v1.Hash, add func(bytes int64)) error {
	blob, err := r.openBlob(ctx, d)
	if err != nil {
		return fmt.Errorf("reading layer %s: %w", d.Digest, err)
	}
	defer func() { _ = blob.Close() }()
	counted := io.TeeReader(blob, byteCounter(add))
	layer, _, err := r.decompress(counted)
	if err != nil {
		return fmt.Errorf("reading layer %s: %w", d.Digest, err)
	}
	defer func() { _ = layer.Close() }()
	hash := sha256.New()
	if _, err = io.Copy(hash, layer); err == nil {
		_, err = io.Copy(io.Discard, counted) // to the end, where the blob's own digest is compared
	}
	if err != nil {
		return fmt.Errorf("reading layer %s: %w", d.Digest, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != diffID.Hex {
		return fmt.Errorf("%w: layer %s has the diff ID sha256:%s, not %s", errOtherLayers, d.Digest, got, diffID)
	}
	return nil
}

// byteCounter is an io.Writer that reports how many bytes passed through it.
type byteCounter func(bytes int64)

func (c byteCounter) Write(p []byte) (int, error) {
	c(int64(len(p)))
	return len(p), nil
}

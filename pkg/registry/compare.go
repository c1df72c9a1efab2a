package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry/layercheck"
)

var (
	// errOtherLayers is about an image whose layers aren't those that its config lists.
	errOtherLayers = errors.New("its layers aren't those of its config")
	// errIncomparable is about an image that can't be compared, or whose content some runtimes may take from elsewhere.
	errIncomparable = errors.New("the image is of a form that can't be compared")
)

// compare downloads the layers of an image and compares them with the diff IDs that its config lists. If it returns
// nil, the image is what the config describes, whoever pushed it. An uncompressed layer's digest is its diff ID, so
// only its size is requested, also if its media type is gzip's, as in the images that charmcraft 4 pushes.
func (v *View) compare(ctx context.Context, d *remote.Descriptor) error {
	m, err := comparableManifest(d.MediaType, d.Manifest)
	if err != nil {
		return err
	}
	diffIDs, err := v.readDiffIDs(ctx, m.Config)
	if err != nil {
		return err
	}
	claims, err := layerClaims(m, diffIDs)
	if err != nil {
		return err
	}
	var total int64
	for c := range claims {
		if c.blob != c.diffID {
			total += c.size
		}
	}
	v.log.Info(
		"The charm's repository has an image with this config that this store token didn't record: comparing its layers",
		zap.Stringer("manifest", d.Digest),
		zap.Int("layers", len(claims)),
	)
	add, done := v.progress("Comparing layers in the registry", total)
	defer done()
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(senders)
	for c := range claims {
		g.Go(func() error { return v.compareLayer(ctx, c, add) })
	}
	return g.Wait()
}

// layerClaim is what a manifest and its config state about a layer. If the layer is stored uncompressed, blob
// equals diffID.
type layerClaim struct {
	blob, diffID v1.Hash
	size         int64 // of the blob
	mediaType    types.MediaType
}

// comparableManifest parses the manifest of an image whose layers can be compared with their diff IDs; for others it
// returns errIncomparable. It refuses descriptors with urls, data or annotations, because some runtimes take content
// from there instead of from the blob. It also refuses an image without layers: nothing would show that its config is a
// config.
func comparableManifest(mediaType types.MediaType, raw []byte) (*v1.Manifest, error) {
	m, err := imageManifest(mediaType, raw)
	if err == nil {
		err = image.CheckManifest(mediaType, raw)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errIncomparable, err)
	case len(m.Layers) == 0:
		return nil, fmt.Errorf("%w: it has no layers", errIncomparable)
	case !hasNoOtherSource(m.Config) || !isConfig(m.Config.MediaType):
		return nil, fmt.Errorf(
			"%w: its config is of type %q, or has urls, data or annotations",
			errIncomparable,
			m.Config.MediaType,
		)
	}
	for _, layer := range m.Layers {
		switch {
		case !hasNoOtherSource(layer):
			return nil, fmt.Errorf("%w: layer %s has urls, data or annotations", errIncomparable, layer.Digest)
		case !isCompressed(layer.MediaType) && !isUncompressed(layer.MediaType):
			return nil, fmt.Errorf("%w: layer %s is of type %q", errIncomparable, layer.Digest, layer.MediaType)
		}
	}
	return m, nil
}

// layerClaims returns the statements about the layers of an image that have to be verified, each once.
func layerClaims(m *v1.Manifest, diffIDs []v1.Hash) (map[layerClaim]struct{}, error) {
	if len(diffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: %d layers, %d diff IDs", errOtherLayers, len(m.Layers), len(diffIDs))
	}
	claims := map[layerClaim]struct{}{}
	for i, layer := range m.Layers {
		if isUncompressed(layer.MediaType) && layer.Digest != diffIDs[i] {
			return nil, fmt.Errorf(
				"%w: layer %s is unpacked and hasn't the diff ID %s",
				errOtherLayers,
				layer.Digest,
				diffIDs[i],
			)
		}
		claims[layerClaim{layer.Digest, diffIDs[i], layer.Size, layer.MediaType}] = struct{}{}
	}
	return claims, nil
}

// hasNoOtherSource reports whether only the digest in a descriptor decides where the content comes from.
func hasNoOtherSource(d v1.Descriptor) bool {
	return len(d.URLs) == 0 && d.Data == nil && len(d.Annotations) == 0
}

// compareLayer returns errOtherLayers if a statement about a layer is false.
func (r *Repository) compareLayer(ctx context.Context, c layerClaim, add func(bytes int64)) error {
	var size int64
	var err error
	diffID := c.blob
	if c.blob == c.diffID {
		size, err = r.sizeOf(ctx, c.blob)
	} else {
		size, diffID, err = r.readLayer(ctx, c, add)
	}
	switch {
	case err != nil:
		return fmt.Errorf("reading layer %s: %w", c.blob, err)
	case size != c.size:
		return fmt.Errorf("%w: layer %s has %d bytes, not %d", errOtherLayers, c.blob, size, c.size)
	case diffID != c.diffID:
		return fmt.Errorf("%w: layer %s has the diff ID %s, not %s", errOtherLayers, c.blob, diffID, c.diffID)
	}
	return nil
}

// readLayer downloads a layer and returns the blob's size in bytes and the diff ID. It returns errIncomparable if the
// compression differs from the media type: some runtimes believe the type, others the content, and not all support
// every format.
func (r *Repository) readLayer(
	ctx context.Context,
	c layerClaim,
	add func(bytes int64),
) (_ int64, diffID v1.Hash, err error) {
	blob, err := r.openBlob(ctx, c.blob)
	if err != nil {
		return 0, diffID, err
	}
	defer func() { _ = blob.Close() }()
	var size atomic.Int64 // decompressors read from goroutines of their own
	counted := bufio.NewReader(io.TeeReader(blob, byteCounter(func(n int64) { size.Add(n); add(n) })))
	want := compressionOf(c.mediaType)
	if start, err := counted.Peek(layercheck.MagicSize); layercheck.CompressionOf(start) != want {
		return 0, diffID, errors.Join(fmt.Errorf("%w: not %s, as its type says", errIncomparable, want), err)
	}
	if r.decompress == nil {
		return 0, diffID, fmt.Errorf("%w: nothing decompresses it", errIncomparable)
	}
	layer, _, err := r.decompress(counted)
	if err != nil {
		return 0, diffID, err
	}
	defer func() { _ = layer.Close() }()
	diffID, _, err = v1.SHA256(layer) // to the end of the blob, where its own digest is compared
	return size.Load(), diffID, err
}

// byteCounter is an [io.Writer] that reports the number of bytes written to it.
type byteCounter func(bytes int64)

// Write reports the length of p. It never fails.
func (c byteCounter) Write(p []byte) (int, error) {
	c(int64(len(p)))
	return len(p), nil
}

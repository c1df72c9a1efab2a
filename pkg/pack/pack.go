// Package pack compresses the layers of an unpacked image and creates its manifest. The same image gives the same bytes
// on every machine, whatever the number of cores. Golden digests in its tests guard that against upgrades of the
// compressor.
package pack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/pgzip"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/source"
	"github.com/charmhub-actions/upload-resource/pkg/spool"
)

// What follows decides the digests of packed images. Another level, block size or version of the compressor gives other
// blobs: users would see every image change once, which is why a golden test holds them in place.
const (
	level     = 5
	blockSize = 2 << 20
)

// maxConcurrentBlocks is the maximum number of blocks that are compressed concurrently. More wouldn't help: one core
// reads and hashes an image no faster than eight compress it. Each block takes about 6 MB of memory.
const maxConcurrentBlocks = 8

// Compression is a format for the layers of a packed image, as the input compression names it.
type Compression string

// The compressions that an image can be packed with.
const (
	Gzip Compression = "gzip" // in a Docker schema 2 manifest, which every engine reads
	Zstd Compression = "zstd" // in an OCI manifest: faster both ways, for containerd 1.5, CRI-O and Docker 23 or later
)

// format holds the media types and the compressor of a [Compression].
type format struct {
	manifest, config, layer types.MediaType
	// reuse has the media types of known blobs that fit the manifest, and which they have in there.
	reuse    map[types.MediaType]types.MediaType
	compress func(io.Writer) (io.WriteCloser, error)
}

var formats = map[Compression]format{
	Gzip: {
		types.DockerManifestSchema2, types.DockerConfigJSON, types.DockerLayer,
		map[types.MediaType]types.MediaType{types.DockerLayer: types.DockerLayer, types.OCILayer: types.DockerLayer},
		newGzipWriter,
	},
	Zstd: {
		types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayerZStd,
		map[types.MediaType]types.MediaType{
			types.OCILayerZStd: types.OCILayerZStd, types.DockerLayer: types.OCILayer, types.OCILayer: types.OCILayer,
		},
		func(out io.Writer) (io.WriteCloser, error) { return newZstdWriter(out) },
	},
}

// Options configure [Image]. The zero value compresses every layer with gzip.
type Options struct {
	// Compression is the format of the layers; "" means gzip.
	Compression Compression
	// Known returns the compressed layers of the target repository by diff ID. These layers are neither compressed nor
	// spooled. It is called at most once, when the first layer is read; nil means none.
	Known func() map[v1.Hash]v1.Descriptor
	// Packed, if not nil, is called with each layer when it has been compressed, before the next one is read. It must
	// return soon. The layer can be opened until the image is closed.
	Packed func(v1.Layer)
	// Progress, if not nil, is called with the number of further uncompressed bytes that were read.
	Progress func(n int64)
}

// Packed is an image that [Image] made. Its methods may be called from several goroutines. Close it to free the disk
// space of its layers.
type Packed struct {
	v1.Image
	// Compressed and Reused count distinct layers.
	Compressed, Reused int

	spools   []*spool.File
	byDiffID map[v1.Hash]v1.Descriptor
}

// Blobs returns the descriptors of the compressed layers by diff ID.
func (p *Packed) Blobs() map[v1.Hash]v1.Descriptor { return p.byDiffID }

// Close frees the disk space of the compressed layers.
func (p *Packed) Close() error {
	var errs []error
	for _, s := range p.spools {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Image compresses the layers of u and returns the image with its manifest. The config is kept byte for byte, so the
// image ID stays the same. The result depends only on the config, the layers, opts.Compression and opts.Known. If ctx
// ends, the error is its cause. Close the result.
func Image(ctx context.Context, u *source.Unpacked, opts Options) (*Packed, error) {
	format, ok := formats[cmp.Or(opts.Compression, Gzip)]
	if !ok {
		return nil, fmt.Errorf("compressing layers: %q is no compression; choose gzip or zstd", opts.Compression)
	}
	p := &packer{
		opts: opts, format: format, blobs: map[v1.Hash]*blob{}, diffIDs: map[v1.Hash]bool{},
		bounds: compression.Bounds{Nested: true}, // the archive may be compressed, too
	}
	for _, diffID := range u.DiffIDs {
		p.diffIDs[diffID] = true
	}
	image, err := p.pack(ctx, u)
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	p.Image = image
	p.byDiffID = make(map[v1.Hash]v1.Descriptor, len(p.blobs))
	for diffID, b := range p.blobs {
		p.byDiffID[diffID] = b.descriptor
	}
	return &p.Packed, nil
}

// packer is the state of one call of [Image].
type packer struct {
	Packed
	opts    Options
	format  format
	diffIDs map[v1.Hash]bool
	blobs   map[v1.Hash]*blob  // by diff ID
	reused  bool               // for known blobs
	bounds  compression.Bounds // of layers that come compressed
}

// reuseKnown adds the layers of the repository that fit the manifest. Later calls do nothing.
func (p *packer) reuseKnown() {
	if p.reused || p.opts.Known == nil {
		return
	}
	p.reused = true
	known := p.opts.Known()
	for diffID := range p.diffIDs {
		known := known[diffID]
		if mediaType, ok := p.format.reuse[known.MediaType]; ok {
			p.blobs[diffID] = &blob{descriptor: v1.Descriptor{MediaType: mediaType, Size: known.Size, Digest: known.Digest}}
			p.Reused++
		}
	}
}

// pack reads the image, compresses its layers and returns it.
func (p *packer) pack(ctx context.Context, u *source.Unpacked) (v1.Image, error) {
	done := func() bool { p.reuseKnown(); return len(p.blobs) == len(p.diffIDs) }
	config, err := u.Read(ctx, done, p.layer)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("cannot pack image %s: %w", u.ID, err)
	}
	if config == nil {
		return nil, fmt.Errorf("cannot pack image %s: its export has no config", u.ID)
	}
	return p.image(u, config)
}

// layer compresses one layer, unless it was reused or occurs a second time. The diff ID is zero if the archive doesn't
// name it.
func (p *packer) layer(diffID v1.Hash, content io.Reader) error {
	p.reuseKnown()
	named := diffID != v1.Hash{}
	if _, ok := p.blobs[diffID]; ok && named {
		return nil
	}
	spooled, err := spool.New()
	if err != nil {
		return err
	}
	digest := sha256.New()
	got, err := p.write(content, io.MultiWriter(spooled, digest))
	if err == nil && named && got != diffID {
		err = fmt.Errorf("layer %s has the digest %s: the image is damaged", diffID, got)
	}
	if _, ok := p.blobs[got]; err != nil || ok || !p.diffIDs[got] {
		return errors.Join(err, spooled.Close())
	}
	p.spools = append(p.spools, spooled)
	p.blobs[got] = &blob{
		descriptor: v1.Descriptor{
			MediaType: p.format.layer, Size: spooled.Size(),
			Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest.Sum(nil))},
		},
		content: spooled,
	}
	p.Compressed++
	if p.opts.Packed == nil {
		return nil
	}
	packed, err := partial.CompressedToLayer(p.blobs[got])
	if err == nil {
		p.opts.Packed(packed)
	}
	return err
}

// write compresses a layer to out and returns its diff ID. A layer that the archive already holds compressed is
// decompressed first, so that an image has one digest, whichever tool saved it.
func (p *packer) write(content io.Reader, out io.Writer) (v1.Hash, error) {
	plain, _, err := p.bounds.Decompress(content)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("a layer can't be read: %w", err)
	}
	defer func() { _ = plain.Close() }()
	zip, err := p.format.compress(out)
	if err != nil {
		return v1.Hash{}, err
	}
	diffID := sha256.New()
	_, err = io.Copy(zip, io.TeeReader(plain, io.MultiWriter(diffID, counter(p.opts.Progress))))
	err = cmp.Or(err, zip.Close()) // which fails with the same, if at all
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return v1.Hash{}, fmt.Errorf("a layer is cut short: %w", err)
	case err != nil:
		return v1.Hash{}, fmt.Errorf("a layer can't be compressed: %w", err)
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(diffID.Sum(nil))}, nil
}

// newGzipWriter returns a compressor that uses several cores. Their number doesn't change its output.
func newGzipWriter(w io.Writer) (io.WriteCloser, error) {
	zip, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, err
	}
	return zip, zip.SetConcurrency(blockSize, min(runtime.GOMAXPROCS(0), maxConcurrentBlocks))
}

// image creates the manifest and returns the image.
func (p *packer) image(u *source.Unpacked, config []byte) (v1.Image, error) {
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     p.format.manifest,
		Config:        v1.Descriptor{MediaType: p.format.config, Size: int64(len(config)), Digest: u.ID},
		Layers:        make([]v1.Descriptor, len(u.DiffIDs)),
	}
	core := packed{mediaType: p.format.manifest, config: config, blobs: map[v1.Hash]*blob{}}
	for i, diffID := range u.DiffIDs {
		layer, ok := p.blobs[diffID]
		if !ok {
			return nil, fmt.Errorf("cannot pack image %s: layer %s is missing from its export", u.ID, diffID)
		}
		manifest.Layers[i] = layer.descriptor
		core.blobs[layer.descriptor.Digest] = layer
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return nil, err
	}
	core.manifest = raw
	return partial.CompressedToImage(core)
}

// packed implements [partial.CompressedImageCore].
type packed struct {
	mediaType        types.MediaType
	config, manifest []byte
	blobs            map[v1.Hash]*blob
}

// RawConfigFile returns the config's bytes.
func (p packed) RawConfigFile() ([]byte, error) { return p.config, nil }

// RawManifest returns the manifest's bytes.
func (p packed) RawManifest() ([]byte, error) { return p.manifest, nil }

// MediaType returns the media type of the manifest.
func (p packed) MediaType() (types.MediaType, error) { return p.mediaType, nil }

// LayerByDigest returns the compressed layer with that digest.
func (p packed) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	layer, ok := p.blobs[digest]
	if !ok {
		return nil, fmt.Errorf("the image has no layer %s", digest)
	}
	return layer, nil
}

// blob is a compressed layer. Its content is nil if the repository has it.
type blob struct {
	descriptor v1.Descriptor
	content    *spool.File
}

// Digest returns the digest of the compressed layer.
func (b *blob) Digest() (v1.Hash, error) { return b.descriptor.Digest, nil }

// Size returns the number of compressed bytes.
func (b *blob) Size() (int64, error) { return b.descriptor.Size, nil }

// MediaType returns the media type that the manifest gives the layer.
func (b *blob) MediaType() (types.MediaType, error) { return b.descriptor.MediaType, nil }

// Compressed opens the compressed layer. It fails for a layer that only the repository has.
func (b *blob) Compressed() (io.ReadCloser, error) {
	if b.content == nil {
		return nil, fmt.Errorf(
			"layer %s was in the repository a moment ago and is not any more; run again",
			b.descriptor.Digest,
		)
	}
	return b.content.Open(), nil
}

// counter is an [io.Writer] that reports the number of bytes written to it; nil reports nothing.
type counter func(n int64)

// Write reports the length of p. It never fails.
func (c counter) Write(p []byte) (int, error) {
	if c != nil {
		c(int64(len(p)))
	}
	return len(p), nil
}

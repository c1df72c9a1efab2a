// Package pack makes manifest-backed images of uncompressed ones: the same
// bytes on every machine, however many cores it has. Its golden digests guard
// that against upgrades of the compressor.
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

// What follows decides the digests of packed images. Another level, block
// size or version of the compressor gives other blobs: users would see every
// image change once, which is why a golden test holds them in place.
const (
	level     = 5
	blockSize = 2 << 20
)

// maxConcurrentBlocks is how many blocks are compressed at once, at most. One core
// reads an image and takes its digests no faster than this many compress it, and
// each block takes some 6 MB of memory.
const maxConcurrentBlocks = 8

// Compression is how the layers of a packed image are compressed.
type Compression string

// The compressions that an image can be packed with.
const (
	Gzip Compression = "gzip" // in a Docker schema 2 manifest, which every engine reads
	Zstd Compression = "zstd" // in an OCI manifest: faster both ways, for containerd 1.5, CRI-O and Docker 23 or later
)

// form is what an image of one compression is made of.
type form struct {
	manifest, config, layer types.MediaType
	// reuse has the media types of known blobs that fit the manifest, and
	// which they have in there.
	reuse    map[types.MediaType]types.MediaType
	compress func(io.Writer) (io.WriteCloser, error)
}

var forms = map[Compression]form{
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

// Options say how Image works; the zero value is good.
type Options struct {
	// Compression is how layers are compressed; gzip if empty.
	Compression Compression
	// Known returns the compressed blobs that the target repository is known to have, by diff ID; nil knows none. Their
	// layers are neither compressed nor spooled. It is called when the first of them is needed, once the export has begun.
	Known func() map[v1.Hash]v1.Descriptor
	// Packed, if not nil, is called with each layer as soon as it is compressed, before the next one is read. It must not
	// wait for long. The layer can be opened until the image is closed.
	Packed func(v1.Layer)
	// Progress is called with each number of uncompressed bytes read.
	Progress func(n int64)
}

// Packed is the image that [Image] makes. Close it to drop its blobs.
type Packed struct {
	v1.Image
	// Compressed and Reused count distinct layers.
	Compressed, Reused int

	spools   []*spool.File
	byDiffID map[v1.Hash]v1.Descriptor
}

// Blobs returns the blobs of the layers by their diff IDs.
func (p *Packed) Blobs() map[v1.Hash]v1.Descriptor { return p.byDiffID }

// Close drops the compressed layers.
func (p *Packed) Close() error {
	var errs []error
	for _, s := range p.spools {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Image makes a manifest-backed image of an uncompressed one. Its config is the
// original's to the byte, so that its image ID stays. Its layers are compressed
// in one pass on many cores. The result depends on the config, the layers, and
// opts.Compression and opts.Known alone.
func Image(ctx context.Context, u *source.Unpacked, opts Options) (*Packed, error) {
	form, ok := forms[cmp.Or(opts.Compression, Gzip)]
	if !ok {
		return nil, fmt.Errorf("compressing layers: %q is no compression; choose gzip or zstd", opts.Compression)
	}
	p := &packer{
		opts: opts, form: form, blobs: map[v1.Hash]*blob{}, wanted: map[v1.Hash]bool{},
		bounds: compression.Bounds{Nested: true}, // the archive may be compressed, too
	}
	for _, diffID := range u.DiffIDs {
		p.wanted[diffID] = true
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

type packer struct {
	Packed
	opts   Options
	form   form
	wanted map[v1.Hash]bool
	blobs  map[v1.Hash]*blob  // by diff ID
	asked  bool               // for known blobs
	bounds compression.Bounds // of layers that come compressed
}

// reuseKnown takes the known blobs that fit the manifest, the first time that it is called.
func (p *packer) reuseKnown() {
	if p.asked || p.opts.Known == nil {
		return
	}
	p.asked = true
	known := p.opts.Known()
	for diffID := range p.wanted {
		known := known[diffID]
		if mediaType, ok := p.form.reuse[known.MediaType]; ok {
			p.blobs[diffID] = &blob{descriptor: v1.Descriptor{MediaType: mediaType, Size: known.Size, Digest: known.Digest}}
			p.Reused++
		}
	}
}

func (p *packer) pack(ctx context.Context, u *source.Unpacked) (v1.Image, error) {
	done := func() bool { p.reuseKnown(); return len(p.blobs) == len(p.wanted) }
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

// layer compresses one layer, unless that blob is there already.
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
	if _, ok := p.blobs[got]; err != nil || ok || !p.wanted[got] {
		return errors.Join(err, spooled.Close())
	}
	p.spools = append(p.spools, spooled)
	p.blobs[got] = &blob{
		descriptor: v1.Descriptor{
			MediaType: p.form.layer, Size: spooled.Size(),
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

// write writes a layer's content, compressed, to out, and returns its diff ID. Some tools save layers that are compressed already, each in its way: those
// are decompressed first, so that one image ends in one digest whichever way it came.
func (p *packer) write(content io.Reader, out io.Writer) (v1.Hash, error) {
	plain, _, err := p.bounds.Decompress(content)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("a layer can't be read: %w", err)
	}
	defer func() { _ = plain.Close() }()
	zip, err := p.form.compress(out)
	if err != nil {
		return v1.Hash{}, err
	}
	diffID := sha256.New()
	_, err = io.Copy(io.MultiWriter(diffID, zip, counter(p.opts.Progress)), plain)
	err = cmp.Or(err, zip.Close()) // which fails with the same, if at all
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return v1.Hash{}, fmt.Errorf("a layer is cut short: %w", err)
	case err != nil:
		return v1.Hash{}, fmt.Errorf("a layer can't be compressed: %w", err)
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(diffID.Sum(nil))}, nil
}

// newGzipWriter compresses on all cores that can be kept busy; how many these
// are doesn't change its output.
func newGzipWriter(w io.Writer) (io.WriteCloser, error) {
	zip, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, err
	}
	return zip, zip.SetConcurrency(blockSize, min(runtime.GOMAXPROCS(0), maxConcurrentBlocks))
}

// image assembles the manifest.
func (p *packer) image(u *source.Unpacked, config []byte) (v1.Image, error) {
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     p.form.manifest,
		Config:        v1.Descriptor{MediaType: p.form.config, Size: int64(len(config)), Digest: u.ID},
		Layers:        make([]v1.Descriptor, len(u.DiffIDs)),
	}
	core := packed{mediaType: p.form.manifest, config: config, blobs: map[v1.Hash]*blob{}}
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

// packed is the least that go-containerregistry needs to know of an image.
type packed struct {
	mediaType        types.MediaType
	config, manifest []byte
	blobs            map[v1.Hash]*blob
}

func (p packed) RawConfigFile() ([]byte, error)      { return p.config, nil }
func (p packed) RawManifest() ([]byte, error)        { return p.manifest, nil }
func (p packed) MediaType() (types.MediaType, error) { return p.mediaType, nil }
func (p packed) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	layer, ok := p.blobs[digest]
	if !ok {
		return nil, fmt.Errorf("the image has no layer %s", digest)
	}
	return layer, nil
}

// blob is a compressed layer: spooled here, or known to be in the repository.
type blob struct {
	descriptor v1.Descriptor
	content    *spool.File
}

func (b *blob) Digest() (v1.Hash, error)            { return b.descriptor.Digest, nil }
func (b *blob) Size() (int64, error)                { return b.descriptor.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.descriptor.MediaType, nil }

func (b *blob) Compressed() (io.ReadCloser, error) {
	if b.content == nil {
		return nil, fmt.Errorf("layer %s was in the repository a moment ago and is not any more; run again", b.descriptor.Digest)
	}
	return b.content.Open(), nil
}

// counter is an [io.Writer] that reports how much passed through it.
type counter func(n int64)

func (c counter) Write(p []byte) (int, error) {
	if c != nil {
		c(int64(len(p)))
	}
	return len(p), nil
}

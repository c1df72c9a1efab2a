package image

import (
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
)

// What follows decides the digests of packed images. Another level, block
// size or version of the compressor gives other blobs: users would see every
// image change once, which is why a golden test holds them in place.
const (
	level     = 5
	blockSize = 2 << 20
)

// most is how many blocks are compressed at once, at most. One core reads an
// image and takes its digests no faster than this many compress it, and each
// block takes some 6 MB of memory.
const most = 8

// PackOptions says how Pack works; the zero value is good.
type PackOptions struct {
	// Known has the compressed blobs that the target repository is known to
	// have, by diff ID. Their layers are neither compressed nor spooled.
	Known map[v1.Hash]v1.Descriptor
	// Dir is the folder for compressed layers, the system's if empty.
	Dir string
	// Progress is called with each number of uncompressed bytes read.
	Progress func(n int64)
}

// Packed is an addressed image made by Pack. Close it to drop its blobs.
type Packed struct {
	v1.Image
	// Compressed and Reused count distinct layers.
	Compressed, Reused int

	spools   []*spool
	byDiffID map[v1.Hash]v1.Descriptor
}

// Blobs returns the blobs of the layers by their diff IDs.
func (p *Packed) Blobs() map[v1.Hash]v1.Descriptor { return p.byDiffID }

// Close drops the compressed layers.
func (p *Packed) Close() error {
	var errs []error
	for _, s := range p.spools {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// Pack makes an addressed image of an unpacked one: a Docker schema 2 image
// whose config is the original's to the byte, so that its image ID stays.
// Its layers are compressed in one pass on many cores. The result depends on
// the config, the layers and opts.Known alone.
func Pack(ctx context.Context, u *Unpacked, opts PackOptions) (*Packed, error) {
	p := &packer{opts: opts, blobs: map[v1.Hash]*blob{}, wanted: map[v1.Hash]bool{}}
	for _, diffID := range u.DiffIDs {
		p.wanted[diffID] = true
	}
	p.reuse()
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
	opts   PackOptions
	wanted map[v1.Hash]bool
	blobs  map[v1.Hash]*blob // by diff ID
}

// reuse takes the known blobs that fit a Docker schema 2 manifest.
func (p *packer) reuse() {
	for diffID := range p.wanted {
		known, ok := p.opts.Known[diffID]
		if !ok || known.MediaType != types.DockerLayer && known.MediaType != types.OCILayer {
			continue
		}
		p.blobs[diffID] = &blob{descriptor: v1.Descriptor{MediaType: types.DockerLayer, Size: known.Size, Digest: known.Digest}}
		p.Reused++
	}
}

func (p *packer) pack(ctx context.Context, u *Unpacked) (v1.Image, error) {
	done := func() bool { return u.config != nil && len(p.blobs) == len(p.wanted) }
	if err := u.walk(ctx, done, p.layer); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("cannot pack image %s: %w", u.ID, err)
	}
	if u.config == nil {
		return nil, fmt.Errorf("cannot pack image %s: its export has no config", u.ID)
	}
	return p.image(u)
}

// layer compresses one layer, unless that blob is there already.
func (p *packer) layer(diffID v1.Hash, content io.Reader) error {
	named := diffID != v1.Hash{}
	if _, ok := p.blobs[diffID]; ok && named {
		return nil
	}
	spooled, err := newSpool(p.opts.Dir)
	if err != nil {
		return err
	}
	got, err := p.compress(content, spooled)
	if err == nil && named && got != diffID {
		err = fmt.Errorf("layer %s has the digest %s: the image is damaged", diffID, got)
	}
	if _, ok := p.blobs[got]; err != nil || ok || !p.wanted[got] {
		return errors.Join(err, spooled.close())
	}
	p.spools = append(p.spools, spooled)
	p.blobs[got] = &blob{
		descriptor: v1.Descriptor{MediaType: types.DockerLayer, Size: spooled.size, Digest: spooled.digest()},
		content:    spooled,
	}
	p.Compressed++
	return nil
}

// compress writes a layer's content, compressed, to out, and returns its diff
// ID. Some tools save layers that are compressed already, each in its way: those
// are unpacked first, so that one image ends in one digest whichever way it came.
func (p *packer) compress(content io.Reader, out io.Writer) (v1.Hash, error) {
	plain, _, err := decompress(content)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("a layer can't be read: %w", err)
	}
	defer func() { _ = plain.Close() }()
	zip, err := newCompressor(out)
	if err != nil {
		return v1.Hash{}, err
	}
	diffID := sha256.New()
	_, err = io.Copy(io.MultiWriter(diffID, zip, counter(p.opts.Progress)), plain)
	err = errors.Join(err, zip.Close())
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return v1.Hash{}, fmt.Errorf("a layer is cut short: %w", err)
	case err != nil:
		return v1.Hash{}, fmt.Errorf("a layer can't be compressed: %w", err)
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(diffID.Sum(nil))}, nil
}

// newCompressor compresses on all cores that can be kept busy; how many these
// are doesn't change its output.
func newCompressor(w io.Writer) (*pgzip.Writer, error) {
	zip, err := pgzip.NewWriterLevel(w, level)
	if err != nil {
		return nil, err
	}
	return zip, zip.SetConcurrency(blockSize, min(runtime.GOMAXPROCS(0), most))
}

// image assembles the manifest.
func (p *packer) image(u *Unpacked) (v1.Image, error) {
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.DockerManifestSchema2,
		Config:        v1.Descriptor{MediaType: types.DockerConfigJSON, Size: int64(len(u.config)), Digest: u.ID},
		Layers:        make([]v1.Descriptor, len(u.DiffIDs)),
	}
	core := packed{config: u.config, blobs: map[v1.Hash]*blob{}}
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
	config, manifest []byte
	blobs            map[v1.Hash]*blob
}

func (p packed) RawConfigFile() ([]byte, error)      { return p.config, nil }
func (p packed) RawManifest() ([]byte, error)        { return p.manifest, nil }
func (p packed) MediaType() (types.MediaType, error) { return types.DockerManifestSchema2, nil }
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
	content    *spool
}

func (b *blob) Digest() (v1.Hash, error)            { return b.descriptor.Digest, nil }
func (b *blob) Size() (int64, error)                { return b.descriptor.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.descriptor.MediaType, nil }

func (b *blob) Compressed() (io.ReadCloser, error) {
	if b.content == nil {
		return nil, fmt.Errorf("layer %s was in the repository a moment ago and is not any more; run again", b.descriptor.Digest)
	}
	return b.content.open(), nil
}

// counter is an [io.Writer] that reports how much passed through it.
type counter func(n int64)

func (c counter) Write(p []byte) (int, error) {
	if c != nil {
		c(int64(len(p)))
	}
	return len(p), nil
}

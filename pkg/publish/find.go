package publish

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// found is an image with the digest that it has, or will have, in the charm's
// repository.
type found struct {
	image.ImageOrIndex
	source    v1.Hash       // what it was called where it came from
	present   bool          // proven to be in the repository
	platforms []v1.Platform // nil where only the image itself says it
	records   []record      // to be written when the image is there
	packs     []*pack.Packed
	known
}

// known is what was read of a repository so far.
type known struct {
	hints registry.Hints
	held  registry.Layers // that the repository holds; nil if not asked for
}

// record says which sources are in the repository as an image. Verified is whether
// every layer of it was packed here, or compared with its diff ID.
type record struct {
	image    image.ImageOrIndex
	sources  []v1.Hash
	verified bool
}

// verify notes that every layer of the image itself was compared.
func (f *found) verify() {
	digest, err := f.Digest()
	if err != nil {
		return
	}
	for n := range f.records {
		if recorded, err := f.records[n].image.Digest(); err == nil && recorded == digest {
			f.records[n].verified = true
			return
		}
	}
	f.records = append(f.records, record{image: f.ImageOrIndex, verified: true})
}

// packed are the layers that were packed, by their diff IDs.
func (f *found) packed() registry.Layers {
	all := registry.Layers{}
	for _, packed := range f.packs {
		maps.Copy(all, packed.Blobs())
	}
	return all
}

func (f *found) close() {
	for _, packed := range f.packs {
		_ = packed.Close()
	}
}

// find makes one image of what was opened: found in the repository, as it is,
// packed, or joined of several. Of nothing it makes the image that is recorded under
// the key, nil if there is none.
func (p *Publisher) find(ctx context.Context, repo Repository, all []opened, platform *v1.Platform) (*found, error) {
	if len(all) == 0 {
		img, source, err := repo.Keyed(ctx, p.Key)
		if img == nil || err != nil {
			return nil, err
		}
		return present(img, source, platform, known{})
	}
	joined := &found{}
	var parts []image.Part
	for n := range all {
		one, err := p.findPart(ctx, repo, &all[n], platform, joined.known)
		if err != nil {
			joined.close()
			return nil, err
		}
		if len(all) == 1 && all[n].Platform == nil {
			return one, nil
		}
		joined.known = one.known
		joined.packs = append(joined.packs, one.packs...)
		joined.records = append(joined.records, slices.DeleteFunc(one.records, func(r record) bool {
			_, index := r.image.(v1.ImageIndex) // what it lists goes into the joined index, itself it isn't pushed
			return index
		})...)
		parts = append(parts, image.Part{Name: all[n].Text, Image: one.ImageOrIndex, Platform: all[n].Platform})
	}
	index, err := image.Join(parts)
	if err == nil {
		joined.ImageOrIndex = index
		joined.source, err = index.Digest()
	}
	if err != nil {
		joined.close()
		return nil, fmt.Errorf("cannot join the images into one index: %w", err)
	}
	return joined, nil
}

func (p *Publisher) findPart(ctx context.Context, repo Repository, o *opened, platform *v1.Platform, k known) (*found, error) {
	// What an engine knows as an image ID can't be a manifest's digest.
	if digest, full := o.Digest(); full && (o.source == nil || o.source.Digest != digest) {
		there := registry.Found{Hints: k.hints}
		var err error
		if o.Kind == source.KindDigest && o.source == nil { // it may be an image ID that no engine has any more
			there, err = repo.Locate(ctx, registry.Identity{Digest: digest}, k.hints)
		} else {
			there.Image, err = repo.Manifest(ctx, digest)
		}
		if err != nil {
			return nil, err
		}
		if k.hints = there.Hints; there.Image != nil {
			return present(there.Image, digest, platform, k)
		}
	}
	if o.Kind == source.KindRegistry {
		var err error
		if o.source, err = p.Sources.Open(ctx, o.Reference); err != nil {
			return nil, err
		}
	}
	switch {
	case o.err != nil:
		return nil, explainNotFound(*o, repo)
	case o.source.Stored != nil:
		return p.findStored(ctx, repo, *o, platform, k)
	case o.source.Image != nil:
		m, err := choose(o.source.Image, platform)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Text, err)
		}
		return &found{ImageOrIndex: m, source: o.source.Digest, known: k}, nil
	default:
		return p.findUncompressed(ctx, repo, *o, platform, k)
	}
}

// choose takes the one image for the platform that was asked for, if one was.
func choose(m image.ImageOrIndex, platform *v1.Platform) (image.ImageOrIndex, error) {
	if platform == nil {
		return m, nil
	}
	return image.SelectPlatform(m, *platform)
}

// present returns an image that is in the repository. What is chosen of an
// index there, is there, too.
func present(there image.ImageOrIndex, source v1.Hash, platform *v1.Platform, k known) (*found, error) {
	m, err := choose(there, platform)
	if err != nil {
		return nil, fmt.Errorf("%s in the charm's repository: %w", source, err)
	}
	return &found{ImageOrIndex: m, source: source, present: true, known: k}, nil
}

// findStored looks in the repository for an image of an engine with the containerd
// image store, by its digest or as one that differs in attestations alone. The
// engine exports it only if it isn't there.
func (p *Publisher) findStored(ctx context.Context, repo Repository, o opened, platform *v1.Platform, k known) (*found, error) {
	digest, images := o.source.Digest, o.source.Stored.Images
	if platform == nil && len(images) > 0 {
		f, err := p.findIndex(ctx, repo, digest, registry.Identity{Digest: digest, Images: images}, k)
		if err != nil || f.present {
			return f, err
		}
		k = f.known
	} else {
		there, err := repo.Manifest(ctx, digest)
		if child, ok := wanted(images, platform); ok && err == nil && there == nil {
			there, err = repo.Manifest(ctx, child.Digest)
		}
		if err != nil {
			return nil, err
		}
		if there != nil {
			return present(there, digest, platform, k)
		}
	}

	m, err := o.source.Stored.Read(ctx)
	if err == nil {
		m, err = choose(m, platform)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Text, err)
	}
	f := &found{ImageOrIndex: m, source: digest, known: k}
	index, ok := m.(v1.ImageIndex)
	if !ok || platform != nil {
		return f, nil
	}
	if images == nil {
		raw, err := index.RawManifest()
		if err != nil {
			return nil, explain([]opened{o}, m, err)
		}
		if images = image.RunnableImages(raw); images != nil { // the index's digest was asked for above
			there, err := p.findIndex(ctx, repo, digest, registry.Identity{Images: images}, k)
			if err != nil || there.present {
				return there, err
			}
			f.known = there.known
		}
	}
	if len(images) > 0 {
		f.records = []record{{image: m, sources: []v1.Hash{images[0].Digest}}}
	}
	return f, nil
}

// findIndex finds an index in the repository, perhaps with other attestations than
// the source has: each cached build of an image makes new ones, and thereby another
// index. Where there is none, the result says only what is known.
func (p *Publisher) findIndex(ctx context.Context, repo Repository, source v1.Hash, id registry.Identity, k known) (*found, error) {
	there, err := repo.Locate(ctx, id, k.hints)
	if err != nil {
		return nil, err
	}
	k.hints = there.Hints
	if there.Image == nil {
		return &found{known: k}, nil
	}
	if digest, err := there.Image.Digest(); err == nil && digest != source {
		p.Runner.Logger().Info("The registry has the images of this index: only attestations differ",
			zap.Stringer("source", source), zap.Stringer("remote", digest))
	}
	return present(there.Image, source, nil, k)
}

// wanted returns the image for the platform that was asked for.
func wanted(images []v1.Descriptor, platform *v1.Platform) (v1.Descriptor, bool) {
	if platform == nil {
		return v1.Descriptor{}, false
	}
	platforms := make([]v1.Platform, len(images))
	for n, d := range images {
		platforms[n] = *d.Platform
	}
	at := image.Prefer(platforms, *platform)
	if at < 0 {
		return v1.Descriptor{}, false
	}
	return images[at], true
}

// findUncompressed finds an image in the repository by its ID, or packs it.
func (p *Publisher) findUncompressed(ctx context.Context, repo Repository, o opened, platform *v1.Platform, k known) (*found, error) {
	u := o.source.Uncompressed
	if platform != nil && !image.Satisfies(u.Platform, *platform) {
		return nil, fmt.Errorf("%s runs on %s, not on %s", o.Text, cmp.Or(u.Platform.String(), "no platform that its config tells"), platform)
	}
	there, err := repo.Locate(ctx, registry.Identity{Digest: u.ID, DiffIDs: append([]v1.Hash{}, u.DiffIDs...)}, k.hints)
	if err != nil {
		return nil, err
	}
	k.hints = there.Hints
	var f *found
	if there.Image != nil {
		// Found by an existing record or tag, so none is written.
		f, err = present(there.Image, o.source.Digest, platform, k)
	} else {
		f, err = p.pack(ctx, repo, o, k)
	}
	if err != nil {
		return nil, err
	}
	f.platforms = []v1.Platform{u.Platform}
	return f, nil
}

func (p *Publisher) pack(ctx context.Context, repo Repository, o opened, k known) (*found, error) {
	defer p.Runner.Group("Pack the image")()
	u := o.source.Uncompressed
	add, done := p.Runner.Progress("Compressing layers", u.Size)
	defer done()
	if k.held == nil {
		k.held = repo.Layers(ctx, k.hints)
	}
	packed, err := pack.Image(ctx, u, pack.Options{Compression: p.Compression, Known: k.held, Progress: add})
	if err != nil {
		return nil, during(stageCompress, fmt.Errorf("%s: %w", o.Text, err))
	}
	p.Runner.Logger().Info(fmt.Sprintf("Packed %s: %s compressed, %d known to the registry",
		o.source.Digest, plural(packed.Compressed, "layer"), packed.Reused))
	return &found{
		ImageOrIndex: packed, source: o.source.Digest, known: k, packs: []*pack.Packed{packed},
		records: []record{{image: packed, sources: []v1.Hash{u.ID}, verified: true}},
	}, nil
}

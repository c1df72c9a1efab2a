package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
)

// addressed is an image that is ready to travel, or to stay: its digest is
// the one that it will have in the charm's repository.
type addressed struct {
	image.Manifest
	source    v1.Hash       // what it was called where it came from
	present   bool          // proven to be in the repository
	platforms []v1.Platform // nil if only the image itself can tell
	records   []record      // to be written when the image is there
	packed    []*image.Packed
}

// record says that a source is in the repository under another digest.
// Verified is whether every layer there was packed here.
type record struct {
	source, remote v1.Hash
	verified       bool
}

// layers are the blobs of what was packed, by the diff IDs that they have.
func (a *addressed) layers() map[v1.Hash]v1.Descriptor {
	all := map[v1.Hash]v1.Descriptor{}
	for _, p := range a.packed {
		maps.Copy(all, p.Blobs())
	}
	return all
}

func (a *addressed) close() {
	for _, p := range a.packed {
		_ = p.Close()
	}
}

// runsOn returns the platforms of the image.
func (a *addressed) runsOn() ([]v1.Platform, error) {
	if a.platforms != nil {
		return a.platforms, nil
	}
	return image.Platforms(a.Manifest)
}

// architectures returns Charmhub's names for those platforms that are Linux, or
// "all" if it has a name for none, which is what such an image is recorded for.
func architectures(platforms []v1.Platform) []string {
	var all []string
	for _, p := range platforms {
		p = image.Normalize(p)
		if name, ok := charmhub.DebianArch(p.Architecture); ok && p.OS == "linux" {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return []string{"all"}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// address turns what was opened into one addressed image: found in the
// repository, as it is, packed, or joined of several. The result is to be
// closed, also after an error.
func (i *imageJob) address(ctx context.Context) (*addressed, error) {
	whole := &addressed{}
	var parts []image.Part
	for n := range i.opened {
		o := &i.opened[n]
		one, err := i.addressOne(ctx, o)
		if err != nil {
			return whole, err
		}
		whole.packed = append(whole.packed, one.packed...)
		whole.records = append(whole.records, one.records...)
		parts = append(parts, image.Part{Name: o.Text, Manifest: one.Manifest, Platform: o.platform})
		if len(i.opened) == 1 && o.platform == nil {
			return one, nil
		}
	}
	joined, err := image.Join(parts)
	if err != nil {
		return whole, fmt.Errorf("cannot join the images into one index: %w", err)
	}
	whole.Manifest = joined
	whole.source, err = joined.Digest()
	return whole, err
}

func (i *imageJob) addressOne(ctx context.Context, o *opened) (*addressed, error) {
	digest, whole := o.Whole()
	switch {
	case whole && o.Kind == image.KindDigest && o.source == nil: // it may be an image ID that no engine has any more
		located, found, err := i.repo.Locate(ctx, registry.Identity{Digest: digest})
		if err != nil {
			return nil, err
		}
		if found {
			return i.present(located.Descriptor, digest)
		}
	case whole && (o.source == nil || o.source.Digest != digest): // what an engine knows as an image ID can't be a manifest's digest
		d, found, err := i.repo.Manifest(ctx, digest)
		if err != nil {
			return nil, err
		}
		if found {
			return i.present(d, digest)
		}
	}
	if o.Kind == image.KindRegistry {
		var err error
		if o.source, err = i.opener.Open(ctx, o.Reference); err != nil {
			return nil, err
		}
	}
	switch {
	case o.err != nil:
		return nil, i.nowhere(*o)
	case o.source.Stored != nil:
		return i.addressStored(ctx, *o)
	case o.source.Addressed != nil:
		m, err := i.choose(o.source.Addressed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Text, err)
		}
		return &addressed{Manifest: m, source: o.source.Digest}, nil
	default:
		return i.addressUnpacked(ctx, *o)
	}
}

// nowhere explains that a digest is in neither place that was looked at. A
// shortened one was looked for in the engine alone.
func (i *imageJob) nowhere(o opened) error {
	_, whole := o.Whole()
	var unknown *image.NotFoundError
	switch {
	case !errors.As(o.err, &unknown) && whole:
		return fmt.Errorf("image %s is not in the charm's repository %s, and %w", o.Text, i.repo.Name(), o.err)
	case unknown == nil:
		return o.err
	case whole:
		return fmt.Errorf("image %s is unknown: neither the charm's repository %s nor %s has it; %s",
			o.Text, i.repo.Name(), unknown.Place, makeIt)
	default:
		return fmt.Errorf("image %s is unknown: %s has none by that ID or digest; %s, "+
			"or give the whole digest of one in the charm's repository", o.Text, unknown.Place, makeIt)
	}
}

const makeIt = "build, load or pull it in an earlier step of the same job"

// choose takes the one image for the platform that was asked for, if one was.
func (i *imageJob) choose(m image.Manifest) (image.Manifest, error) {
	if i.platform == nil {
		return m, nil
	}
	return image.SelectPlatform(m, *i.platform)
}

// present returns an image that is in the repository. What is chosen of an
// index there, is there, too.
func (i *imageJob) present(d *remote.Descriptor, source v1.Hash) (*addressed, error) {
	var m image.Manifest
	var err error
	if d.MediaType.IsIndex() {
		m, err = d.ImageIndex()
	} else {
		m, err = d.Image()
	}
	if err != nil {
		return nil, err
	}
	m, err = i.choose(m)
	if err != nil {
		return nil, fmt.Errorf("%s in the charm's repository: %w", source, err)
	}
	return &addressed{Manifest: m, source: source, present: true}, nil
}

// addressStored finds an image of an engine that keeps manifests in the
// repository, by its digest or as one that differs in attestations alone, and
// has it exported only if it isn't there.
func (i *imageJob) addressStored(ctx context.Context, o opened) (*addressed, error) {
	d, found, err := i.repo.Manifest(ctx, o.source.Digest)
	if err != nil {
		return nil, err
	}
	if found {
		return i.present(d, o.source.Digest)
	}
	stored := o.source.Stored
	if i.platform == nil {
		if a, err := i.addressRebuilt(ctx, o, stored.Images); a != nil || err != nil {
			return a, err
		}
	} else if child, ok := i.wanted(stored.Images); ok {
		d, found, err := i.repo.Manifest(ctx, child.Digest)
		if err != nil {
			return nil, err
		}
		if found {
			return i.present(d, o.source.Digest)
		}
	}
	m, err := stored.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Text, err)
	}
	chosen, err := i.choose(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Text, err)
	}
	a := &addressed{Manifest: chosen, source: o.source.Digest}
	images := stored.Images
	if m, ok := chosen.(v1.ImageIndex); ok && i.platform == nil {
		if images == nil {
			if images, err = runnableImages(m); err != nil {
				return nil, i.explain(a, err)
			}
			if there, err := i.addressRebuilt(ctx, o, images); there != nil || err != nil {
				return there, err
			}
		}
		if len(images) > 0 {
			a.records = []record{{source: images[0].Digest, remote: o.source.Digest}}
		}
	}
	return a, nil
}

// wanted returns the image for the platform that was asked for.
func (i *imageJob) wanted(images []v1.Descriptor) (v1.Descriptor, bool) {
	platforms := make([]v1.Platform, len(images))
	for n, d := range images {
		platforms[n] = *d.Platform
	}
	at := image.Prefer(platforms, *i.platform)
	if at < 0 {
		return v1.Descriptor{}, false
	}
	return images[at], true
}

func runnableImages(index v1.ImageIndex) ([]v1.Descriptor, error) {
	raw, err := index.RawManifest()
	return image.RunnableImages(raw), err
}

// addressRebuilt finds an index in the repository that has the same images to
// run: each cached build of an image makes new attestations for it, and thereby
// another index. It is nil without an error where there is none.
func (i *imageJob) addressRebuilt(ctx context.Context, o opened, images []v1.Descriptor) (*addressed, error) {
	if len(images) == 0 {
		return nil, nil
	}
	for _, d := range i.repo.Hinted(ctx, images[0].Digest) {
		if d.MediaType.IsIndex() && image.SameImages(images, image.RunnableImages(d.Manifest)) {
			i.log.Info(fmt.Sprintf("%s has the images of %s, which is in the registry: only attestations differ",
				o.source.Digest, d.Digest))
			return i.present(d, o.source.Digest)
		}
	}
	return nil, nil
}

// addressUnpacked finds an image in the repository by its ID, or packs it.
func (i *imageJob) addressUnpacked(ctx context.Context, o opened) (*addressed, error) {
	unpacked := o.source.Unpacked
	if i.platform != nil && !image.Satisfies(unpacked.Platform, *i.platform) {
		return nil, fmt.Errorf("%s runs on %s, not on %s", o.Text, cmp.Or(unpacked.Platform.String(), "no platform that its config tells"), i.platform)
	}
	located, found, err := i.repo.Locate(ctx, registry.Identity{Digest: unpacked.ID, DiffIDs: append([]v1.Hash{}, unpacked.DiffIDs...)})
	if err != nil {
		return nil, err
	}
	var a *addressed
	if found {
		// The way that led here leads here next time: there is nothing to record.
		a, err = i.present(located.Descriptor, o.source.Digest)
	} else {
		a, err = i.pack(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	a.platforms = []v1.Platform{unpacked.Platform}
	return a, nil
}

func (i *imageJob) pack(ctx context.Context, o opened) (*addressed, error) {
	i.doing = compressing
	defer i.group("Pack the image")()
	progress := i.progress("Compressing layers", o.source.Unpacked.Size)
	defer progress.Done()
	packed, err := image.Pack(ctx, o.source.Unpacked, image.PackOptions{
		Known: i.repo.Known(ctx), Progress: progress.Add,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Text, err)
	}
	i.log.Info(fmt.Sprintf("Packed %s: %s compressed, %d known to the registry",
		o.source.Digest, plural(packed.Compressed, "layer"), packed.Reused))
	a := &addressed{Manifest: packed, source: o.source.Digest, packed: []*image.Packed{packed}}
	digest, err := packed.Digest()
	a.records = []record{{source: o.source.Unpacked.ID, remote: digest, verified: true}}
	return a, err
}

package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// imageRun is the upload of one image.
type imageRun struct {
	*Publisher
	target     Target
	earlier    listing
	login      charmhub.RegistryCredentials
	repository Repository
	parts      []*openedPart
	packed     []*pack.Packed // their layers are needed until the image is sent

	single bool    // there is one part, and no platform is selected
	digest v1.Hash // of the image's manifest, if it was known at the start; else zero
	// text returns the text that describes the image with that digest to Juju, or nil if the store gave none. It is nil
	// if digest is zero.
	text func() []byte

	ctx    context.Context //nolint:containedctx // for blobs that are sent early; it ends when the run is closed
	cancel context.CancelFunc
	early  parallel.Group
}

// openedPart is a part whose source was opened. If the source lacks the image, the charm's repository may still have
// it.
type openedPart struct {
	Part
	source source.Source // nil if it couldn't be opened, or is in a registry and isn't needed yet
	err    error

	remote       func() (source.Source, error) // opens an image in a registry, and returns the same from then on; else nil
	remoteSource source.Source                 // what remote has opened
}

// targetImage is an image that is in the charm's repository, or will be.
type targetImage struct {
	image     image.ImageOrIndex
	source    v1.Hash       // the digest that it has where it comes from
	present   bool          // the repository provably has it
	compared  bool          // this run has proven that every layer has the diff ID in the image's config
	platforms []v1.Platform // nil if only the image itself says it
	// recordUnder is the digest of the first image in an engine's index, under which the index is recorded: if the index
	// is built again with other attestations, it still has this image. It is zero for other images.
	recordUnder v1.Hash
	parts       []*targetImage
}

// locate returns the image to publish: found in the repository, read from its source, packed, or joined from several.
// With no parts, it returns the image recorded under the key, or nil if none is recorded.
func (r *imageRun) locate(ctx context.Context, platform *v1.Platform) (*targetImage, error) {
	switch {
	case len(r.parts) == 0:
		keyed, err := r.repository.FindKey(ctx, r.Key)
		if err != nil || keyed.Image == nil {
			return nil, err
		}
		return foundImage(registry.Found{Image: keyed.Image}, keyed.Source, platform)
	case len(r.parts) == 1 && r.parts[0].Platform == nil:
		return r.locatePart(ctx, r.parts[0], platform)
	}
	return r.join(ctx, platform)
}

// join locates all parts and joins them into an index.
func (r *imageRun) join(ctx context.Context, platform *v1.Platform) (*targetImage, error) {
	joined := &targetImage{}
	var parts []image.Part
	for _, part := range r.parts {
		one, err := r.locatePart(ctx, part, platform)
		if err != nil {
			return nil, err
		}
		parts = append(parts, image.Part{Name: part.Text, Image: one.image, Platform: part.Platform})
		if _, index := one.image.(v1.ImageIndex); !index { // of an index, only the entries become part of the joined index
			joined.parts = append(joined.parts, one)
		}
	}
	index, err := image.Join(parts)
	if err == nil {
		joined.image = index
		joined.source, err = index.Digest()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot join the images into one index: %w", err)
	}
	return joined, nil
}

// locatePart finds a part in the repository. If it isn't there, it reads or packs the part.
func (r *imageRun) locatePart(ctx context.Context, part *openedPart, platform *v1.Platform) (*targetImage, error) {
	found, err := r.find(ctx, part, platform)
	if err != nil || found != nil {
		return found, err
	}
	if part.remote != nil {
		if part.source, err = part.remote(); err != nil {
			return nil, err
		}
	}
	switch src := part.source.(type) {
	case *source.Unpacked:
		return r.pack(ctx, part, src)
	case source.Backed:
		return r.read(ctx, part, src, platform)
	}
	return nil, explainNotFound(*part, r.repository.Name())
}

// find returns a part that the repository provably has, nil otherwise.
func (r *imageRun) find(ctx context.Context, part *openedPart, platform *v1.Platform) (*targetImage, error) {
	// Search the repository for a manifest with the digest in the reference. If the source was opened and its store
	// identifies the image by that digest, the search below covers it: the digest is an image ID, which no manifest has,
	// or the manifest's digest. If no source was opened, the image is in another registry, or only the charm's
	// repository may have it.
	if digest, full := part.Digest(); full && (part.source == nil || storeDigest(part.source) != digest) {
		id := image.Identity{Manifest: digest}
		if part.Kind == source.KindDigest && part.source == nil { // perhaps the ID of an image that the engine had
			id.Config = digest
		}
		if found, err := r.repository.Find(ctx, id); err != nil || found.Image != nil {
			return foundOrNil(found, err, digest, platform)
		} else if found.Unread != nil && part.source == nil {
			return nil, fmt.Errorf(
				"image %s may be in the charm's repository %s, which couldn't be searched: %w; run this again later",
				part.Text,
				r.repository.Name(),
				found.Unread,
			)
		}
	}
	switch src := part.source.(type) {
	case *source.Unpacked:
		return r.findUnpacked(ctx, part, src, platform)
	case source.Backed:
		if src.Local() {
			return nil, nil // reading it costs nothing and tells more
		}
		return r.findStored(ctx, src.Identity(), platform)
	}
	return nil, nil
}

// findUnpacked finds an image in the repository by its image ID.
func (r *imageRun) findUnpacked(
	ctx context.Context,
	part *openedPart,
	src *source.Unpacked,
	platform *v1.Platform,
) (*targetImage, error) {
	if platform != nil && !image.Satisfies(src.Platform, *platform) {
		return nil, fmt.Errorf(
			"%s runs on %s, not on %s",
			part.Text,
			cmp.Or(src.Platform.String(), "no platform that its config tells"),
			platform,
		)
	}
	found, err := r.repository.Find(ctx, src.Identity())
	if err != nil || found.Image == nil {
		return nil, err
	}
	img, err := foundImage(found, src.Digest, platform)
	if err == nil {
		img.platforms = []v1.Platform{src.Platform}
	}
	return img, err
}

// findStored finds an image of the containerd image store in the repository: by its digest, as an index in which only
// attestations differ, or as the image of an index for the requested platform.
func (r *imageRun) findStored(ctx context.Context, id image.Identity, platform *v1.Platform) (*targetImage, error) {
	source, images := id.Manifest, id.Images
	if platform != nil {
		id.Images = nil
	}
	found, err := r.repository.Find(ctx, id)
	if child, ok := imageForPlatform(images, platform); ok && err == nil && found.Image == nil {
		found, err = r.repository.Find(ctx, image.Identity{Manifest: child.Digest})
	}
	if err != nil || found.Image == nil {
		return nil, err
	}
	if digest, err := found.Image.Digest(); err == nil && platform == nil && digest != source {
		r.Runner.Logger().Info("The registry has the images of this index: only attestations differ",
			zap.Stringer("source", source), zap.Stringer("remote", digest))
	}
	return foundImage(found, source, platform)
}

// imageForPlatform returns the image for the requested platform, and whether there is one.
func imageForPlatform(images []v1.Descriptor, platform *v1.Platform) (v1.Descriptor, bool) {
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

// read returns an image with its manifest from its source.
func (r *imageRun) read(
	ctx context.Context,
	part *openedPart,
	src source.Backed,
	platform *v1.Platform,
) (*targetImage, error) {
	opened := src.Identity()
	streamed, inOneStream := src.(source.Streamed)
	inOneStream = inOneStream && platform == nil
	if inOneStream && !src.Local() { // the stream has the manifest, too
		if err := r.stream(ctx, part, streamed); err != nil {
			return nil, err
		}
	}
	m, err := src.Manifest(ctx)
	if err == nil {
		m, err = choose(m, platform)
	}
	if err != nil {
		return nil, explain([]*openedPart{part}, m, err)
	}
	img := &targetImage{image: m, source: opened.Digest()}
	if src.Local() {
		digest, err := m.Digest()
		if err != nil {
			return nil, explain([]*openedPart{part}, m, err)
		}
		found, err := r.repository.Find(ctx, image.Identity{Manifest: digest})
		if img.present = found.Image != nil; inOneStream && err == nil && !img.present && !r.DryRun {
			err = r.stream(ctx, part, streamed)
		}
		return img, err
	}
	images := src.Identity().Images
	if platform != nil || len(images) == 0 {
		return img, nil
	}
	if opened.Images == nil { // the export has shown what is in the index
		found, err := r.findStored(ctx, image.Identity{Manifest: opened.Manifest, Images: images}, nil)
		if err != nil || found != nil {
			return found, err
		}
	}
	img.recordUnder = images[0].Digest
	return img, nil
}

// stream reads an image whose store gives it as one stream: an engine's export, or a compressed archive. It sends each
// blob that the repository lacks while it reads it, so the stream is no faster than the registry. Manifests and configs
// are kept; Push sends them. In a dry run nothing is sent.
func (r *imageRun) stream(ctx context.Context, part *openedPart, src source.Streamed) (err error) {
	defer r.Runner.Group("Read the image")()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", part.Text, err)
		}
	}()
	if r.DryRun {
		return src.Stream(ctx, func(v1.Descriptor, io.Reader) {})
	}
	r.Runner.Logger().Info("Reading the image as one stream, and sending each layer that the registry lacks")
	small := make(chan struct{}, smallAtOnce)
	return src.Stream(ctx, func(d v1.Descriptor, content io.Reader) {
		if d.Size <= smallBlob { // held in memory, so that the export goes on while the blob is sent
			small <- struct{}{}
			raw, err := io.ReadAll(content)
			r.early.Go(func() error {
				defer func() { <-small }()
				if err == nil {
					r.sendEarly(exportedLayer{d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }})
				}
				return nil
			})
			return
		}
		out, in := io.Pipe()
		r.early.Go(func() error {
			defer func() { _ = out.Close() }() // ends io.Copy below if not all was read, or after a panic
			r.sendEarly(exportedLayer{d, openOnce(out)})
			return nil
		})
		_, err := io.Copy(in, content)
		_ = in.CloseWithError(err)
	})
}

const (
	smallBlob   = 4 << 20 // bytes of a blob that is held in memory
	smallAtOnce = 4       // of these at once
)

// openOnce returns a function that opens content that can be read once. Its second call fails.
func openOnce(content io.ReadCloser) func() (io.ReadCloser, error) {
	var opened atomic.Bool
	return func() (io.ReadCloser, error) {
		if opened.Swap(true) {
			return nil, errors.New("a large blob of an export can be read only once")
		}
		return content, nil
	}
}

// exportedLayer is a layer in an export, known by its digest and size.
type exportedLayer struct {
	descriptor v1.Descriptor
	open       func() (io.ReadCloser, error)
}

// Digest returns the digest of the blob.
func (l exportedLayer) Digest() (v1.Hash, error) { return l.descriptor.Digest, nil }

// Size returns the size of the blob in bytes.
func (l exportedLayer) Size() (int64, error) { return l.descriptor.Size, nil }

// Compressed opens the blob. A large blob can be opened only once.
func (l exportedLayer) Compressed() (io.ReadCloser, error) { return l.open() }

// MediaType returns "" because an export names no types before its manifest.
func (l exportedLayer) MediaType() (types.MediaType, error) { return l.descriptor.MediaType, nil }

// pack compresses an unpacked image. If the repository lacks the image's config, it can't have any manifest of the
// image. Then each layer is sent as soon as it is compressed. Otherwise nothing is sent before the manifest is known.
func (r *imageRun) pack(ctx context.Context, part *openedPart, src *source.Unpacked) (*targetImage, error) {
	defer r.Runner.Group("Pack the image")()
	remoteLayers := async(func() registry.Layers { return r.repository.Layers(ctx) })
	absent := async(func() bool {
		lacks, err := r.repository.Lacks(ctx, src.ID)
		return lacks && err == nil && !r.DryRun
	})
	add, done := r.Runner.Progress("Compressing layers", src.Size)
	defer done()
	packed, err := pack.Image(ctx, src, pack.Options{
		Compression: r.Compression, Known: remoteLayers, Progress: add,
		Packed: func(layer v1.Layer) {
			if absent() {
				r.early.Go(func() error { r.sendEarly(layer); return nil })
			}
		},
	})
	if err != nil {
		return nil, during(stageCompress, fmt.Errorf("%s: %w", part.Text, err))
	}
	r.packed = append(r.packed, packed)
	r.Runner.Logger().Info(fmt.Sprintf("Packed %s: %s compressed, %d known to the registry",
		src.Digest, plural(packed.Compressed, "layer"), packed.Reused))
	return &targetImage{image: packed, source: src.Digest, compared: true, platforms: []v1.Platform{src.Platform}}, nil
}

// sendEarly sends a layer before the plan is known. If that fails, Push sends it again.
func (r *imageRun) sendEarly(layer partial.CompressedLayer) {
	if err := r.repository.SendBlob(r.ctx, layer); err != nil {
		r.Runner.Logger().Debug("A layer could not be sent early", zap.Error(err))
	}
}

// async calls f in a goroutine and returns a function that waits for its result.
func async[T any](f func() T) (result func() T) {
	result = sync.OnceValue(f)
	go func() { _ = parallel.Guard(func() error { result(); return nil }) }() // the caller of result panics again
	return result
}

// choose returns the image for the platform, or m if platform is nil.
func choose(m image.ImageOrIndex, platform *v1.Platform) (image.ImageOrIndex, error) {
	if platform == nil || m == nil {
		return m, nil
	}
	return image.SelectPlatform(m, *platform)
}

// foundImage returns an image that was found in the repository. An image selected from an index in the repository is
// also there.
func foundImage(found registry.Found, source v1.Hash, platform *v1.Platform) (*targetImage, error) {
	m, err := choose(found.Image, platform)
	if err != nil {
		return nil, fmt.Errorf("%s in the charm's repository: %w", source, err)
	}
	return &targetImage{image: m, source: source, present: true, compared: found.Compared}, nil
}

// foundOrNil returns foundImage's result, or nil if no image was found.
func foundOrNil(found registry.Found, err error, source v1.Hash, platform *v1.Platform) (*targetImage, error) {
	if err != nil || found.Image == nil {
		return nil, err
	}
	return foundImage(found, source, platform)
}

// storeDigest returns the digest by which the source's store identifies the image.
func storeDigest(src source.Source) v1.Hash {
	if unpacked, ok := src.(*source.Unpacked); ok {
		return unpacked.Digest
	}
	return src.Identity().Manifest
}

// explain names in an error the inputs that it is about, and adds advice for an incomplete image. It names all
// platforms that a local index lacks.
func explain(parts []*openedPart, m image.ImageOrIndex, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*image.MissingError](err); ok {
		var platforms []string
		for _, platform := range image.Missing(m) {
			platforms = append(platforms, platform.String())
		}
		if len(platforms) > 0 {
			err = fmt.Errorf("the image lists %s, but doesn't hold it: %w; pull what is missing first, "+
				"or choose what is there with the input platform", joinNames(platforms), err)
		} else {
			err = fmt.Errorf("%w; pull or write it again as a whole", err)
		}
	}
	switch len(parts) {
	case 0:
		return fmt.Errorf("the image recorded under the key: %w", err)
	case 1:
		return fmt.Errorf("%s: %w", parts[0].Text, err)
	}
	var texts []string
	for _, part := range parts {
		texts = append(texts, part.Text)
	}
	return fmt.Errorf("one of %s: %w", joinNames(texts), err)
}

// explainNotFound returns the error for a digest that neither the repository nor the engine has. A shortened digest was
// only looked up in the engine.
func explainNotFound(o openedPart, repository string) error {
	const makeIt = "build, load or pull it in an earlier step of the same job"
	_, full := o.Digest()
	var unknown *source.NotFoundError
	switch {
	case o.err == nil:
		return nil
	case !errors.As(o.err, &unknown) && full:
		return fmt.Errorf("image %s is not in the charm's repository %s, and %w", o.Text, repository, o.err)
	case unknown == nil:
		return o.err
	case full:
		return fmt.Errorf("image %s is unknown: neither the charm's repository %s nor %s has it; %s",
			o.Text, repository, unknown.Place, makeIt)
	case o.Hex == "": // of the engine alone
		return fmt.Errorf("image %s is unknown: %s has none by that name or ID; %s", o.Text, unknown.Place, makeIt)
	default:
		return fmt.Errorf("image %s, which %s, is unknown: %s has none by that ID or digest; %s, "+
			"or give the whole digest of one in the charm's repository", o.Text, source.DigestProblem("sha256:"+o.Hex),
			unknown.Place, makeIt)
	}
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// Found is an image that the repository provably has.
type Found struct {
	// Image is a v1.Image or v1.ImageIndex that reads through the repository; nil if the repository has none.
	Image image.ImageOrIndex
	// Compared is true if the image's layers were read and compared with their diff IDs, because no record says that they
	// were compared before. Record it, and the next run need not.
	Compared bool
	// Unread is set if there is no image, but the registry failed to answer a question that may have led to one.
	Unread error
}

// Find returns the image of an identity if the repository has it, with one of three proofs:
//
//   - its manifest has the digest that was asked for;
//   - it is an index that offers runtimes exactly the images that were asked for, by their digests;
//   - its config has the digest that was asked for, and its layers have the diff IDs that the config gives them: a record
//     with a proof of this store token says so, or the layers are read and compared now.
//
// Whoever may push can move the tag latest and write records. Both are therefore candidates, never proofs. A candidate that
// can't be read, for whatever reason, is a line of the debug log.
//
// A manifest counts without a look at its blobs: registries keep the blobs that their manifests name.
func (v *View) Find(ctx context.Context, id image.Identity) (Found, error) {
	if id.Manifest != (v1.Hash{}) {
		ask := v.manifest
		if id.Manifest == id.Config {
			ask = v.ambiguous
		}
		if d, err := ask(ctx, id.Manifest); d != nil || err != nil {
			return found(d, err)
		}
	}
	switch {
	case len(id.Images) > 0:
		return found(v.findIndex(ctx, id.Images), context.Cause(ctx))
	case id.Config != v1.Hash{}:
		return v.findByConfig(ctx, id.Config)
	}
	return Found{}, nil
}

func found(d *remote.Descriptor, err error) (Found, error) {
	if err != nil {
		return Found{}, err
	}
	img, err := imageOf(d)
	return Found{Image: img}, err
}

// candidates returns the manifests that may be what a source became: of the tag latest, and the one that the record of the
// source names. Tag and record are asked for at once.
func (v *View) candidates(ctx context.Context, source v1.Hash) (all []*remote.Descriptor, said record) {
	var newest *remote.Descriptor
	var g parallel.Group
	g.Go(func() error { newest = v.latest(ctx); return nil })
	g.Go(func() error { said = v.record(ctx, source); return nil })
	_ = g.Wait() // every error is in the log, but that the run was stopped
	if newest != nil {
		all = append(all, newest)
	}
	if said.image != (v1.Hash{}) && (newest == nil || said.image != newest.Digest) {
		if d := v.follow(ctx, said.image); d != nil {
			all = append(all, d)
		}
	}
	return all, said
}

// findIndex returns an index that offers runtimes the same images, nil if there is none.
func (v *View) findIndex(ctx context.Context, images []v1.Descriptor) *remote.Descriptor {
	all, _ := v.candidates(ctx, images[0].Digest)
	for _, d := range all {
		if d.MediaType.IsIndex() && image.SameImages(images, image.RunnableImages(d.Manifest)) {
			return d
		}
	}
	return nil
}

// findByConfig returns an image whose config has that digest and whose layers have their diff IDs.
func (v *View) findByConfig(ctx context.Context, config v1.Hash) (Found, error) {
	all, said := v.candidates(ctx, config)
	proven := v.prover.believes(said, layersKind, config)
	var unproven []*remote.Descriptor
	for _, d := range all {
		m, err := imageManifest(d.MediaType, d.Manifest)
		switch {
		case err != nil || m.Config.Digest != config:
		case proven && d.Digest == said.image:
			return found(d, nil)
		default:
			unproven = append(unproven, d)
		}
	}
	for _, d := range unproven {
		switch err := v.compare(ctx, d); {
		case err == nil:
			f, err := found(d, nil)
			f.Compared = true
			return f, err
		case ctx.Err() != nil:
			return Found{}, context.Cause(ctx)
		case errors.Is(err, errOtherLayers):
			v.log.Warn("An image in the charm's repository has the config of the image to be uploaded, but other layers; "+
				"it isn't used. Find out who pushed it", zap.Stringer("manifest", d.Digest), zap.Error(err))
		default:
			v.note(err)
			v.log.Info("An image in the charm's repository can't be compared with the image to be uploaded; it isn't used",
				zap.Stringer("manifest", d.Digest), zap.Error(err))
		}
	}
	return Found{Unread: v.failure()}, context.Cause(ctx)
}

// Keyed is an image that was recorded under a key.
type Keyed struct {
	Image  image.ImageOrIndex // nil if none is known
	Source v1.Hash            // the digest that the image had where it came from
}

// FindKey returns the image that was recorded under a key with the same store token. It is the zero Keyed without an error
// if there is no such record, or if the repository lacks a manifest or blob of the image: each is asked for.
func (v *View) FindKey(ctx context.Context, key v1.Hash) (Keyed, error) {
	unknown := func(why error) (Keyed, error) {
		v.log.Debug("No image for this key", zap.Error(why))
		return Keyed{}, nil
	}
	said := v.record(ctx, key)
	if !v.prover.believes(said, keyKind, key) {
		return unknown(errors.New("no record of this store token names an image"))
	}
	digest := said.image
	img, err := v.image(ctx, digest)
	if err == nil && img == nil {
		return unknown(errors.New("the repository has no manifest " + digest.String()))
	}
	if err == nil {
		err = v.checkComplete(ctx, img)
	}
	if ociclient.IsStatus(err, http.StatusNotFound) || errors.Is(err, errIncomplete) {
		return unknown(err)
	}
	if err != nil {
		return Keyed{}, fmt.Errorf("looking for the image that the key means: %w", v.explain(err))
	}
	return Keyed{img, said.source}, nil
}

func (v *View) image(ctx context.Context, digest v1.Hash) (image.ImageOrIndex, error) {
	d, err := v.manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	return imageOf(d)
}

var errIncomplete = errors.New("the repository doesn't hold the image completely")

// checkComplete fails with errIncomplete if a blob is missing. Manifests below an index, and configs, are read.
func (v *View) checkComplete(ctx context.Context, img image.ImageOrIndex) error {
	root, err := newTree(img)
	if err != nil {
		return err
	}
	var unread []blob
	for _, n := range root.all() {
		unread = append(unread, slices.DeleteFunc(slices.Clone(n.blobs), func(b blob) bool { return b.read })...)
	}
	held, err := v.hasBlobs(ctx, distinct(unread))
	if err != nil {
		return err
	}
	for digest, has := range held {
		if !has {
			return fmt.Errorf("%w: %s is missing", errIncomplete, digest)
		}
	}
	return nil
}

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

// Found is the result of [View.Find].
type Found struct {
	// Image is a v1.Image or v1.ImageIndex that reads through the repository. It is nil if the repository has none.
	Image image.ImageOrIndex
	// Compared is true if Find downloaded the image's layers and compared them with their diff IDs. Call [View.Record], so
	// that the next run can skip that.
	Compared bool
	// Unread is the first failure of the registry that the view ignored so far. Because of it, an image may not have
	// been found. It is only set if Image is nil and the image was looked for by its config.
	Unread error
}

// Find returns the image with an identity if the repository provably has it. There are three proofs:
//
//   - The digest of its manifest is id.Manifest.
//   - It is an index whose runnable images are exactly id.Images. Attestations may differ.
//   - The digest of its config is id.Config, and its layers have the diff IDs that the config lists. A record with a
//     proof of this store token says so, or Find downloads the layers and compares them.
//
// Anyone who may push can move the tag latest and write records, so both only name candidates. A candidate that can't
// be read is logged at debug level and ignored.
//
// Find doesn't request the blobs of the image: it relies on registries to keep the blobs to which their manifests
// refer.
func (v *View) Find(ctx context.Context, id image.Identity) (Found, error) {
	if id.Manifest != (v1.Hash{}) {
		ask := v.manifest
		if id.Manifest == id.Config {
			ask = v.manifestUnlessBlob
		}
		if d, err := ask(ctx, id.Manifest); d != nil || err != nil {
			return asFound(d, err)
		}
	}
	switch {
	case len(id.Images) > 0:
		return asFound(v.findIndex(ctx, id.Images), context.Cause(ctx))
	case id.Config != v1.Hash{}:
		return v.findByConfig(ctx, id.Config)
	}
	return Found{}, nil
}

// asFound returns the result for a manifest that the repository has, or for none if d is nil.
func asFound(d *remote.Descriptor, err error) (Found, error) {
	if err != nil {
		return Found{}, err
	}
	img, err := imageOf(d)
	return Found{Image: img}, err
}

// candidates returns the manifests that may be the image of a source: the one tagged latest, and the one in the record
// of the source. It requests tag and record concurrently. It also returns the record.
func (v *View) candidates(ctx context.Context, source v1.Hash) (all []*remote.Descriptor, rec record) {
	var newest *remote.Descriptor
	var g parallel.Group
	g.Go(func() error { newest = v.latest(ctx); return nil })
	g.Go(func() error { rec = v.record(ctx, source); return nil })
	_ = g.Wait() // latest and record log errors, except that the run was stopped
	if newest != nil {
		all = append(all, newest)
	}
	if rec.image != (v1.Hash{}) && (newest == nil || rec.image != newest.Digest) {
		if d := v.referencedManifest(ctx, rec.image); d != nil {
			all = append(all, d)
		}
	}
	return all, rec
}

// findIndex returns the candidate that is an index with exactly these runnable images. It returns nil if there is
// none.
func (v *View) findIndex(ctx context.Context, images []v1.Descriptor) *remote.Descriptor {
	all, _ := v.candidates(ctx, images[0].Digest)
	for _, d := range all {
		if d.MediaType.IsIndex() && image.SameImages(images, image.RunnableImages(d.Manifest)) {
			return d
		}
	}
	return nil
}

// findByConfig returns an image with that config whose layers have the diff IDs that the config lists.
func (v *View) findByConfig(ctx context.Context, config v1.Hash) (Found, error) {
	all, rec := v.candidates(ctx, config)
	proven := v.prover.believes(rec, layersKind, config)
	var unproven []*remote.Descriptor
	for _, d := range all {
		m, err := imageManifest(d.MediaType, d.Manifest)
		switch {
		case err != nil || m.Config.Digest != config:
		case proven && d.Digest == rec.image:
			return asFound(d, nil)
		default:
			unproven = append(unproven, d)
		}
	}
	for _, d := range unproven {
		switch err := v.compare(ctx, d); {
		case err == nil:
			f, err := asFound(d, nil)
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

// Keyed is the result of [View.FindKey].
type Keyed struct {
	Image  image.ImageOrIndex // nil if none is known
	Source v1.Hash            // the digest that the image had where it came from
}

// FindKey returns the image that RecordKey recorded under a key with the same store token. The key is not the secret
// of NewView, but the digest of a text. FindKey returns the zero Keyed if there is no such record, or if the
// repository lacks the manifest or any blob of the image. It requests each of them. It fails if the registry fails or
// refuses to answer.
func (v *View) FindKey(ctx context.Context, key v1.Hash) (Keyed, error) {
	unknown := func(why error) (Keyed, error) {
		v.log.Debug("No image for this key", zap.Error(why))
		return Keyed{}, nil
	}
	const looking = "looking for the image that the key means: %w"
	rec := v.record(ctx, key)
	switch {
	case ctx.Err() != nil:
		return Keyed{}, context.Cause(ctx)
	case rec.unread != nil:
		return Keyed{}, fmt.Errorf(looking, rec.unread)
	}
	if !v.prover.believes(rec, keyKind, key) {
		return unknown(errors.New("no record of this store token names an image"))
	}
	digest := rec.image
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
		return Keyed{}, fmt.Errorf(looking, v.explain(err))
	}
	return Keyed{img, rec.source}, nil
}

// image returns the image or index with that manifest digest, nil if the repository has none.
func (v *View) image(ctx context.Context, digest v1.Hash) (image.ImageOrIndex, error) {
	d, err := v.manifest(ctx, digest)
	if err != nil {
		return nil, err
	}
	return imageOf(d)
}

var errIncomplete = errors.New("the repository doesn't hold the image completely")

// checkComplete returns errIncomplete if the repository lacks a blob of the image. It reads the manifests of an index
// and all configs.
func (v *View) checkComplete(ctx context.Context, img image.ImageOrIndex) error {
	root, err := newTree(img)
	if err != nil {
		return err
	}
	var unread []blob
	for _, n := range root.all() {
		unread = append(unread, slices.DeleteFunc(slices.Clone(n.blobs), func(b blob) bool { return b.read })...)
	}
	exists, err := v.hasBlobs(ctx, distinct(unread))
	if err != nil {
		return err
	}
	for digest, has := range exists {
		if !has {
			return fmt.Errorf("%w: %s is missing", errIncomplete, digest)
		}
	}
	return nil
}

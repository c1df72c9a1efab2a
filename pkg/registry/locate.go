package registry

import (
	"bytes"
	"context"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	carry "github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Identity is what an image is looked for by.
type Identity struct {
	// Digest is that of its manifest or index, or, for engines that identify an image so, of its config.
	Digest v1.Hash
	// DiffIDs are those of its layers, nil where the caller doesn't know them.
	DiffIDs []v1.Hash
	// Images are those of an index that can be run, without attestations. An index in the repository that lists the same
	// images for the same platforms is found, too: each cached build of an image makes new attestations for it, and
	// thereby another index. Then Digest is the index's, or zero where Manifest was asked for it. Nil looks for Digest alone.
	Images []v1.Descriptor
}

// Found is what Locate found.
type Found struct {
	// Image is a v1.Image or v1.ImageIndex that reads through the repository; nil where the repository has none.
	Image image.ImageOrIndex
	// Hints are those given to Locate and those that it read.
	Hints Hints
}

// Locate looks for an image. The tag latest and the locations record are asked at once, then what the record names, and
// only without an answer from these the digest itself: two to five requests, and one for each further image that the
// record names, maxNamed at most. Without diff IDs the digest is asked for first, and that may be all; with images it is
// that of an index, and the record is that of the first image. For an image with diff IDs that isn't found, Locate also
// asks for what Layers needs to know of the image tagged latest, and for the layers themselves.
//
// Tag and record are hints that anyone who may push can write. A hint counts when the manifest that it leads to is in
// this repository, its bytes have its digest, and one of three is so: this digest is the one looked for; its config's is,
// and it has as many layers as the image has diff IDs; or it is an index of the same images. A hint that can't be read,
// for whatever reason, is a line of the debug log, and so is a registry that answers 500 to the question for a digest that
// may be a config's.
func (r *Repository) Locate(ctx context.Context, id Identity, hints Hints) (Found, error) {
	h, source := hints.clone(), id.Digest
	switch {
	case len(id.Images) > 0:
		if id.Digest != (v1.Hash{}) {
			if d, err := r.manifest(ctx, &h, id.Digest); d != nil || err != nil {
				return found(d, h, err)
			}
		}
		source = id.Images[0].Digest
	case id.DiffIDs == nil: // then it is a manifest's, as likely as not
		if d, err := r.manifestOnce(ctx, &h, id.Digest); err == nil && d != nil {
			return found(d, h, nil)
		}
	}
	r.addHints(ctx, &h, source)
	if r.isImage(ctx, h.latest, id) {
		return found(h.latest, h, nil)
	}
	for _, digest := range h.records[source].images {
		if d := r.follow(ctx, &h, digest); r.isImage(ctx, d, id) {
			return found(d, h, nil)
		}
	}
	if len(id.Images) > 0 {
		return Found{Hints: h}, nil
	}
	var d *remote.Descriptor
	var err error
	var g parallel.Group // its context would end that of the image
	g.Go(func() error { d, err = r.manifestOnce(ctx, &h, id.Digest); return nil })
	if id.DiffIDs != nil && h.latest != nil && h.layers == nil { // it is going to be packed, with the layers of latest
		known := h.clone()
		g.Go(func() error { h.verified[h.latest.Digest] = r.isVerified(ctx, known, h.latest.Digest); return nil })
		g.Go(func() error { h.layers = r.heldLayers(ctx, known, h.latest); return nil })
	}
	_ = g.Wait()
	return found(d, h, err)
}

// found makes an image of a manifest, which may be nil.
func found(d *remote.Descriptor, h Hints, err error) (Found, error) {
	if err != nil {
		return Found{Hints: h}, err
	}
	img, err := imageOf(d)
	return Found{img, h}, err
}

// manifestOnce is manifest for a digest that may be another object's. Distribution 2 answers 500 where it is that of a
// blob, such as a config: then the repository has no such manifest. Other failures don't say so, and the transport gets to
// repeat the question.
func (r *Repository) manifestOnce(ctx context.Context, h *Hints, digest v1.Hash) (*remote.Descriptor, error) {
	d, err := r.manifest(carry.Once(ctx), h, digest)
	if err != nil && !isStatus(err, http.StatusInternalServerError) {
		d, err = r.manifest(ctx, h, digest)
	}
	if isStatus(err, http.StatusInternalServerError) {
		r.log.Debug("The registry can't say whether that digest is a manifest's", zap.Stringer("digest", digest), zap.Error(err))
		return nil, nil
	}
	return d, err
}

// follow returns the manifest of a digest that was named somewhere, nil where none can be read.
func (r *Repository) follow(ctx context.Context, h *Hints, named v1.Hash) *remote.Descriptor {
	d, err := r.manifest(ctx, h, named)
	if d == nil {
		r.log.Debug("A named manifest can't be read", zap.Stringer("digest", named), zap.Error(err))
	}
	return d
}

// isImage reports whether a manifest is the image of that identity.
func (r *Repository) isImage(ctx context.Context, d *remote.Descriptor, id Identity) bool {
	switch {
	case d == nil:
		return false
	case d.Digest == id.Digest:
		return true
	case len(id.Images) > 0:
		return d.MediaType.IsIndex() && image.SameImages(id.Images, image.RunnableImages(d.Manifest))
	}
	m, err := imageManifest(d.MediaType, d.Manifest)
	if err != nil || m.Config.Digest != id.Digest {
		return false
	}
	diffIDs := id.DiffIDs
	if diffIDs == nil {
		diffIDs, err = r.readDiffIDs(ctx, m.Config)
	}
	if err != nil || len(diffIDs) != len(m.Layers) {
		r.log.Debug("A manifest doesn't fit its config", zap.Stringer("manifest", d.Digest),
			zap.Int("layers", len(m.Layers)), zap.Int("diffIDs", len(diffIDs)), zap.Error(err))
		return false
	}
	return true
}

// imageManifest parses the manifest of a single image; an index has no config, and is empty.
func imageManifest(mediaType types.MediaType, raw []byte) (*v1.Manifest, error) {
	if !mediaType.IsImage() {
		return &v1.Manifest{}, nil
	}
	return v1.ParseManifest(bytes.NewReader(raw))
}

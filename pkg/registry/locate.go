package registry

import (
	"bytes"
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	carry "github.com/charmhub-actions/upload-resource/pkg/transport"
)

// How an image was located.
const (
	ByDigest = "digest"
	ByRecord = "record"
	ByLatest = "latest"
)

// Located is an image that the repository holds already.
type Located struct {
	*remote.Descriptor        // its manifest, verified; Image and ImageIndex read through the repository
	By                 string // ByDigest, ByRecord or ByLatest
}

// Identity is what an image is looked for by.
type Identity struct {
	// Digest is that of its manifest or index, or, for engines that identify an image so, of its config.
	Digest v1.Hash
	// DiffIDs are those of its layers, nil where the caller doesn't know them.
	DiffIDs []v1.Hash
}

// Locate looks for an image. The tag latest and the locations record are asked at once, then what the record names, and
// only without an answer from these the digest itself: two to five requests, and one for each further image that the
// record names, maxNamed at most. Without diff IDs the digest is asked for first, and that may be all.
//
// Tag and record are hints that anyone who may push can write. A hint counts when the manifest that it leads to is in
// this repository, its bytes have its digest, and either this digest is the one looked for, or its config's is and it has
// as many layers as there are diff IDs. A hint that can't be read, for whatever reason, is a line of the debug log,
// and so is a registry that fails (5xx) at the question for the digest, which is asked once. Locate is false without an
// error for an unknown image.
func (r *Repository) Locate(ctx context.Context, id Identity) (Located, bool, error) {
	if id.DiffIDs == nil { // then it is a manifest's, as likely as not
		if d, found, err := r.manifestOnce(ctx, id.Digest); err == nil && found {
			return Located{d, ByDigest}, true, nil
		}
	}
	named, tagged := r.hints(ctx, id.Digest)
	if r.isImage(ctx, tagged, id) {
		return Located{tagged, ByLatest}, true, nil
	}
	for _, digest := range named {
		if d := r.follow(ctx, digest); r.isImage(ctx, d, id) {
			return Located{d, ByRecord}, true, nil
		}
	}
	d, found, err := r.manifestOnce(ctx, id.Digest)
	if err != nil || !found {
		return Located{}, false, err
	}
	return Located{d, ByDigest}, true, nil
}

// manifestOnce fetches the manifest of a digest that may be another object's. Distribution 2 answers 500 where it is that of
// a blob, such as a config: then the repository has no such manifest. Other failures in passing say nothing of that, and
// the transport gets to repeat the question.
func (r *Repository) manifestOnce(ctx context.Context, digest v1.Hash) (*remote.Descriptor, bool, error) {
	d, found, err := r.Manifest(carry.Once(ctx), digest)
	if err != nil && isTemporary(err) && !isServersFault(err) {
		d, found, err = r.Manifest(ctx, digest)
	}
	if isServersFault(err) {
		r.log.Debug("The registry can't say whether that digest is a manifest's", zap.Stringer("digest", digest), zap.Error(err))
		return nil, false, nil
	}
	return d, found, err
}

// Hinted returns the manifests that the tag latest and the locations record of id lead to: the caller knows what proves
// one to be the image looked for.
func (r *Repository) Hinted(ctx context.Context, id v1.Hash) []*remote.Descriptor {
	named, tagged := r.hints(ctx, id)
	var found []*remote.Descriptor
	for _, digest := range named {
		found = append(found, r.follow(ctx, digest))
	}
	return withoutNil(append(found, tagged))
}

// hints returns the digests that the locations record of id names, and the manifest tagged latest, nil for none.
func (r *Repository) hints(ctx context.Context, id v1.Hash) (named []v1.Hash, tagged *remote.Descriptor) {
	var g parallel.Group
	g.Go(func() error {
		said, err := r.readRecord(ctx, id)
		if err != nil {
			r.log.Debug("No use in the locations record", zap.Stringer("source", id), zap.Error(err))
		}
		named = said.images
		return nil
	})
	g.Go(func() error { tagged = r.latest(ctx); return nil })
	_ = g.Wait() // every error is in the log
	return named, tagged
}

// follow returns the manifest of a digest that was named somewhere, nil when there is none that can be read.
func (r *Repository) follow(ctx context.Context, named v1.Hash) *remote.Descriptor {
	d, found, err := r.get(ctx, r.name.Digest(named.String()))
	if err != nil || !found {
		r.log.Debug("No such manifest to read", zap.Stringer("digest", named), zap.Error(err))
		return nil
	}
	return d
}

// isImage tells whether a manifest is the image of that identity.
func (r *Repository) isImage(ctx context.Context, d *remote.Descriptor, id Identity) bool {
	if d == nil {
		return false
	}
	if d.Digest == id.Digest {
		return true
	}
	m, err := imageManifest(d)
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
func imageManifest(d *remote.Descriptor) (*v1.Manifest, error) {
	if !d.MediaType.IsImage() {
		return &v1.Manifest{}, nil
	}
	return v1.ParseManifest(bytes.NewReader(d.Manifest))
}

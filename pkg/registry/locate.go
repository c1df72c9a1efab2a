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

// Locate looks for the image with that identity: the digest of its manifest or index, or, for engines that identify
// an image so, of its config. The tag latest and the locations record are asked at once, then what the record names,
// and only without an answer from these the digest itself: two to five requests.
//
// Tag and record are hints that anyone who may push can write. A hint counts when the manifest that it leads to is in
// this repository, its bytes have its digest, and its config's digest or its own is id. A hint that can't be read,
// for whatever reason, is a line of the debug log, and so is a registry that fails (5xx) at the last question, which is
// asked once. Locate is false without an error for an unknown image.
func (r *Repository) Locate(ctx context.Context, id v1.Hash) (Located, bool, error) {
	named, tagged := r.hints(ctx, id)
	if isImage(tagged, id) {
		return Located{tagged, ByLatest}, true, nil
	}
	if d := r.follow(ctx, named); isImage(d, id) {
		return Located{d, ByRecord}, true, nil
	}
	// Distribution 2 answers 500 where the digest is not a manifest's but a blob's, such as a config's.
	d, found, err := r.Manifest(carry.Once(ctx), id)
	if isServersFault(err) {
		r.log.Debug("The registry can't say whether that digest is a manifest's", zap.Stringer("digest", id), zap.Error(err))
		return Located{}, false, nil
	}
	if err != nil || !found {
		return Located{}, false, err
	}
	return Located{d, ByDigest}, true, nil
}

// hints returns the digest that the locations record of id names, zero for none, and the manifest tagged latest, nil
// for none.
func (r *Repository) hints(ctx context.Context, id v1.Hash) (named v1.Hash, tagged *remote.Descriptor) {
	var g parallel.Group
	g.Go(func() (err error) {
		if named, err = r.readRecord(ctx, id); err != nil {
			r.log.Debug("No use in the locations record", zap.Stringer("source", id), zap.Error(err))
		}
		return nil
	})
	g.Go(func() error { tagged = r.latest(ctx); return nil })
	_ = g.Wait() // every error is in the log
	return named, tagged
}

// follow returns the manifest of a digest that was named somewhere, nil when there is none that can be read.
func (r *Repository) follow(ctx context.Context, named v1.Hash) *remote.Descriptor {
	if named == (v1.Hash{}) {
		return nil
	}
	d, found, err := r.get(ctx, r.name.Digest(named.String()))
	if err != nil || !found {
		r.log.Debug("No such manifest to read", zap.Stringer("digest", named), zap.Error(err))
		return nil
	}
	return d
}

// isImage tells whether a manifest is the image of that identity.
func isImage(d *remote.Descriptor, id v1.Hash) bool {
	if d == nil {
		return false
	}
	if d.Digest == id {
		return true
	}
	m, err := imageManifest(d)
	return err == nil && m.Config.Digest == id
}

// imageManifest parses the manifest of a single image; an index has no config, and is empty.
func imageManifest(d *remote.Descriptor) (*v1.Manifest, error) {
	if !d.MediaType.IsImage() {
		return &v1.Manifest{}, nil
	}
	return v1.ParseManifest(bytes.NewReader(d.Manifest))
}

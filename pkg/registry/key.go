package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// These annotations, on the manifest of a record under a key, say which image of this repository it names, and which
// digest that had where it came from. imgpkg leaves them out.
const (
	imageAnnotation  = "com.github.charmhub-actions.upload-resource.image"
	sourceAnnotation = "com.github.charmhub-actions.upload-resource.source"
)

// RecordKey writes beside an image of this repository that a key means it: the digest of a text that names what the image
// is made of. Source is the digest that the image had where it came from. Nothing is written where the record exists.
func (r *Repository) RecordKey(ctx context.Context, key v1.Hash, img image.ImageOrIndex, source v1.Hash) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	says := map[string]string{imageAnnotation: digest.String(), sourceAnnotation: source.String()}
	if m, err := r.recordManifest(ctx, key); err == nil &&
		m.Annotations[imageAnnotation] == says[imageAnnotation] && m.Annotations[sourceAnnotation] == says[sourceAnnotation] {
		return nil
	}
	record, err := newRecord(r.name.Digest(digest.String()), says)
	if err == nil {
		err = r.pushAs(ctx, record, recordTag(key))
	}
	if err != nil {
		return fmt.Errorf("recording the key of %s: %w", digest, err)
	}
	return nil
}

// Keyed returns the image that a key means, and the digest that it had where it came from. It is nil without an error
// where no image is recorded under the key, or where the repository lacks a manifest or blob of it: each is asked for.
// Only the record says what a key means, so whoever may push to the repository decides it.
func (r *Repository) Keyed(ctx context.Context, key v1.Hash) (img image.ImageOrIndex, source v1.Hash, err error) {
	unknown := func(why error) (image.ImageOrIndex, v1.Hash, error) {
		r.log.Debug("No image for this key", zap.Error(why))
		return nil, v1.Hash{}, nil
	}
	m, err := r.recordManifest(ctx, key)
	if err != nil {
		return unknown(err)
	}
	digest, err := v1.NewHash(m.Annotations[imageAnnotation])
	if err != nil {
		return unknown(fmt.Errorf("the record names no image: %w", err))
	}
	if source, err = v1.NewHash(m.Annotations[sourceAnnotation]); err != nil {
		source = digest
	}
	img, err = r.Manifest(ctx, digest)
	if err == nil && img == nil {
		return unknown(errors.New("the repository has no manifest " + digest.String()))
	}
	if err == nil {
		err = r.checkComplete(ctx, img)
	}
	if isStatus(err, http.StatusNotFound) || errors.Is(err, errIncomplete) {
		return unknown(err)
	}
	if err != nil {
		return nil, v1.Hash{}, fmt.Errorf("looking for the image that the key means: %w", r.explain(err))
	}
	return img, source, nil
}

var errIncomplete = errors.New("the repository doesn't hold the image completely")

// checkComplete fails with errIncomplete where a blob is missing. Manifests below an index, and configs, are read.
func (r *Repository) checkComplete(ctx context.Context, img image.ImageOrIndex) error {
	root, err := newNode(img)
	if err != nil {
		return err
	}
	if err := root.walk(img, map[v1.Hash]bool{}); err != nil {
		return err
	}
	var blobs []blob
	present := map[v1.Hash]bool{}
	for _, n := range root.all() {
		if m, err := imageManifest(n.desc.MediaType, n.raw); err == nil && isConfig(m.Config.MediaType) && len(m.Layers) > 0 {
			present[m.Config.Digest] = true // which was read
		}
		blobs = append(blobs, n.blobs...)
	}
	if err := r.ask(ctx, unanswered(blobs, present), present); err != nil {
		return err
	}
	for digest, has := range present {
		if !has {
			return fmt.Errorf("%w: %s is missing", errIncomplete, digest)
		}
	}
	return nil
}

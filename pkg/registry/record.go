package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// Record writes beside an image of this repository that it is where these sources went, for Locate to read. Where it is
// verified, as Push and packing say it, the record says so, and is also written for the digest of the image itself and
// of its config: by these Layers finds it, and uses the layers of no other.
//
// The record is a cache: a registry that refuses it (immutable tags, say) does no harm, and the error is for the debug
// log. No record is written that is among the hints already. The same record has the same bytes.
func (r *Repository) Record(ctx context.Context, img image.ImageOrIndex, verified bool, hints Hints, sources ...v1.Hash) error {
	root, err := newNode(img)
	if err != nil {
		return err
	}
	if verified {
		sources = append(slices.Clone(sources), root.desc.Digest)
		if m, err := imageManifest(root.desc.MediaType, root.raw); err == nil && m.Config.Digest != (v1.Hash{}) {
			sources = append(sources, m.Config.Digest)
		}
	}
	return r.record(ctx, root.desc.Digest, verified, hints, sources)
}

func (r *Repository) record(ctx context.Context, image v1.Hash, verified bool, hints Hints, sources []v1.Hash) error {
	var tags []string
	for _, source := range sources {
		said := hints.records[source]
		recorded := slices.Contains(said.images, image) && (!verified || said.verified == image)
		if tag := recordTag(source); !recorded && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return nil
	}
	var annotations map[string]string
	if verified {
		annotations = map[string]string{verifiedAnnotation: image.String()}
	}
	written, err := newRecord(r.name.Digest(image.String()), annotations)
	if err == nil {
		err = r.pushAs(ctx, written, tags...)
	}
	if err != nil {
		return fmt.Errorf("writing the locations record of %s: %w", image, err)
	}
	return nil
}

// recordTag is the tag of the record of a source, as imgpkg has it.
func recordTag(source v1.Hash) string {
	return source.Algorithm + "-" + source.Hex + ".image-locations.imgpkg"
}

// MoveLatest makes the tag latest name that image, which the repository must hold. No request is made where the tag does so
// already according to the hints.
//
// The tag may be all that Locate finds an image by: one that another tool pushed has no record. So where the tag names a
// single image according to the hints, its record is written before the tag leaves it, unless it has one. Not earlier:
// as long as the tag names the image, a run that finds it by the tag need not write.
//
// Like the record, the tag is a cache: the error is for the debug log. A record that is refused doesn't stop the tag.
func (r *Repository) MoveLatest(ctx context.Context, img image.ImageOrIndex, hints Hints) error {
	root, err := newNode(img)
	if err != nil {
		return err
	}
	if hints.latest != nil && hints.latest.Digest == root.desc.Digest {
		return nil
	}
	return errors.Join(r.recordLatest(ctx, hints), r.put(ctx, latest, root.desc, root.raw))
}

// recordLatest makes sure that the image tagged latest has a record under its config's digest. An index has no config.
func (r *Repository) recordLatest(ctx context.Context, hints Hints) error {
	old := hints.latest
	if old == nil {
		return nil
	}
	m, err := imageManifest(old.MediaType, old.Manifest)
	if err != nil || m.Config.Digest == (v1.Hash{}) {
		return err
	}
	if r.isVerified(ctx, hints, old.Digest) {
		return nil // both records were written together
	}
	h := hints.clone()
	if _, read := h.records[m.Config.Digest]; !read {
		// Reading is cheaper than writing, and the record exists if it was this program that moved the tag.
		h.records[m.Config.Digest] = r.readRecord(ctx, m.Config.Digest)
	}
	return r.record(ctx, old.Digest, false, h, []v1.Hash{m.Config.Digest})
}

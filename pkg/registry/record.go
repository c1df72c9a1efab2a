package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// record is what a locations record says.
type record struct {
	images   []v1.Hash // of this repository
	verified v1.Hash   // the manifest whose layers are proven to have their diff IDs; zero for none
}

// Record writes beside the image remote of this repository that it is where these sources went, for Locate to read.
// Where it is verified, as Push and packing say it, the record says so, and is also written for the digest of the
// image itself and of its config: by these Known finds it, and learns from no other.
//
// The record is a cache: a registry that refuses it (immutable tags, say) does no harm, and the error is for the debug
// log. Nothing is written where a record that was read in this run says so already. The same record has the same bytes.
func (r *Repository) Record(ctx context.Context, remote v1.Hash, verified bool, sources ...v1.Hash) error {
	if verified {
		sources = append(sources, remote)
		if config := r.configOf(remote); config != (v1.Hash{}) {
			sources = append(sources, config)
		}
	}
	var tags []string
	for _, source := range sources {
		if tag := recordTag(source); !r.isRecorded(source, remote, verified) && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return nil
	}
	written, err := newRecord(r.name.Digest(remote.String()), verified)
	if err == nil {
		err = r.pushAs(ctx, written, tags...)
	}
	if err != nil {
		return fmt.Errorf("writing the locations record of %s: %w", remote, err)
	}
	said := record{images: []v1.Hash{remote}}
	if verified {
		said.verified = remote
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, source := range sources {
		r.recorded[source] = said
	}
	return nil
}

// configOf returns the digest of an image's config, as far as this run has seen its manifest.
func (r *Repository) configOf(digest v1.Hash) v1.Hash {
	r.mu.Lock()
	m := r.stored[digest]
	r.mu.Unlock()
	d := remote.Descriptor{Manifest: m.raw}
	d.MediaType = m.mediaType
	parsed, err := imageManifest(&d)
	if err != nil {
		return v1.Hash{}
	}
	return parsed.Config.Digest
}

// isRecorded tells whether a record that was read or written in this run has nothing to be added.
func (r *Repository) isRecorded(source, remote v1.Hash, verified bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := r.recorded[source]
	return slices.Contains(said.images, remote) && (!verified || said.verified == remote)
}

// recordTag is where imgpkg keeps the record of a source.
func recordTag(source v1.Hash) string {
	return source.Algorithm + "-" + source.Hex + ".image-locations.imgpkg"
}

// readRecord returns what the record of source says.
func (r *Repository) readRecord(ctx context.Context, source v1.Hash) (record, error) {
	m, err := r.recordManifest(ctx, source)
	if err != nil {
		return record{}, err
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != types.DockerLayer {
		return record{}, errors.New("it isn't one Docker layer")
	}
	packed, err := r.readBlob(ctx, m.Layers[0], maxRecord)
	if err != nil {
		return record{}, err
	}
	var said record
	if said.images, err = parseRecord(packed, r.name); err != nil {
		return record{}, err
	}
	if verified, err := v1.NewHash(m.Annotations[verifiedAnnotation]); err == nil {
		said.verified = verified
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded[source] = said
	return said, nil
}

func (r *Repository) recordManifest(ctx context.Context, source v1.Hash) (*v1.Manifest, error) {
	d, found, err := r.get(ctx, r.name.Tag(recordTag(source)))
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, errors.New("there is none")
	}
	return imageManifest(d)
}

// isVerified tells whether the record of a manifest's own digest says that its layers have their diff IDs: one request.
func (r *Repository) isVerified(ctx context.Context, digest v1.Hash) error {
	m, err := r.recordManifest(ctx, digest)
	if err == nil && m.Annotations[verifiedAnnotation] != digest.String() {
		err = errors.New("its record doesn't say that its layers were compared with their diff IDs")
	}
	return err
}

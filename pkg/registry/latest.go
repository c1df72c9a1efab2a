package registry

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"
)

// latest is the tag that clients which push without a reference move: the newest image, as a rule.
const latest = "latest"

// latest returns the manifest with the tag latest, nil when there is none that can be read. Either answer is good for
// the run, or until the tag moves.
func (r *Repository) latest(ctx context.Context) *remote.Descriptor {
	d, found, err := r.get(ctx, r.name.Tag(latest))
	if err != nil {
		r.remember(latest, nil)
	}
	if err != nil || !found {
		r.log.Debug("No use in the tag latest", zap.Error(err))
		return nil
	}
	return d
}

// MoveLatest makes the tag latest name the manifest of that digest, which the repository must hold. Nothing is sent
// when it was seen in this run that the tag does so already.
//
// The tag may be all that Locate finds an image by: one that another tool pushed has no record. So if the tag was seen
// in this run to name a single image, its record is written before the tag leaves it, unless there is one. Not
// earlier: as long as the tag names the image, a record would make a run that has nothing else to write write.
//
// Like the record, the tag is a cache: the error is for the debug log. A record that is refused doesn't stop the tag.
func (r *Repository) MoveLatest(ctx context.Context, digest v1.Hash) error {
	r.mu.Lock()
	old := r.seen[latest]
	r.mu.Unlock()
	if old != nil && old.Digest == digest {
		return nil
	}
	m, err := r.fetch(ctx, digest)
	if err != nil {
		return fmt.Errorf("moving the tag %s to %s: %w", latest, digest, err)
	}
	return errors.Join(r.recordByConfig(ctx, old), r.put(ctx, latest, digest, m))
}

// recordByConfig makes sure that an image of this repository has a record under its config's digest. An index has no
// config, and nil is no image.
func (r *Repository) recordByConfig(ctx context.Context, d *remote.Descriptor) error {
	if d == nil {
		return nil
	}
	m, err := imageManifest(d)
	if err != nil || m.Config.Digest == (v1.Hash{}) {
		return err
	}
	if r.isVerified(ctx, d.Digest) == nil {
		return nil // both records were written together
	}
	// Reading is cheaper than writing, and the record is there if it was this program that moved the tag here. What it
	// says is remembered, and Record writes only what says something else.
	_, _ = r.readRecord(ctx, m.Config.Digest)
	return r.Record(ctx, d.Digest, false, m.Config.Digest)
}

// fetch returns a manifest's bytes, from this run's memory if it can.
func (r *Repository) fetch(ctx context.Context, digest v1.Hash) (stored, error) {
	r.mu.Lock()
	m, found := r.stored[digest]
	r.mu.Unlock()
	if found {
		return m, nil
	}
	d, found, err := r.Manifest(ctx, digest)
	if err != nil {
		return stored{}, err
	}
	if !found {
		return stored{}, fmt.Errorf("%s has no such manifest", r.name)
	}
	return stored{d.MediaType, d.Manifest}, nil
}

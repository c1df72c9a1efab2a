package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Record writes beside the image remote of this repository that it is where source went, for Locate to read. The
// record is a cache: a registry that refuses it (immutable tags, say) does no harm, and the error is for the debug
// log. Nothing is written when the record that Locate read says so already. The same record has the same bytes.
func (r *Repository) Record(ctx context.Context, source, remote v1.Hash) error {
	if r.recordedAs(source) == remote {
		return nil
	}
	record, err := newRecord(r.Reference(remote))
	if err == nil {
		err = r.pushAs(ctx, recordTag(source), record)
	}
	if err != nil {
		return fmt.Errorf("writing the locations record of %s: %w", source, err)
	}
	r.setRecorded(source, remote)
	return nil
}

// recordTag is where imgpkg keeps the record of a source.
func recordTag(source v1.Hash) string {
	return source.Algorithm + "-" + source.Hex + ".image-locations.imgpkg"
}

// readRecord returns the digest that the record of source names in this repository.
func (r *Repository) readRecord(ctx context.Context, source v1.Hash) (v1.Hash, error) {
	d, found, err := r.get(ctx, r.name.Tag(recordTag(source)))
	if err != nil || !found {
		return v1.Hash{}, errors.Join(err, fmt.Errorf("found: %t", found))
	}
	m, err := imageManifest(d)
	if err != nil {
		return v1.Hash{}, err
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != types.DockerLayer {
		return v1.Hash{}, errors.New("it isn't one Docker layer")
	}
	packed, err := r.readBlob(ctx, m.Layers[0], maxRecord)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := parseRecord(packed, r.name)
	if err == nil {
		r.setRecorded(source, digest)
	}
	return digest, err
}

func (r *Repository) recordedAs(source v1.Hash) v1.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.recorded[source]
}

func (r *Repository) setRecorded(source, remote v1.Hash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recorded[source] = remote
}

// namedByRecords returns what the records that were read name, in the order of their sources.
func (r *Repository) namedByRecords() []v1.Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	bySource := func(a, b v1.Hash) int { return strings.Compare(a.String(), b.String()) }
	var named []v1.Hash
	for _, source := range slices.SortedFunc(maps.Keys(r.recorded), bySource) {
		named = append(named, r.recorded[source])
	}
	return named
}

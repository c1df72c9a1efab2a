package registry

import (
	"context"
	"errors"
	"maps"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// latest is the tag that clients which push without a reference move: the newest image, as a rule.
const latest = "latest"

// Hints are what was read of the tag latest, of locations records, and of the manifests that these lead to. Anyone who
// may push can write them, so they are no proof. The zero value has none. A step that is given the hints
// of an earlier one doesn't ask for what is in them, whatever the answer was, and doesn't change them.
type Hints struct {
	asked     bool                           // for the tag latest
	latest    *remote.Descriptor             // nil where no manifest can be read by that tag
	verified  map[v1.Hash]bool               // whether the record of a manifest's own digest says that its layers are verified
	records   map[v1.Hash]record             // by source; empty where none can be read
	manifests map[v1.Hash]*remote.Descriptor // by digest; nil where the repository has none
	layers    Layers                         // of the image tagged latest, to be used if it is verified; nil where not asked for
}

func (h Hints) clone() Hints {
	h.verified, h.records, h.manifests = cloned(h.verified), cloned(h.records), cloned(h.manifests)
	return h
}

func cloned[V any](m map[v1.Hash]V) map[v1.Hash]V {
	if m == nil {
		return map[v1.Hash]V{}
	}
	return maps.Clone(m)
}

// addHints asks for the tag latest and the record of source, concurrently, where h doesn't have them.
func (r *Repository) addHints(ctx context.Context, h *Hints, source v1.Hash) {
	newest, said := h.latest, h.records[source]
	var g parallel.Group
	if !h.asked {
		g.Go(func() error { newest = r.latest(ctx); return nil })
	}
	if _, read := h.records[source]; !read {
		g.Go(func() error { said = r.readRecord(ctx, source); return nil })
	}
	_ = g.Wait() // every error is in the log
	h.asked, h.latest, h.records[source] = true, newest, said
	if newest != nil {
		h.manifests[newest.Digest] = newest
	}
}

// latest returns the manifest with the tag latest, nil when none can be read.
func (r *Repository) latest(ctx context.Context) *remote.Descriptor {
	d, err := r.get(ctx, r.name.Tag(latest))
	if d == nil {
		r.log.Debug("The tag latest gives no hint", zap.Error(err))
	}
	return d
}

// record is what a locations record says.
type record struct {
	images   []v1.Hash // of this repository
	verified v1.Hash   // the manifest whose layers are proven to have their diff IDs; zero for none
}

// readRecord returns what the record of source says, nothing where it can't be read.
func (r *Repository) readRecord(ctx context.Context, source v1.Hash) record {
	said, err := func() (said record, err error) {
		m, err := r.recordManifest(ctx, source)
		if err != nil {
			return said, err
		}
		if digest, err := v1.NewHash(m.Annotations[verifiedAnnotation]); err == nil { // the layer names no other
			return record{images: []v1.Hash{digest}, verified: digest}, nil
		}
		if len(m.Layers) != 1 || m.Layers[0].MediaType != types.DockerLayer {
			return said, errors.New("the record isn't one Docker layer")
		}
		packed, err := r.readBlob(ctx, m.Layers[0], maxRecord)
		if err != nil {
			return said, err
		}
		said.images, err = parseRecord(packed, r.name)
		return said, err
	}()
	if err != nil {
		r.log.Debug("The locations record gives no hint", zap.Stringer("source", source), zap.Error(err))
	}
	return said
}

func (r *Repository) recordManifest(ctx context.Context, source v1.Hash) (*v1.Manifest, error) {
	d, err := r.get(ctx, r.name.Tag(recordTag(source)))
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, errors.New("not found")
	}
	return imageManifest(d.MediaType, d.Manifest)
}

// isVerified reports whether the record of a manifest's own digest says that its layers have their diff IDs: one request
// where h doesn't have the answer.
func (r *Repository) isVerified(ctx context.Context, h Hints, digest v1.Hash) bool {
	if verified, asked := h.verified[digest]; asked {
		return verified
	}
	if said, read := h.records[digest]; read {
		return said.verified == digest
	}
	m, err := r.recordManifest(ctx, digest)
	if err != nil {
		r.log.Debug("No record says that the layers were verified", zap.Stringer("manifest", digest), zap.Error(err))
		return false
	}
	return m.Annotations[verifiedAnnotation] == digest.String()
}

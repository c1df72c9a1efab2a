package registry

import (
	"context"
	"fmt"
	"maps"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// checkers is how many questions are under way at once.
const checkers = 8

// Image is what can be pushed: a v1.Image, a v1.ImageIndex.
type Image interface {
	partial.Describable
	RawManifest() ([]byte, error)
}

// Plan is what an image lacks in the repository. Descriptors are in the order of the image's manifests.
type Plan struct {
	// Image describes the image as it will be in the repository.
	Image v1.Descriptor
	// Present is whether the repository has the image already: then nothing else was asked, and all else is empty.
	Present bool
	// Manifests are missing, children before the indexes that name them, Image last.
	Manifests []v1.Descriptor
	// Missing are the blobs to send, Reused those that the repository has. A manifest that is present vouches for
	// its blobs, so those are in neither.
	Missing, Reused []v1.Descriptor
	// Verified is set by Push: whether each layer is proven to have the diff ID that its config gives it, since it was
	// packed so, or compared while it was sent. It is false where parts of the image were in the registry before.
	Verified bool

	manifests map[v1.Hash]stored
	blobs     map[v1.Hash]blob
	claimed   map[v1.Hash]v1.Hash // diff IDs of layers, by blob, that are to be compared with the layers
	partial   bool                // some of its manifests are in the repository, and nobody looked into their layers
}

// Size is the sum of the blobs' sizes, in bytes.
func Size(blobs []v1.Descriptor) int64 {
	var sum int64
	for _, b := range blobs {
		sum += b.Size
	}
	return sum
}

// Plan finds out what of an image the repository lacks. The image's own manifest is asked for first, and when it is
// there nothing of the image but that is looked at; else its manifests are walked and every distinct blob is asked
// for, save those that Known returned in this run. No layer is read. Layers
// that are distributed from elsewhere (types.MediaType.IsDistributable is false, and they say from where) stay there.
// The digest of every manifest is verified, and a config that lists other layers than its manifest is an error. Packed
// are blobs by the diff IDs that they are proven to have, as Known and packing return them; nil for none.
func (r *Repository) Plan(ctx context.Context, img Image, packed map[v1.Hash]v1.Descriptor) (*Plan, error) {
	p, root, err := newPlan(img)
	if err != nil {
		return nil, err
	}
	p.Present, err = r.has(ctx, manifests, root.desc)
	if err != nil || p.Present {
		return p, err
	}
	if err := root.walk(img, map[v1.Hash]bool{}); err != nil {
		return nil, fmt.Errorf("reading the image %s: %w", root.desc.Digest, err)
	}
	p.claimed = map[v1.Hash]v1.Hash{}
	if err := root.claims(p.claimed); err != nil {
		return nil, fmt.Errorf("reading the image %s: %w", root.desc.Digest, err)
	}
	maps.DeleteFunc(p.claimed, func(blob, diffID v1.Hash) bool { return packed[diffID].Digest == blob })
	if err := r.checkManifests(ctx, root); err != nil {
		return nil, err
	}
	for n := range root.below() {
		p.partial = p.partial || n.present
	}
	return p, r.checkBlobs(ctx, p, p.collect(root))
}

// newPlan returns a plan that says nothing yet, and the image's own manifest.
func newPlan(img Image) (*Plan, *node, error) {
	root, err := newNode(img)
	if err != nil {
		return nil, nil, err
	}
	return &Plan{Image: root.desc, manifests: map[v1.Hash]stored{}, blobs: map[v1.Hash]blob{}}, root, nil
}

// checkManifests marks the nodes below the root that the repository has.
func (r *Repository) checkManifests(ctx context.Context, root *node) error {
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(checkers)
	for n := range root.below() {
		g.Go(func() (err error) {
			n.present, err = r.has(ctx, manifests, n.desc)
			return err
		})
	}
	return g.Wait()
}

// collect adds the missing manifests to the plan and returns the distinct blobs that they need.
func (p *Plan) collect(n *node) []v1.Descriptor {
	if _, done := p.manifests[n.desc.Digest]; done || n.present {
		return nil
	}
	var needed []v1.Descriptor
	for _, child := range n.children {
		needed = append(needed, p.collect(child)...)
	}
	for _, b := range n.blobs {
		if _, done := p.blobs[b.desc.Digest]; !done {
			p.blobs[b.desc.Digest] = b
			needed = append(needed, b.desc)
		}
	}
	p.manifests[n.desc.Digest] = stored{n.desc.MediaType, n.raw}
	p.Manifests = append(p.Manifests, n.desc)
	return needed
}

// checkBlobs sorts the blobs into missing and reused.
func (r *Repository) checkBlobs(ctx context.Context, p *Plan, needed []v1.Descriptor) error {
	present := make([]bool, len(needed))
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(checkers)
	for i, d := range needed {
		if present[i] = r.isKnown(d.Digest); present[i] {
			continue
		}
		g.Go(func() (err error) {
			present[i], err = r.has(ctx, blobs, d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, d := range needed {
		if present[i] {
			p.Reused = append(p.Reused, d)
		} else {
			p.Missing = append(p.Missing, d)
		}
	}
	return nil
}

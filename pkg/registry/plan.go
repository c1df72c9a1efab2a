package registry

import (
	"context"
	"fmt"
	"maps"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// checkers is how many questions are under way at once.
const checkers = 8

// Plan is what an image lacks in the repository. Descriptors are in the order of the image's manifests.
type Plan struct {
	// Image describes the image as it will be in the repository.
	Image v1.Descriptor
	// Present is whether the repository has the image already: then all else is empty.
	Present bool
	// Manifests are missing, children before the indexes that name them, Image last.
	Manifests []v1.Descriptor
	// Missing are the blobs to send, Reused those that the repository has. A manifest that is present vouches for
	// its blobs, so those are in neither.
	Missing, Reused []v1.Descriptor

	manifests map[v1.Hash][]byte
	blobs     map[v1.Hash]blob
	claimed   map[v1.Hash]v1.Hash // diff IDs of layers, by blob, that are to be compared with the layers
	partial   bool                // some manifests are in the repository, and their layers weren't compared
}

// Size is the sum of the blobs' sizes, in bytes.
func Size(blobs []v1.Descriptor) int64 {
	var sum int64
	for _, b := range blobs {
		sum += b.Size
	}
	return sum
}

// fewBlobs is how many blobs of a packed image are asked for together with its manifest, which saves a round trip.
const fewBlobs = 3

// Plan finds out what of an image the repository lacks. The image's own manifest is asked for first, a packed image's
// with at most fewBlobs of its blobs; where the repository has it, no more is asked. Else the image's manifests are walked
// and every distinct blob is asked for, save those held, which Layers returned. No layer is read. Layers that are distributed from elsewhere
// (types.MediaType.IsDistributable is false, and they have URLs) are left out. The digest of every manifest is verified,
// and a config that lists other layers than its manifest is an error. Packed are layers that packing made; nil for none.
// The diff IDs of both are proven.
func (r *Repository) Plan(ctx context.Context, img image.ImageOrIndex, held, packed Layers) (*Plan, error) {
	root, err := newNode(img)
	if err != nil {
		return nil, err
	}
	p := &Plan{Image: root.desc, manifests: map[v1.Hash][]byte{}, blobs: map[v1.Hash]blob{}}
	present := map[v1.Hash]bool{} // blobs whose answer is known
	for _, d := range held {
		present[d.Digest] = true
	}
	var nodes []*node
	read := func() error {
		err := root.walk(img, map[v1.Hash]bool{})
		if nodes = root.all(); err == nil {
			p.claimed, err = claims(nodes)
		}
		if err != nil {
			return fmt.Errorf("reading the image %s: %w", root.desc.Digest, err)
		}
		return nil
	}
	var few []v1.Descriptor
	_, single := img.(v1.Image)
	early := single && len(packed) > 0 // then reading the image costs nothing
	if early {
		if err := read(); err != nil {
			return nil, err
		}
		if few = unanswered(root.blobs, present); len(few) > fewBlobs {
			few = nil
		}
	}
	var g parallel.Group
	g.Go(func() (err error) { p.Present, err = r.has(ctx, manifests, root.desc); return err })
	g.Go(func() error { return r.ask(ctx, few, present) })
	switch err := g.Wait(); {
	case err != nil:
		return nil, err
	case p.Present:
		return &Plan{Image: root.desc, Present: true}, nil
	}
	if !early {
		if err := read(); err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(p.claimed, func(blob, diffID v1.Hash) bool {
		return held[diffID].Digest == blob || packed[diffID].Digest == blob
	})
	below, limited := parallel.WithContext(ctx)
	below.SetLimit(checkers)
	for _, n := range nodes[:len(nodes)-1] {
		below.Go(func() (err error) { n.present, err = r.has(limited, manifests, n.desc); return err })
	}
	if err := below.Wait(); err != nil {
		return nil, err
	}
	needed := p.collect(nodes)
	if err := r.ask(ctx, unanswered(needed, present), present); err != nil {
		return nil, err
	}
	for _, b := range needed {
		if present[b.desc.Digest] {
			p.Reused = append(p.Reused, b.desc)
		} else {
			p.Missing = append(p.Missing, b.desc)
		}
	}
	return p, nil
}

// unanswered returns the blobs that are to be asked for, each once.
func unanswered(blobs []blob, present map[v1.Hash]bool) (unknown []v1.Descriptor) {
	asked := maps.Clone(present)
	for _, b := range blobs {
		if _, known := asked[b.desc.Digest]; !known {
			unknown = append(unknown, b.desc)
			asked[b.desc.Digest] = false
		}
	}
	return unknown
}

// collect adds the missing manifests to the plan and returns the distinct blobs that they need.
func (p *Plan) collect(nodes []*node) (needed []blob) {
	for _, n := range nodes {
		if n.present {
			p.partial = true
			continue
		}
		for _, b := range n.blobs {
			if _, twice := p.blobs[b.desc.Digest]; !twice {
				p.blobs[b.desc.Digest] = b
				needed = append(needed, b)
			}
		}
		p.manifests[n.desc.Digest] = n.raw
		p.Manifests = append(p.Manifests, n.desc)
	}
	return needed
}

// ask adds to present which of the blobs the repository has and which it lacks; after an error those known by then.
func (r *Repository) ask(ctx context.Context, all []v1.Descriptor, present map[v1.Hash]bool) error {
	has := make([]bool, len(all))
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(checkers)
	for i, d := range all {
		g.Go(func() (err error) { has[i], err = r.has(ctx, blobs, d); return err })
	}
	err := g.Wait()
	for i, d := range all {
		present[d.Digest] = has[i]
	}
	return err
}

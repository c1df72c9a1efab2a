package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

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
	// Recorded says that Record will be called for the image. Then Push also sends the record's blobs, which don't depend on
	// what sending the image shows.
	Recorded bool

	manifests map[v1.Hash][]byte
	blobs     map[v1.Hash]blob
	partial   bool // some manifests are in the repository

	// expectedDiffIDs are those that the layers have to be compared with, by blob.
	expectedDiffIDs map[v1.Hash]v1.Hash
}

func newPlan(img v1.Descriptor) *Plan {
	return &Plan{Image: img, manifests: map[v1.Hash][]byte{}, blobs: map[v1.Hash]blob{}}
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

// Plan returns what of an image the repository lacks. The image's own manifest is asked for first, a packed image's
// with at most fewBlobs of its blobs; if the repository has it, no more is asked. Else the image's manifests are walked
// and every distinct blob is asked for. No layer is read. Layers that are distributed from elsewhere
// (types.MediaType.IsDistributable is false, and they have URLs) are left out. The digest of every manifest is verified,
// and a config that lists other layers than its manifest is an error. packedLayers are those that packing made; nil for
// none. Their diff IDs are proven, and so are those of [View.Layers].
func (v *View) Plan(ctx context.Context, img image.ImageOrIndex, packedLayers Layers) (*Plan, error) {
	root, err := newNode(img)
	if err != nil {
		return nil, err
	}
	p := newPlan(root.desc)
	read := sync.OnceValue(func() error {
		if err := root.walk(img); err != nil {
			return fmt.Errorf("reading the image %s: %w", root.desc.Digest, err)
		}
		return nil
	})
	var few []v1.Descriptor
	if _, single := img.(v1.Image); single && len(packedLayers) > 0 { // then reading the image costs nothing
		if err := read(); err != nil {
			return nil, err
		}
		few = v.unasked(root.blobs)
	}
	if p.Present, err = v.hasManifest(ctx, root.desc, few); err != nil || p.Present {
		return &Plan{Image: root.desc, Present: p.Present}, err
	}
	if err := read(); err != nil {
		return nil, err
	}
	nodes := root.all()
	if p.expectedDiffIDs, err = expectedDiffIDs(nodes); err != nil {
		return nil, fmt.Errorf("reading the image %s: %w", root.desc.Digest, err)
	}
	learned, _ := v.learned.peek(latest)
	maps.DeleteFunc(p.expectedDiffIDs, func(blob, diffID v1.Hash) bool {
		return learned[diffID].Digest == blob || packedLayers[diffID].Digest == blob
	})
	if err := v.lookBelow(ctx, nodes); err != nil {
		return nil, err
	}
	return p, v.split(ctx, p, p.collect(nodes))
}

// hasManifest asks for a manifest, and together with it for some blobs, which are few or none are asked for.
func (v *View) hasManifest(ctx context.Context, d v1.Descriptor, few []v1.Descriptor) (present bool, err error) {
	var g parallel.Group
	if found, asked := v.manifests.peek(d.Digest); asked {
		present = found != nil
	} else {
		g.Go(func() (err error) { present, err = v.has(ctx, manifests, d); return err })
	}
	if len(few) <= fewBlobs {
		g.Go(func() error { _, err := v.hasBlobs(ctx, few); return err })
	}
	return present, g.Wait()
}

// lookBelow asks which manifests below the last one the repository has.
func (v *View) lookBelow(ctx context.Context, nodes []*node) error {
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(checkers)
	for _, n := range nodes[:len(nodes)-1] {
		g.Go(func() (err error) { n.present, err = v.has(ctx, manifests, n.desc); return err })
	}
	return g.Wait()
}

// split asks for the blobs that are needed, and tells those to send from those that the repository has.
func (v *View) split(ctx context.Context, p *Plan, needed []blob) error {
	held, err := v.hasBlobs(ctx, distinct(needed))
	for _, b := range needed {
		if held[b.desc.Digest] {
			p.Reused = append(p.Reused, b.desc)
		} else {
			p.Missing = append(p.Missing, b.desc)
		}
	}
	return err
}

// unasked returns the distinct blobs that the view hasn't asked for.
func (v *View) unasked(all []blob) []v1.Descriptor {
	return slices.DeleteFunc(distinct(all), func(d v1.Descriptor) bool {
		_, asked := v.blobs.peek(d.Digest)
		return asked
	})
}

// distinct returns the blobs' descriptors, each once.
func distinct(all []blob) (descriptors []v1.Descriptor) {
	seen := map[v1.Hash]bool{}
	for _, b := range all {
		if !seen[b.desc.Digest] {
			descriptors = append(descriptors, b.desc)
		}
		seen[b.desc.Digest] = true
	}
	return descriptors
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

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

// Plan lists what the repository lacks of an image. Descriptors are in the order of the image's manifests.
type Plan struct {
	// Image describes the image as it will be in the repository.
	Image v1.Descriptor
	// Present is true if the repository has the image already. All other lists are then empty.
	Present bool
	// Manifests are the missing manifests, children before the indexes that list them. The last is Image.
	Manifests []v1.Descriptor
	// Missing are the blobs to send, Reused those that the repository has. Both leave out the blobs of manifests that
	// are present, because a registry keeps the blobs to which its manifests refer.
	Missing, Reused []v1.Descriptor
	// WillRecord is set by a caller that will call View.Record for the image. Push then also sends the blobs of the
	// record, whose content depends only on the digest of the image.
	WillRecord bool

	manifests map[v1.Hash][]byte
	blobs     map[v1.Hash]blob

	// comparable is false if some layer of the image can't be proven to have its diff ID.
	comparable bool
	// expectedDiffIDs maps the digests of blobs to the diff IDs with which they have to be compared.
	expectedDiffIDs map[v1.Hash]v1.Hash
}

// newPlan returns an empty plan for an image.
func newPlan(img v1.Descriptor) *Plan {
	return &Plan{Image: img, manifests: map[v1.Hash][]byte{}, blobs: map[v1.Hash]blob{}}
}

// Size returns the sum of the blobs' sizes in bytes.
func Size(blobs []v1.Descriptor) int64 {
	var sum int64
	for _, b := range blobs {
		sum += b.Size
	}
	return sum
}

// fewBlobs is the maximum number of blobs of a packed image that are requested together with its manifest. It saves a
// round trip.
const fewBlobs = 3

// Plan returns what the repository lacks of an image. It requests the image's manifest first, for a packed image
// together with at most fewBlobs blobs. If the repository has the manifest, nothing else is requested. Otherwise Plan
// walks the image's manifests and requests each distinct blob. It reads no layer and leaves out foreign layers, which
// have URLs and aren't distributable.
//
// PackedLayers are the layers that packing made, nil if there are none. Their diff IDs are proven, as are those of
// [View.Layers]. Plan verifies the digest of every manifest. It fails if a config doesn't match the layers of its
// manifest.
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
	if _, single := img.(v1.Image); single && len(packedLayers) > 0 { // a packed image's manifest and config are in memory
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
	layers, _ := v.layersByTag.peek(tagLatest)
	unproven := unprovenBlobs(nodes, layers, packedLayers)
	maps.DeleteFunc(p.expectedDiffIDs, func(blob, _ v1.Hash) bool { return !unproven[blob] })
	// Of an index, View.Layers leaves out each image that isn't comparable.
	_, err = comparableManifest(root.desc.MediaType, root.raw)
	p.comparable = err == nil || root.desc.MediaType.IsIndex()
	if err := v.lookBelow(ctx, nodes); err != nil {
		return nil, err
	}
	return p, v.split(ctx, p, p.collect(nodes))
}

// hasManifest reports whether the repository has a manifest. It requests at most fewBlobs blobs along with it; if few
// has more, it requests none.
func (v *View) hasManifest(ctx context.Context, d v1.Descriptor, few []v1.Descriptor) (present bool, err error) {
	var g parallel.Group
	if found, asked := v.manifests.peek(d.Digest); asked {
		present = found != nil
	} else {
		g.Go(func() (err error) { present, err = v.has(ctx, kindManifest, d); return err })
	}
	if len(few) <= fewBlobs {
		g.Go(func() error { _, err := v.hasBlobs(ctx, few); return err })
	}
	err = g.Wait()
	return present, err
}

// lookBelow requests which manifests below the root the repository has. The root is the last node.
func (v *View) lookBelow(ctx context.Context, nodes []*node) error {
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(checkers)
	for _, n := range nodes[:len(nodes)-1] {
		g.Go(func() (err error) { n.present, err = v.has(ctx, kindManifest, n.desc); return err })
	}
	return g.Wait()
}

// split adds the needed blobs to the plan: as reused if the repository has them, otherwise as missing.
func (v *View) split(ctx context.Context, p *Plan, needed []blob) error {
	exists, err := v.hasBlobs(ctx, distinct(needed))
	for _, b := range needed {
		if exists[b.desc.Digest] {
			p.Reused = append(p.Reused, b.desc)
		} else {
			p.Missing = append(p.Missing, b.desc)
		}
	}
	return err
}

// unasked returns the distinct blobs that the view hasn't requested yet.
func (v *View) unasked(all []blob) []v1.Descriptor {
	return slices.DeleteFunc(distinct(all), func(d v1.Descriptor) bool {
		_, asked := v.blobs.peek(d.Digest)
		return asked
	})
}

// distinct returns the descriptors of the blobs without repetitions.
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

// collect adds the missing manifests to the plan and returns the distinct blobs to which they refer.
func (p *Plan) collect(nodes []*node) (needed []blob) {
	for _, n := range nodes {
		if n.present {
			continue
		}
		for _, b := range n.blobs {
			first, twice := p.blobs[b.desc.Digest]
			switch {
			case !twice:
				p.blobs[b.desc.Digest] = b
				needed = append(needed, b)
			case compressionOf(b.desc.MediaType) != compressionOf(first.desc.MediaType): // one of the types is wrong
				p.comparable = false
			}
		}
		p.manifests[n.desc.Digest] = n.raw
		p.Manifests = append(p.Manifests, n.desc)
	}
	return needed
}

package registry

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// node is a manifest in the tree of an image or index.
type node struct {
	desc     v1.Descriptor
	raw      []byte
	blobs    []blob
	children []*node
	present  bool // in the repository
}

// blob is a blob to which a manifest refers.
type blob struct {
	desc    v1.Descriptor
	layer   func() (partial.CompressedLayer, error) // describes the blob; its content is opened when it is sent
	diffID  v1.Hash                                 // in the image's config; zero if it isn't compared (see diffIDsOf)
	inspect bool                                    // it may be a layer, and Push has to learn its diff ID
	read    bool                                    // it is a config, and walking the image has read it
}

// layered is an index that can open any blob by digest, as those of go-containerregistry can.
type layered interface {
	Layer(v1.Hash) (v1.Layer, error)
}

// newTree reads the manifest of an image or index and all manifests below it.
func newTree(img image.ImageOrIndex) (*node, error) {
	root, err := newNode(img)
	if err == nil {
		err = root.walk(img)
	}
	return root, err
}

// newNode reads the manifest of an image or index and verifies its digest.
func newNode(img image.ImageOrIndex) (*node, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, fmt.Errorf("computing an image's digest: %w", err)
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, fmt.Errorf("reading the media type of %s: %w", digest, err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("reading the manifest %s: %w", digest, err)
	}
	return verifiedNode(v1.Descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(raw))}, raw)
}

// verifiedNode returns the node of a manifest. It fails if the bytes don't have the digest.
func verifiedNode(desc v1.Descriptor, raw []byte) (*node, error) {
	hasher, err := v1.Hasher(desc.Digest.Algorithm)
	if err != nil {
		return nil, err
	}
	_, _ = hasher.Write(raw) // a hash never fails to write
	if got := fmt.Sprintf("%x", hasher.Sum(nil)); got != desc.Digest.Hex {
		return nil, fmt.Errorf("the manifest %s is damaged: its bytes hash to %s:%s",
			desc.Digest, desc.Digest.Algorithm, got)
	}
	return &node{desc: desc, raw: raw}, nil
}

// all returns the node and all nodes below it. Each node comes after those to which it refers.
func (n *node) all() (nodes []*node) {
	for _, child := range n.children {
		nodes = append(nodes, child.all()...)
	}
	return append(nodes, n)
}

// walk reads the blobs and children of a node. It fails for indexes that are nested more than image.MaxDepth deep.
func (n *node) walk(img any) error { return walker{}.walk(n, img, 1) }

// walker holds the digests of the manifests that were visited. Each is visited once.
type walker map[v1.Hash]bool

// walk reads the blobs and children of the node n, whose image or index is img. An index that lists only images has
// depth 1.
func (visited walker) walk(n *node, img any, depth int) error {
	visited[n.desc.Digest] = true
	switch img := img.(type) {
	case v1.ImageIndex:
		return visited.walkIndex(n, img, depth)
	case v1.Image:
		return n.walkImage(img)
	}
	return fmt.Errorf("%s is of media type %q, which is neither an image nor an index", n.desc.Digest, n.desc.MediaType)
}

// walkImage lists the blobs of an image. Foreign layers, which have URLs, are left out.
func (n *node) walkImage(img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	diffIDs, err := diffIDsOf(img, m)
	if err != nil {
		return err
	}
	configLayer := func() (partial.CompressedLayer, error) { return partial.ConfigLayer(img) }
	n.blobs = append(n.blobs, blob{desc: m.Config, layer: configLayer, read: diffIDs != nil})
	for i, d := range m.Layers {
		if d.MediaType.IsDistributable() || len(d.URLs) == 0 {
			b := blob{desc: d, layer: func() (partial.CompressedLayer, error) { return img.LayerByDigest(d.Digest) }}
			if diffIDs != nil {
				b.diffID = diffIDs[i]
			}
			n.blobs = append(n.blobs, b)
		}
	}
	return n.checkSizes()
}

// checkSizes returns an error for a negative size. A wrong size is noticed when the blob is read.
func (n *node) checkSizes() error {
	for _, b := range n.blobs {
		if b.desc.Size < 0 {
			return fmt.Errorf("the manifest %s says that %s has %d bytes", n.desc.Digest, b.desc.Digest, b.desc.Size)
		}
	}
	return nil
}

// walkIndex reads the manifests to which an index refers.
func (visited walker) walkIndex(n *node, index v1.ImageIndex, depth int) error {
	if depth > image.MaxDepth {
		return fmt.Errorf("the index %s is nested more than %d deep", n.desc.Digest, image.MaxDepth)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range m.Manifests {
		if visited[d.Digest] {
			continue
		}
		child, err := visited.newChild(index, d, depth+1)
		if err != nil {
			return fmt.Errorf("reading %s, which the index %s names: %w", d.Digest, n.desc.Digest, err)
		}
		n.children = append(n.children, child)
	}
	return nil
}

// newChild reads a manifest to which an index refers, and those below it.
func (visited walker) newChild(index v1.ImageIndex, d v1.Descriptor, depth int) (*node, error) {
	var img image.ImageOrIndex
	var err error
	switch {
	case d.MediaType.IsIndex():
		img, err = index.ImageIndex(d.Digest)
	case d.MediaType.IsImage():
		img, err = index.Image(d.Digest)
	default:
		return newArtifact(index, d)
	}
	if err != nil {
		return nil, err
	}
	child, err := newNode(img)
	if err != nil {
		return nil, err
	}
	if child.desc.Digest != d.Digest || child.desc.Size != d.Size {
		return nil, fmt.Errorf("the index says %d bytes, but the manifest %s has %d",
			d.Size, child.desc.Digest, child.desc.Size)
	}
	return child, visited.walk(child, img, depth)
}

// newArtifact reads a manifest of an unknown media type. It is copied unchanged, with the blobs in its fields config,
// layers and blobs.
func newArtifact(index v1.ImageIndex, d v1.Descriptor) (*node, error) {
	source, ok := index.(layered)
	if !ok {
		return nil, fmt.Errorf("the media type %q is neither an image nor an index", d.MediaType)
	}
	l, err := source.Layer(d.Digest)
	if err != nil {
		return nil, err
	}
	content, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	raw, err := io.ReadAll(io.LimitReader(content, image.MaxManifest))
	if err != nil {
		return nil, err
	}
	n, err := verifiedNode(d, raw)
	if err != nil {
		return nil, err
	}
	var listed struct {
		Config        *v1.Descriptor
		Layers, Blobs []v1.Descriptor
	}
	if err := json.Unmarshal(raw, &listed); err != nil {
		return nil, fmt.Errorf("a manifest of media type %q isn't JSON: %w", d.MediaType, err)
	}
	if listed.Config != nil {
		listed.Layers = append(listed.Layers, *listed.Config)
	}
	for _, b := range append(listed.Layers, listed.Blobs...) {
		n.blobs = append(
			n.blobs,
			blob{desc: b, layer: func() (partial.CompressedLayer, error) { return source.Layer(b.Digest) }},
		)
	}
	return n, n.checkSizes()
}

// unprovenBlobs returns the blobs that aren't known to be the layers that the images' configs describe, compressed as
// their media types say.
func unprovenBlobs(nodes []*node, known ...Layers) map[v1.Hash]bool {
	unproven := map[v1.Hash]bool{}
	for _, n := range nodes {
		for _, b := range n.blobs {
			if !slices.ContainsFunc(known, func(layers Layers) bool {
				l := layers[b.diffID]
				return l.Digest == b.desc.Digest && compressionOf(l.MediaType) == compressionOf(b.desc.MediaType)
			}) {
				unproven[b.desc.Digest] = true
			}
		}
	}
	return unproven
}

// expectedDiffIDs returns the diff ID of each layer by blob, as the configs of the images list it. It fails if two
// configs disagree.
func expectedDiffIDs(nodes []*node) (map[v1.Hash]v1.Hash, error) {
	expected := map[v1.Hash]v1.Hash{}
	for _, n := range nodes {
		for _, b := range n.blobs {
			switch other, twice := expected[b.desc.Digest]; {
			case b.diffID == v1.Hash{}:
			case twice && other != b.diffID:
				return nil, wrongDiffID(b.desc.Digest, b.diffID, other)
			default:
				expected[b.desc.Digest] = b.diffID
			}
		}
	}
	return expected, nil
}

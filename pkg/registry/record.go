package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
)

// Recorded is an image of a repository and what Find is to find it by.
type Recorded struct {
	Image image.ImageOrIndex
	// Compared is true if every layer of the image is known to have its diff ID. Then its record has a proof of that, and is
	// also stored under the digest of the image's config (an index's own digest), where [View.Layers] looks for it.
	Compared bool
	// Sources are the digests that the image has elsewhere.
	Sources []v1.Hash
}

// Record stores mappings from sources to images of this repository, so that Find can find these next time. With moveLatest it
// also makes the tag latest name the first of the images.
//
// Records and the tag are a cache: if a registry refuses them (immutable tags, say), the next run is slower, and the error is
// for the debug log. A record or tag that the view has read, and that says the same already, isn't written. A record that is
// refused doesn't stop the tag.
func (v *View) Record(ctx context.Context, moveLatest bool, images ...Recorded) error {
	statements := map[v1.Hash]statement{}
	var roots []*node
	for _, one := range images {
		root, err := newNode(one.Image)
		if err != nil {
			return err
		}
		roots = append(roots, root)
		sources, kind := slices.Clone(one.Sources), ""
		if one.Compared {
			sources, kind = append(sources, recordedAs(root.desc, root.raw)), layersKind
		}
		for _, source := range sources {
			statements[source] = statement{image: root.desc.Digest, kind: kind}
		}
	}
	var moved error
	var g parallel.Group
	g.Go(func() error { return v.writeRecords(ctx, statements) })
	if moveLatest {
		g.Go(func() error { moved = v.moveLatest(ctx, roots[0], statements); return nil })
	}
	return errors.Join(g.Wait(), moved)
}

// statement is what a record is to say about a source or key.
type statement struct {
	image, source v1.Hash
	kind          string // of the proof; "" for none
}

// writeRecords writes records of sources and keys. Older proofs of the same statement are kept.
func (v *View) writeRecords(ctx context.Context, statements map[v1.Hash]statement) error {
	records := map[string]v1.Image{}
	for about, s := range statements {
		said, _ := v.records.peek(about)
		same := said.image == s.image && said.source == s.source
		if !same {
			said = record{image: s.image, source: s.source}
		}
		if same && (s.kind == "" || v.prover.believes(said, s.kind, about)) {
			continue
		}
		annotations := map[string]string{imageAnnotation: s.image.String()}
		if s.source != (v1.Hash{}) {
			annotations[sourceAnnotation] = s.source.String()
		}
		if proof := v.prover.proof(s.kind, about, s.image, s.source); proof != "" {
			annotations[proofsAnnotation] = formatProofs(proof, said.proofs)
		}
		written, err := newRecord(v.name.Digest(s.image.String()), annotations)
		if err != nil {
			return err
		}
		records[recordTag(about)] = written
	}
	if err := v.pushRecords(ctx, records); err != nil {
		return fmt.Errorf("writing the locations record: %w", err)
	}
	return nil
}

// moveLatest makes the tag latest name a manifest. No request is made if the view has seen that it does so already.
//
// The tag may be all that Find finds an image by: one that another tool pushed has no record. So if the view has seen that
// the tag names a single image, its record is written before the tag leaves it, unless a proof says what another record of
// that source is. Not earlier: as long as the tag names the image, a run that finds it by the tag need not write.
func (v *View) moveLatest(ctx context.Context, root *node, recorded map[v1.Hash]statement) (err error) {
	if old, _ := v.tags.peek(latest); old != nil {
		if old.Digest == root.desc.Digest {
			return nil
		}
		source := recordedAs(old.Descriptor, old.Manifest)
		_, proven := recorded[source]
		if index := source == old.Digest; !proven && !index && !v.prover.believes(v.record(ctx, source), layersKind, source) {
			err = v.writeRecords(ctx, map[v1.Hash]statement{source: {image: old.Digest}})
		}
	}
	return errors.Join(err, v.put(ctx, latest, root.desc, root.raw))
}

// RecordKey stores that a key means an image of this repository: the digest of a text that names what the image is made of.
// Source is the digest that the image had where it came from. Nothing is written if the record says so already.
func (v *View) RecordKey(ctx context.Context, key v1.Hash, img image.ImageOrIndex, source v1.Hash) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	v.record(ctx, key) // reading is cheaper than writing
	return v.writeRecords(ctx, map[v1.Hash]statement{key: {digest, source, keyKind}})
}

// sendRecordBlobs sends the blobs of an image's record. Only its manifest has the proof.
func (v *View) sendRecordBlobs(ctx context.Context, img v1.Hash) error {
	written, err := newRecord(v.name.Digest(img.String()), nil)
	if err != nil {
		return err
	}
	root, err := newTree(written)
	if err != nil {
		return err
	}
	return v.pushRecordBlobs(ctx, root.blobs)
}

// pushRecords sends records by their tags, without asking what of them the repository has.
func (v *View) pushRecords(ctx context.Context, records map[string]v1.Image) error {
	p := newPlan(v1.Descriptor{})
	roots := map[string]*node{}
	var parts []blob
	for tag, img := range records {
		root, err := newTree(img)
		if err != nil {
			return err
		}
		roots[tag] = root
		parts = append(parts, p.collect([]*node{root})...)
	}
	if err := v.pushRecordBlobs(ctx, parts); err != nil {
		return err
	}
	g, ctx := parallel.WithContext(ctx)
	for tag, root := range roots {
		g.Go(func() error { return v.put(ctx, tag, root.desc, root.raw) })
	}
	return g.Wait()
}

// pushRecordBlobs sends each blob once. They are too small to wait for a slot.
func (v *View) pushRecordBlobs(ctx context.Context, blobs []blob) error {
	_, err := v.pushBlobs(ctx, blobs, func(ctx context.Context, b blob) (bool, error) {
		_, err := v.sent.get(ctx, b.desc.Digest, func() (blobupload.Sent, error) { return v.pushBlob(ctx, b, func(int64) {}) })
		return false, err
	})
	return err
}

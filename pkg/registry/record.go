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

// Recorded is an image of the repository, with the digests by which Find can find it.
type Recorded struct {
	Image image.ImageOrIndex
	// Compared is true if every layer of the image is proven to have its diff ID. Its record then has a proof of that, and
	// is also stored under the digest of the image's config (or of the index), where [View.Layers] looks for it.
	Compared bool
	// Sources are the digests that the image has where it comes from.
	Sources []v1.Hash
}

// Record stores mappings from sources to images of the repository, so that Find can find the images next time. If
// moveLatest is true, it also moves the tag latest to the first image.
//
// Records and the tag are only a cache: log an error at debug level and go on. If a registry refuses them (immutable
// tags, for example), the next run is slower. Records and tags that the view has read and that needn't change aren't
// written. A refused record doesn't stop the tag.
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
	if moveLatest && len(roots) > 0 {
		g.Go(func() error { moved = v.moveLatest(ctx, roots[0], statements); return nil })
	}
	return errors.Join(g.Wait(), moved)
}

// statement is the content of a record about a source or key.
type statement struct {
	image, source v1.Hash
	kind          string // of the proof; "" for none
}

// writeRecords writes records about sources and keys. If the view has read a record with the same statement, its
// proofs are kept.
func (v *View) writeRecords(ctx context.Context, statements map[v1.Hash]statement) error {
	records := map[string]v1.Image{}
	for about, s := range statements {
		rec, _ := v.records.peek(about)
		same := rec.image == s.image && rec.source == s.source
		if !same {
			rec = record{image: s.image, source: s.source}
		}
		proof := v.prover.proof(s.kind, about, s.image, s.source)
		if same && (proof == "" || v.prover.believes(rec, s.kind, about)) {
			continue
		}
		annotations := map[string]string{imageAnnotation: s.image.String()}
		if s.source != (v1.Hash{}) {
			annotations[sourceAnnotation] = s.source.String()
		}
		if proof != "" {
			annotations[proofsAnnotation] = formatProofs(proof, rec.proofs)
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

// moveLatest moves the tag latest to a manifest. It makes no request if the view has read the tag and the tag is
// there already.
//
// The tag may be the only way to find an image that another tool pushed. So before the tag moves away from an image
// (not an index) that the view has read under it, a record of that image is written under the digest of its config,
// unless a proven record is there already. While the tag names the image, the record isn't needed.
func (v *View) moveLatest(ctx context.Context, root *node, recorded map[v1.Hash]statement) (err error) {
	if old, _ := v.tags.peek(tagLatest); old != nil {
		if old.Digest == root.desc.Digest {
			return nil
		}
		source := recordedAs(old.Descriptor, old.Manifest)
		_, proven := recorded[source]
		if index := source == old.Digest; !proven && !index && !v.prover.believes(v.record(ctx, source), layersKind, source) {
			err = v.writeRecords(ctx, map[v1.Hash]statement{source: {image: old.Digest}})
		}
	}
	return errors.Join(err, v.put(ctx, tagLatest, root.desc, root.raw))
}

// RecordKey stores that a key means an image of the repository. The key is the digest of a text that names what the
// image is made of. Source is the digest that the image has where it comes from. If the record says so already, nothing
// is written.
func (v *View) RecordKey(ctx context.Context, key v1.Hash, img image.ImageOrIndex, source v1.Hash) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	v.record(ctx, key) // reading is cheaper than writing
	return v.writeRecords(ctx, map[v1.Hash]statement{key: {digest, source, keyKind}})
}

// sendRecordBlobs sends the blobs of an image's record. Only the record's manifest contains the proof.
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

// pushRecords sends records under their tags. It doesn't check what the repository has. It uses an empty plan only to
// send each distinct blob of the records once.
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

// pushRecordBlobs sends each blob once. The blobs are so small that they don't wait for other blobs.
func (v *View) pushRecordBlobs(ctx context.Context, blobs []blob) error {
	_, err := v.pushBlobs(ctx, blobs, func(ctx context.Context, b blob) (bool, error) {
		_, err := v.sent.get(
			ctx,
			b.desc.Digest,
			func() (blobupload.Sent, error) { return v.pushBlob(ctx, b, func(int64) {}) },
		)
		return false, err
	})
	return err
}

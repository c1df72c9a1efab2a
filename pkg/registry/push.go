package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/dustin/go-humanize"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

const (
	// The number of blobs or manifests that are sent concurrently. It is mostSenders if the registry answers slowly, so
	// that some senders send while others wait for an answer.
	senders, mostSenders = 4, 8

	manifestTries = 6 // of a manifest whose blobs the registry doesn't find yet
)

// SendBlob sends a layer before the plan is known, unless the repository has it. [View.Push] sends what no call of
// SendBlob has sent, and waits for those in progress, so SendBlob is never needed. It may be called from several
// goroutines; a call waits until few enough blobs are being sent.
//
// Nothing else is known about a layer without a media type. Its diff ID is kept until Push compares it with the image's
// config.
func (v *View) SendBlob(ctx context.Context, layer partial.CompressedLayer) error {
	d, err := partial.Descriptor(layer)
	if err != nil {
		return err
	}
	if has, err := v.hasBlob(ctx, *d); has || err != nil {
		return err
	}
	b := blob{desc: *d, layer: func() (partial.CompressedLayer, error) { return layer, nil }, inspect: d.MediaType == ""}
	_, err = v.sendOnce(ctx, b)
	return err
}

// Push sends what the plan says is missing: blobs first, then manifests, several of them concurrently, the image's own
// last, so that no incomplete image can be found. It pushes by digest and changes no tag. Each blob is verified before
// the registry stores it. The first error stops the rest.
//
// Progress, if not nil, is called with the number of further bytes that were sent, including those sent before Push was
// called. It is never called concurrently. The sum may be below the plan's total, because blobs can be mounted.
//
// Layers whose diff IDs aren't proven yet are decompressed and compared while they are sent. A wrong diff ID is an
// error. Compared is true if every layer is proven to have its diff ID, because it was packed or compared. It is
// false, for example, if a layer was mounted, if the repository had it before without a proof, or if the image has a
// form that Find refuses to compare, such as one with encrypted layers.
func (v *View) Push(ctx context.Context, p *Plan, progress func(n int64)) (compared bool, err error) {
	defer v.meter.show(progress)()
	if !p.WillRecord || v.decompress == nil || !v.willCompare(p) {
		return v.push(ctx, p) // Record may write no record of this image, and the record's blobs would be sent in vain
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = parallel.All(
		func() (err error) {
			if compared, err = v.push(ctx, p); err != nil {
				cancel()
			}
			return err
		},
		func() error {
			if err := v.sendRecordBlobs(ctx, p.Image.Digest); err != nil { // Record tries again
				v.log.Debug("could not send the locations record's blobs", zap.Error(err))
			}
			return nil
		},
	)
	return compared, err
}

// willCompare reports whether every layer whose diff ID isn't proven yet is read when the plan is pushed. A layer
// that the repository has, or that the registry may mount, is not.
func (v *View) willCompare(p *Plan) bool {
	if !p.comparable {
		return false
	}
	missing := map[v1.Hash]bool{}
	for _, d := range p.Missing {
		missing[d.Digest] = true
	}
	for digest := range p.expectedDiffIDs {
		if !missing[digest] {
			return false
		}
		layer, err := p.blobs[digest].layer()
		if err != nil || v.mountSource(layer) != "" {
			return false
		}
	}
	return true
}

// push sends what the plan says is missing. See [View.Push].
func (v *View) push(ctx context.Context, p *Plan) (compared bool, err error) {
	var missing []blob
	for _, d := range p.Missing {
		b := p.blobs[d.Digest]
		b.diffID = p.expectedDiffIDs[d.Digest]
		missing = append(missing, b)
	}
	proven, err := v.pushBlobs(ctx, missing, v.sendProven)
	if err != nil {
		return false, err
	}
	for rest := p.Manifests; len(rest) > 0; {
		// An index names what is before it, so that is sent first.
		n := slices.IndexFunc(rest[1:], func(d v1.Descriptor) bool { return d.MediaType.IsIndex() }) + 1
		if n == 0 {
			n = len(rest)
		}
		g, ctx := parallel.WithContext(ctx)
		g.SetLimit(v.senders())
		for _, d := range rest[:n] {
			g.Go(func() error { return v.putByDigest(ctx, d, p.manifests[d.Digest]) })
		}
		if err := g.Wait(); err != nil {
			return false, err
		}
		rest = rest[n:]
	}
	compared = p.comparable
	for blob := range p.expectedDiffIDs {
		compared = compared && proven[blob]
	}
	return compared, nil
}

// sendProven sends a blob. It reports whether the blob is proven to be the layer that the config describes, compressed
// as its media type says. Engines go by the content, and not every engine knows every format, so a layer with a wrong
// media type must not become part of other images.
func (v *View) sendProven(ctx context.Context, b blob) (bool, error) {
	sent, err := v.sendOnce(ctx, b)
	switch {
	case err != nil || b.diffID == v1.Hash{} || sent.DiffID == v1.Hash{}:
		return false, err
	case sent.DiffID != b.diffID:
		return false, wrongDiffID(b.desc.Digest, b.diffID, sent.DiffID)
	}
	return sent.Compression == compressionOf(b.desc.MediaType), nil
}

// sendOnce sends a blob. If another call sends or has sent it, sendOnce returns that call's result.
func (v *View) sendOnce(ctx context.Context, b blob) (blobupload.Sent, error) {
	return v.sent.get(ctx, b.desc.Digest, func() (blobupload.Sent, error) {
		share := int64(mostSenders / v.senders()) // so that v.senders() calls take all slots
		if err := v.slots.Acquire(ctx, share); err != nil {
			return blobupload.Sent{}, context.Cause(ctx)
		}
		defer v.slots.Release(share)
		return v.pushBlob(ctx, b, v.meter.add)
	})
}

// senders returns the maximum number of blobs or manifests that are sent concurrently.
func (r *Repository) senders() int {
	if r.seen.isSlow() {
		return mostSenders
	}
	return senders
}

// meter counts the sent bytes and shows them as soon as Push is called.
type meter struct {
	mu       sync.Mutex
	unshown  int64
	progress func(bytes int64) // nil if nobody wants to see them
}

// add counts bytes that were sent.
func (m *meter) add(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unshown += bytes; m.progress != nil {
		m.progress(m.unshown)
		m.unshown = 0
	}
}

// show shows the bytes to progress until hide is called. Progress may be nil.
func (m *meter) show(progress func(bytes int64)) (hide func()) {
	set := func(progress func(bytes int64)) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.progress = progress
	}
	set(progress)
	m.add(0)
	return func() { set(nil) }
}

// putByDigest stores a manifest whose blobs the repository has. It tries again if the registry doesn't find a blob:
// Distribution 2 may not find one while another run stores it, and other registries may find it a little later.
func (r *Repository) putByDigest(ctx context.Context, d v1.Descriptor, raw []byte) error {
	for try := 1; ; try++ {
		err := r.put(ctx, d.Digest.String(), d, raw)
		if !isCode(err, registryTransport.ManifestBlobUnknownErrorCode) || try == manifestTries {
			return err
		}
		if err := r.wait(ctx, transport.Backoff(try-1, nil)); err != nil {
			return err
		}
	}
}

// pushBlobs sends blobs and returns which of them are proven to have their diff IDs. Mounted blobs, for example, are
// not.
func (r *Repository) pushBlobs(
	ctx context.Context,
	blobs []blob,
	send func(context.Context, blob) (bool, error),
) (map[v1.Hash]bool, error) {
	var mu sync.Mutex
	proven := map[v1.Hash]bool{}
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(r.senders())
	// The largest first, so that no large one is the last under way.
	largest := func(a, b blob) int { return cmp.Compare(b.desc.Size, a.desc.Size) }
	for _, b := range slices.SortedStableFunc(slices.Values(blobs), largest) {
		g.Go(func() error {
			ok, err := send(ctx, b)
			if err != nil {
				return fmt.Errorf("sending the blob %s (%s): %w",
					b.desc.Digest, humanize.Bytes(uint64(max(b.desc.Size, 0))), r.explainSending(err))
			}
			r.log.Debug("Blob sent", zap.Stringer("digest", b.desc.Digest), zap.Int64("bytes", b.desc.Size))
			mu.Lock()
			defer mu.Unlock()
			proven[b.desc.Digest] = ok
			return nil
		})
	}
	return proven, g.Wait()
}

// pushBlob sends or mounts one blob. Progress is called with the number of further bytes that were sent.
func (r *Repository) pushBlob(ctx context.Context, b blob, progress func(int64)) (blobupload.Sent, error) {
	layer, err := b.layer()
	if err != nil {
		return blobupload.Sent{}, fmt.Errorf("opening the blob: %w", err)
	}
	to := blobupload.Destination{
		Uploads: r.url(kindBlob, "uploads/"), Hosts: r.hosts, Do: r.do, TokenExpires: r.seen.isTokenAged,
		Decompress: r.decompress, Wait: r.wait, Log: r.log,
		Has: func(ctx context.Context, d v1.Descriptor) (bool, error) { return r.has(ctx, kindBlob, d) },
	}
	sent := blobupload.Blob{Descriptor: b.desc, Open: layer.Compressed, DiffID: b.diffID, Inspect: b.inspect}
	sent.From = r.mountSource(layer)
	return to.Send(ctx, sent, progress)
}

// mountSource returns the repository of this registry from which a layer can be mounted, "" if there is none.
func (r *Repository) mountSource(layer partial.CompressedLayer) string {
	if m, ok := layer.(*remote.MountableLayer); ok && m.Reference.Context().Registry == r.name.Registry {
		return m.Reference.Context().RepositoryStr()
	}
	return ""
}

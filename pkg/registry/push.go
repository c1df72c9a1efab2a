package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/dustin/go-humanize"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
	carry "github.com/charmhub-actions/upload-resource/pkg/transport"
)

const (
	senders       = 4 // blobs or manifests under way at once
	manifestTries = 6 // of a manifest whose blobs the registry doesn't find yet
)

// Push sends what the plan says is missing: blobs first, then manifests, several at once, the image's own last, so
// that no incomplete image can be found. It is pushed by digest; no tag is changed. Every byte of a blob is
// verified before the registry is asked to store it. The first error stops the rest.
//
// Progress, if not nil, is called with the number of further bytes that the registry has received, never twice for
// the same ones and never at the same time; it need not reach the plan's total, since blobs can be mounted.
//
// Layers that aren't proven to have the diff IDs that configs give them are decompressed and compared while they are
// sent; one that has another is an error. Verified is whether each layer is proven to have its diff ID, since it was
// packed so, or compared; it is false where parts of the image were in the registry before.
func (r *Repository) Push(ctx context.Context, p *Plan, progress func(n int64)) (verified bool, err error) {
	var missing []blob
	for _, d := range p.Missing {
		b := p.blobs[d.Digest]
		b.diffID = p.expectedDiffIDs[d.Digest]
		missing = append(missing, b)
	}
	proven, err := r.pushBlobs(ctx, missing, progress)
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
		g.SetLimit(senders)
		for _, d := range rest[:n] {
			g.Go(func() error { return r.putByDigest(ctx, d, p.manifests[d.Digest]) })
		}
		if err := g.Wait(); err != nil {
			return false, err
		}
		rest = rest[n:]
	}
	verified = r.decompress != nil && !p.partial
	for blob := range p.expectedDiffIDs {
		verified = verified && proven[blob]
	}
	return verified, nil
}

// putByDigest stores a manifest whose blobs the repository has. Distribution 2 doesn't find a blob for a moment when another
// run stores the same one, and other registries may find it a little later in any case.
func (r *Repository) putByDigest(ctx context.Context, d v1.Descriptor, raw []byte) error {
	for try := 1; ; try++ {
		err := r.put(ctx, d.Digest.String(), d, raw)
		if !isCode(err, transport.ManifestBlobUnknownErrorCode) || try == manifestTries {
			return err
		}
		if err := r.wait(ctx, carry.Backoff(try-1, nil)); err != nil {
			return err
		}
	}
}

// pushBlobs returns which of the blobs were proven to have their diff IDs; others were mounted, for example.
func (r *Repository) pushBlobs(ctx context.Context, blobs []blob, progress func(int64)) (map[v1.Hash]bool, error) {
	var mu sync.Mutex // of progress and proven
	oneAtATime := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		if progress != nil {
			progress(n)
		}
	}
	proven := map[v1.Hash]bool{}
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(senders)
	// The largest first, so that no large one is the last under way.
	largest := func(a, b blob) int { return cmp.Compare(b.desc.Size, a.desc.Size) }
	for _, b := range slices.SortedStableFunc(slices.Values(blobs), largest) {
		g.Go(func() error {
			verified, err := r.pushBlob(ctx, b, oneAtATime)
			if err != nil {
				return fmt.Errorf("sending the blob %s (%s) to %s: %w",
					b.desc.Digest, humanize.Bytes(uint64(max(b.desc.Size, 0))), r.name, r.explain(err))
			}
			r.log.Debug("Blob sent", zap.Stringer("digest", b.desc.Digest), zap.Int64("bytes", b.desc.Size))
			mu.Lock()
			defer mu.Unlock()
			proven[b.desc.Digest] = verified
			return nil
		})
	}
	return proven, g.Wait()
}

func (r *Repository) pushBlob(ctx context.Context, b blob, progress func(int64)) (verified bool, err error) {
	layer, err := b.open()
	if err != nil {
		return false, fmt.Errorf("opening the blob: %w", err)
	}
	to := blobupload.Destination{
		Uploads: r.url(blobs, "uploads/"), Do: r.do, Decompress: r.decompress, Wait: r.wait, Log: r.log,
		Has: func(ctx context.Context, d v1.Descriptor) (bool, error) { return r.has(ctx, blobs, d) },
	}
	sent := blobupload.Blob{Descriptor: b.desc, Open: layer.Compressed, DiffID: b.diffID}
	if m, ok := layer.(*remote.MountableLayer); ok && m.Reference.Context().Registry == r.name.Registry {
		sent.From = m.Reference.Context().RepositoryStr()
	}
	return to.Send(ctx, sent, progress)
}

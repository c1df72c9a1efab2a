package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/dustin/go-humanize"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// senders is how many blobs are under way at once.
const senders = 4

// Push sends what the plan says is missing: blobs first, then manifests, several at once, the image's own last, so
// that nobody finds an image that isn't whole. It is pushed by digest; no tag is touched. Every byte of a blob is
// verified before the registry is asked to keep it. The first error stops the rest.
//
// Progress, if not nil, is called with the number of further bytes that the registry has received, never twice for
// the same ones and never at the same time; it need not reach the plan's total, since blobs can be mounted.
//
// Layers that aren't proven to have the diff IDs that configs give them are decompressed and compared while they are
// sent; one that has another is an error.
func (r *Repository) Push(ctx context.Context, p *Plan, progress func(n int64)) error {
	proven, err := r.pushBlobs(ctx, p, p.Missing, progress)
	if err != nil {
		return err
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
			g.Go(func() error { return r.putByDigest(ctx, d.Digest, p.manifests[d.Digest]) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		rest = rest[n:]
	}
	p.Verified = r.decompress != nil && !p.partial
	for blob := range p.claimed {
		p.Verified = p.Verified && proven[blob]
	}
	return nil
}

// putByDigest stores a manifest whose blobs are there. Distribution 2 doesn't see a blob for a moment when another run
// has the same one kept, and others may see it a little later in any case.
func (r *Repository) putByDigest(ctx context.Context, digest v1.Hash, m stored) error {
	for try := 1; ; try++ {
		err := r.put(ctx, digest.String(), digest, m)
		if !isCode(err, transport.ManifestBlobUnknownErrorCode) || try == maxTries {
			return err
		}
		if err := r.wait(ctx, pause(try, reply{})); err != nil {
			return err
		}
	}
}

// pushAs sends an image under tags alone, without asking what of it is there.
func (r *Repository) pushAs(ctx context.Context, img v1.Image, tags ...string) error {
	p, root, err := newPlan(img)
	if err != nil {
		return err
	}
	if err := root.walkImage(img); err != nil {
		return err
	}
	if _, err := r.pushBlobs(ctx, p, p.collect(root), nil); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := r.put(ctx, tag, p.Image.Digest, p.manifests[p.Image.Digest]); err != nil {
			return err
		}
	}
	return nil
}

// pushBlobs returns which of the blobs were proven to have their diff IDs; others were mounted, for example.
func (r *Repository) pushBlobs(
	ctx context.Context, p *Plan, blobs []v1.Descriptor, progress func(int64),
) (proven map[v1.Hash]bool, err error) {
	g, ctx := parallel.WithContext(ctx)
	g.SetLimit(senders)
	progress = oneAtATime(progress)
	proven = map[v1.Hash]bool{}
	var mu sync.Mutex
	for _, d := range largestFirst(blobs) {
		g.Go(func() error {
			b := p.blobs[d.Digest]
			b.diffID = p.claimed[d.Digest]
			good, err := r.pushBlob(ctx, b, progress)
			if err != nil {
				return fmt.Errorf("sending the blob %s (%s) to %s: %w",
					d.Digest, humanize.Bytes(uint64(max(d.Size, 0))), r.name, r.explain(err))
			}
			r.log.Debug("Blob sent", zap.Stringer("digest", d.Digest), zap.Int64("bytes", d.Size))
			mu.Lock()
			defer mu.Unlock()
			proven[d.Digest] = good
			return nil
		})
	}
	return proven, g.Wait()
}

// largestFirst keeps a large blob from being the last one under way.
func largestFirst(blobs []v1.Descriptor) []v1.Descriptor {
	sorted := slices.Clone(blobs)
	slices.SortStableFunc(sorted, func(a, b v1.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	return sorted
}

func oneAtATime(progress func(int64)) func(int64) {
	if progress == nil {
		return func(int64) {}
	}
	var mu sync.Mutex
	return func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		progress(n)
	}
}

package registry

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// tagLatest is the tag that clients move when they push without naming a tag. It usually names the newest image.
const tagLatest = "latest"

// View is one run's look at a repository. It caches what the registry answers and shares the answers between its
// methods: calling Layers early, for example, saves requests of Find. It must not outlive the run, because it doesn't
// notice what others, or it itself, change in the repository afterwards. Its methods may be called from several
// goroutines.
type View struct {
	*Repository

	prover   prover
	progress Progress

	tags        memo[string, *remote.Descriptor]
	manifests   memo[v1.Hash, *remote.Descriptor]
	blobs       memo[v1.Hash, bool]
	diffIDs     memo[v1.Hash, []v1.Hash] // by the config that lists them
	records     memo[v1.Hash, record]    // by source or key
	layersByTag memo[string, Layers]

	failed atomic.Pointer[error] // the first failure of the registry that wasn't returned

	sent  memo[v1.Hash, blobupload.Sent]
	slots *semaphore.Weighted // mostSenders, shared by the blobs under way
	meter meter
}

// ignore logs, at debug level, why a candidate can't be used, and remembers a failure of the registry.
func (v *View) ignore(what string, of zap.Field, err error) {
	v.log.Debug(what, of, zap.Error(err))
	v.note(err)
}

// note remembers the first failure of the registry that isn't returned to the caller. Other errors are dropped.
func (v *View) note(err error) {
	if ociclient.IsFailure(err) {
		v.failed.CompareAndSwap(nil, &err)
	}
}

// failure returns the failure that note remembered, nil if there was none.
func (v *View) failure() error {
	if err := v.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Progress shows that something of total bytes is in progress. Call add with the number of further bytes, and done at
// the end.
type Progress func(what string, total int64) (add func(bytes int64), done func())

// NewView returns a view that has requested nothing yet. ProofKey is a secret derived from the store token. Only
// records with a proof that was made with it are believed. If it is empty, no record is believed and no proof is
// written. Progress is shown while layers are compared; it must not be nil.
func NewView(repo *Repository, proofKey []byte, progress Progress) *View {
	return &View{
		Repository: repo,
		prover:     prover{proofKey, repo.name.RepositoryStr()},
		progress:   progress,
		slots:      semaphore.NewWeighted(mostSenders),
	}
}

// latest returns the manifest with the tag latest. It returns nil if the tag can't be read.
func (v *View) latest(ctx context.Context) *remote.Descriptor {
	d, err := v.tags.get(ctx, tagLatest, func() (*remote.Descriptor, error) {
		d, err := v.get(ctx, v.name.Tag(tagLatest))
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if d == nil {
			v.ignore("The tag latest gives no hint", zap.Skip(), err)
		}
		return d, nil
	})
	if err != nil || d == nil {
		return nil
	}
	_, _ = v.manifests.get(ctx, d.Digest, func() (*remote.Descriptor, error) { return d, nil })
	return d
}

// manifest returns the manifest with that digest. It returns nil if the repository has no such manifest.
func (v *View) manifest(ctx context.Context, digest v1.Hash) (*remote.Descriptor, error) {
	return v.manifests.get(ctx, digest, func() (*remote.Descriptor, error) {
		return v.get(ctx, v.name.Digest(digest.String()))
	})
}

// manifestUnlessBlob is manifest for a digest that may also be a config's. For a config's digest, Distribution 2
// answers 500; manifestUnlessBlob then returns nil, because the repository has a blob with that digest. Any other
// failure is returned, after the usual retries.
func (v *View) manifestUnlessBlob(ctx context.Context, digest v1.Hash) (*remote.Descriptor, error) {
	d, err := v.manifest(transport.Once(ctx), digest)
	if err == nil {
		return d, nil
	}
	if ociclient.IsStatus(err, http.StatusInternalServerError) {
		if isBlob, blobErr := v.hasBlob(ctx, v1.Descriptor{Digest: digest}); blobErr == nil && isBlob {
			v.log.Debug("The digest is a blob's", zap.Stringer("digest", digest))
			return nil, nil
		}
	}
	return v.manifest(ctx, digest)
}

// referencedManifest returns a manifest to which a record or an index refers. It returns nil if the manifest can't be
// read.
func (v *View) referencedManifest(ctx context.Context, named v1.Hash) *remote.Descriptor {
	d, err := v.manifest(ctx, named)
	if d == nil {
		v.ignore("A named manifest can't be read", zap.Stringer("digest", named), err)
	}
	return d
}

// hasBlob reports whether the repository has a blob.
func (v *View) hasBlob(ctx context.Context, d v1.Descriptor) (bool, error) {
	return v.blobs.get(ctx, d.Digest, func() (bool, error) { return v.has(ctx, kindBlob, d) })
}

// Lacks reports whether the repository lacks a config. If so, it has no manifest with that config.
func (v *View) Lacks(ctx context.Context, config v1.Hash) (bool, error) {
	has, err := v.hasBlob(ctx, v1.Descriptor{Digest: config})
	return !has && err == nil, err
}

// hasBlobs reports, for each of several blobs, whether the repository has it. It requests them concurrently.
func (v *View) hasBlobs(ctx context.Context, all []v1.Descriptor) (map[v1.Hash]bool, error) {
	has := make([]bool, len(all))
	g, limited := parallel.WithContext(ctx)
	g.SetLimit(checkers)
	for i, d := range all {
		g.Go(func() (err error) { has[i], err = v.hasBlob(limited, d); return err })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	exists := map[v1.Hash]bool{}
	for i, d := range all {
		exists[d.Digest] = has[i]
	}
	return exists, nil
}

// record returns the record of a source or key. If there is no usable record, its image is the zero Hash.
func (v *View) record(ctx context.Context, about v1.Hash) record {
	rec, err := v.records.get(ctx, about, func() (rec record, err error) {
		d, err := v.get(ctx, v.name.Tag(recordTag(about)))
		switch {
		case err != nil && ctx.Err() != nil:
			return rec, err
		case d == nil && err == nil:
			err = errors.New("not found")
		case err == nil:
			rec, err = parseRecord(d)
		}
		if err != nil {
			v.ignore("The record can't be used", zap.Stringer("source", about), err)
			if ociclient.IsFailure(err) || ociclient.IsDenied(err) {
				rec.unread = err
			}
		}
		return rec, nil
	})
	if err != nil {
		return record{}
	}
	return rec
}

// readDiffIDs returns the diff IDs that a config in the repository lists.
func (v *View) readDiffIDs(ctx context.Context, config v1.Descriptor) ([]v1.Hash, error) {
	return v.diffIDs.get(ctx, config.Digest, func() ([]v1.Hash, error) {
		defer image.LockConfig(config.Size)()
		raw, err := v.readBlob(ctx, config, image.MaxConfig)
		if err != nil {
			return nil, err
		}
		return image.DiffIDs(raw)
	})
}

// imageOf returns the image or index that a manifest describes. It reads through the repository. For nil it returns
// nil.
func imageOf(d *remote.Descriptor) (image.ImageOrIndex, error) {
	switch {
	case d == nil:
		return nil, nil
	case d.MediaType.IsIndex():
		return d.ImageIndex()
	}
	return d.Image()
}

// recordedAs returns the digest under which a proof about the layers of a manifest is recorded: the digest of the
// image's config, or of the index itself.
func recordedAs(d v1.Descriptor, raw []byte) v1.Hash {
	if m, err := imageManifest(d.MediaType, raw); err == nil {
		return m.Config.Digest
	}
	return d.Digest
}

// Layers maps diff IDs (digests of uncompressed layers) to the compressed blobs that provably contain these layers.
type Layers = map[v1.Hash]v1.Descriptor

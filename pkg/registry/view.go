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

// latest is the tag that clients which push without a reference move: the newest image, as a rule.
const latest = "latest"

// View is one run's look at a repository. Each tag, record, manifest and blob is asked for once, so a View must not outlive
// the run: it doesn't see what others change meanwhile. Its methods may be called from several goroutines; calling one
// early makes a later call of another cheaper.
type View struct {
	*Repository

	prover   prover
	progress Progress

	tags      memo[string, *remote.Descriptor]
	manifests memo[v1.Hash, *remote.Descriptor]
	blobs     memo[v1.Hash, bool]
	diffIDs   memo[v1.Hash, []v1.Hash] // by the config that lists them
	records   memo[v1.Hash, record]    // by source or key
	learned   memo[string, Layers]     // by tag

	failed atomic.Pointer[error] // the first failure of the registry that wasn't returned

	sent  memo[v1.Hash, blobupload.Sent]
	slots *semaphore.Weighted // mostSenders, shared by the blobs under way
	meter meter
}

// ignore tells the debug log why a candidate can't be read.
func (v *View) ignore(what string, of zap.Field, err error) {
	v.log.Debug(what, of, zap.Error(err))
	v.note(err)
}

// note remembers an error that isn't returned if it is a failure of the registry.
func (v *View) note(err error) {
	if ociclient.IsFailure(err) {
		v.failed.CompareAndSwap(nil, &err)
	}
}

// failure returns why the registry didn't answer a question for a candidate, nil if it answered all.
func (v *View) failure() error {
	if err := v.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Progress shows that something of total bytes is under way. The caller adds the bytes that are done, and ends it.
type Progress func(what string, total int64) (add func(bytes int64), done func())

// NewView returns a view that has asked nothing yet. Records count if their proof was made with key, which is secret and
// derived from the store token; with an empty key none counts, and none is made. Progress is shown while layers are
// compared.
func NewView(repo *Repository, key []byte, progress Progress) *View {
	return &View{
		Repository: repo, prover: prover{key, repo.name.RepositoryStr()}, progress: progress, slots: semaphore.NewWeighted(mostSenders),
	}
}

// latest returns the manifest with the tag latest, nil if none can be read.
func (v *View) latest(ctx context.Context) *remote.Descriptor {
	d, err := v.tags.get(ctx, latest, func() (*remote.Descriptor, error) {
		d, err := v.get(ctx, v.name.Tag(latest))
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

// manifest returns the manifest of that digest, nil if the repository has none.
func (v *View) manifest(ctx context.Context, digest v1.Hash) (*remote.Descriptor, error) {
	return v.manifests.get(ctx, digest, func() (*remote.Descriptor, error) {
		return v.get(ctx, v.name.Digest(digest.String()))
	})
}

// ambiguous is manifest for a digest that may be a config's. Distribution 2 answers 500 if that is so. If the repository has
// no blob of the digest either, the answer is a failure like others, and the transport gets to repeat the question.
func (v *View) ambiguous(ctx context.Context, digest v1.Hash) (*remote.Descriptor, error) {
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

// follow returns the manifest of a digest that a record or an index names, nil if none can be read.
func (v *View) follow(ctx context.Context, named v1.Hash) *remote.Descriptor {
	d, err := v.manifest(ctx, named)
	if d == nil {
		v.ignore("A named manifest can't be read", zap.Stringer("digest", named), err)
	}
	return d
}

// hasBlob reports whether the repository holds a blob.
func (v *View) hasBlob(ctx context.Context, d v1.Descriptor) (bool, error) {
	return v.blobs.get(ctx, d.Digest, func() (bool, error) { return v.has(ctx, blobs, d) })
}

// Lacks reports whether the repository lacks a config: then no manifest with that config can be there.
func (v *View) Lacks(ctx context.Context, config v1.Hash) (bool, error) {
	has, err := v.hasBlob(ctx, v1.Descriptor{Digest: config})
	return !has && err == nil, err
}

// hasBlobs asks for several blobs at once, and returns which of them the repository holds.
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
	held := map[v1.Hash]bool{}
	for i, d := range all {
		held[d.Digest] = has[i]
	}
	return held, nil
}

// record returns what the record of a source or key says, nothing if it can't be read.
func (v *View) record(ctx context.Context, about v1.Hash) record {
	said, err := v.records.get(ctx, about, func() (said record, err error) {
		d, err := v.get(ctx, v.name.Tag(recordTag(about)))
		switch {
		case err != nil && ctx.Err() != nil:
			return said, err
		case d == nil && err == nil:
			err = errors.New("not found")
		case err == nil:
			said, err = parseRecord(d)
		}
		if err != nil {
			v.ignore("The record can't be used", zap.Stringer("source", about), err)
		}
		return said, nil
	})
	if err != nil {
		return record{}
	}
	return said
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

// imageOf returns the image or index of a manifest, which reads through the repository; nil for nil.
func imageOf(d *remote.Descriptor) (image.ImageOrIndex, error) {
	switch {
	case d == nil:
		return nil, nil
	case d.MediaType.IsIndex():
		return d.ImageIndex()
	}
	return d.Image()
}

// recordedAs returns the digest under which the layers of a manifest are recorded as compared: its config's, or an index's own.
func recordedAs(d v1.Descriptor, raw []byte) v1.Hash {
	if m, err := imageManifest(d.MediaType, raw); err == nil {
		return m.Config.Digest
	}
	return d.Digest
}

// Layers are blobs by the diff IDs (the digests of the uncompressed layers) that they are proven to have.
type Layers = map[v1.Hash]v1.Descriptor

package source

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containers/image/v5/docker/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// Opener opens references of all kinds.
type Opener struct {
	log    *zap.Logger
	access RegistryAccess
	files  workspace.Workspace
	engine func() (*engine, error)
}

// NewOpener returns an opener that uses access for registries, and opens paths in a workspace. It makes no call.
func NewOpener(log *zap.Logger, access RegistryAccess, files workspace.Workspace) *Opener {
	return &Opener{log: log, access: access, files: files, engine: sync.OnceValues(newEngine)}
}

// Open opens the image that ref names. It reads a manifest or a config, never a layer. The error is a [*NotFoundError]
// if the engine has no such image.
func (o *Opener) Open(ctx context.Context, ref Reference) (src Source, err error) {
	switch ref.Kind {
	case KindDigest:
		src, err = o.openEngine(ctx, ref.Hex)
	case KindEngine:
		src, err = o.openEngine(ctx, hexOf(ref.Name))
	case KindRegistry:
		src, err = o.openNamed(ctx, ref)
	default:
		src, err = openPath(ctx, o.files, ref)
	}
	if err != nil {
		return nil, withoutAnswer(err)
	}
	return src, nil
}

// openEngine opens an image of the container engine.
func (o *Opener) openEngine(ctx context.Context, hex string) (Source, error) {
	engine, err := o.engine()
	if err != nil {
		return nil, err
	}
	return engine.find(ctx, hex)
}

// openNamed opens an image in its registry. If the registry refuses access, it opens the container engine's copy of
// the same image.
func (o *Opener) openNamed(ctx context.Context, ref Reference) (Source, error) {
	src, err := openRegistry(ctx, o.access, ref)
	if err == nil {
		return src, nil
	}
	err = fmt.Errorf("opening %s in its registry: %w", ref.Text, err)
	if !ociclient.IsDenied(err) {
		return nil, err
	}
	local, engineErr := o.openEngine(ctx, hexOf(ref.Name))
	if engineErr != nil {
		return nil, err
	}
	// Docker's graph drivers list the digest of an index as a RepoDigest of the one platform that was pulled, so a
	// matching digest doesn't prove which image that is. The containerd image store has the image of that digest itself.
	if !isImage(local) || local.Identity().Manifest.Hex != hexOf(ref.Name) {
		_ = local.Close()
		return nil, fmt.Errorf(
			"%w; the container engine has an image of that digest, but that may be one of several platforms; "+
				"to upload what the engine has, give its ID, %s, as the input digest",
			err,
			local.Identity().Digest(),
		)
	}
	o.log.Warn("the registry refuses access; using the container engine's copy of it", zap.Error(err))
	return local, nil
}

// isImage reports whether a source has the manifest of a single image, as far as that is known without an export.
func isImage(src Source) bool {
	backed, ok := src.(*storedImage)
	if !ok || backed.image == nil {
		return false
	}
	_, one := backed.image.(v1.Image)
	return one
}

// Resolve is [RegistryAccess.Resolve].
func (o *Opener) Resolve(ctx context.Context, tagged string) (v1.Hash, error) {
	return o.access.Resolve(ctx, tagged)
}

// TagTimeout bounds look-ups of tags. Their results are only shown in messages.
const TagTimeout = 10 * time.Second

// CheckTag logs a warning if ref has a tag next to its digest and that tag names another digest now.
func (o *Opener) CheckTag(ctx context.Context, ref Reference) {
	named, err := reference.ParseNormalizedNamed(ref.Name)
	if err != nil {
		return
	}
	tagged, ok := named.(reference.Tagged)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, TagTimeout)
	defer cancel()
	now, err := o.access.Resolve(ctx, reference.TrimNamed(named).String()+":"+tagged.Tag())
	switch {
	case err != nil:
		o.log.Warn("the tag could not be checked; the digest decides", zap.String("image", ref.Text), zap.Error(err))
	case now.Hex != hexOf(ref.Name):
		o.log.Warn("the tag has moved on; the digest decides", zap.String("image", ref.Text), zap.Stringer("now", now))
	}
}

// hexOf returns what follows the last colon: the hex part of a digest.
func hexOf(name string) string { return name[strings.LastIndex(name, ":")+1:] }

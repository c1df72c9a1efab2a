package image

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containers/image/v5/docker/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// Opener opens references, wherever they point.
type Opener struct {
	log    *zap.Logger
	access RegistryAccess
	files  workspace.Workspace
	engine func() (*Engine, error)
}

// NewOpener returns an opener that asks registries as access says, and opens
// paths in a workspace. It makes no call.
func NewOpener(log *zap.Logger, access RegistryAccess, files workspace.Workspace) *Opener {
	return &Opener{log: log, access: access, files: files, engine: sync.OnceValues(NewEngine)}
}

// Open finds what ref names. It reads a manifest or a config, never a layer.
func (o *Opener) Open(ctx context.Context, ref Reference) (*Source, error) {
	switch ref.Kind {
	case KindDigest:
		return o.openEngine(ctx, ref, ref.Hex)
	case KindEngine:
		return o.openEngine(ctx, ref, hexOf(ref.Name))
	case KindRegistry:
		return o.openNamed(ctx, ref)
	default:
		return openPath(ctx, o.files, ref)
	}
}

func (o *Opener) openEngine(ctx context.Context, ref Reference, hex string) (*Source, error) {
	engine, err := o.engine()
	if err != nil {
		return nil, err
	}
	src, err := engine.Find(ctx, hex)
	if err != nil {
		return nil, err
	}
	src.Name = ref.Text
	return src, nil
}

// openNamed opens an image in its registry. Where that refuses access, a copy
// of it in the engine does, if it is that very image.
func (o *Opener) openNamed(ctx context.Context, ref Reference) (*Source, error) {
	src, err := openRegistry(ctx, o.access, ref)
	if err == nil || !isDenied(err) {
		return src, err
	}
	local, engineErr := o.openEngine(ctx, ref, hexOf(ref.Name))
	if engineErr != nil {
		return nil, err
	}
	// An engine that doesn't keep manifests calls the one image that it pulled
	// of an index by the index's digest, too.
	if _, one := local.Addressed.(v1.Image); !one || local.Digest.Hex != hexOf(ref.Name) {
		_ = local.Close()
		return nil, fmt.Errorf("%w; the container engine has an image of that digest, but that may be one of several platforms: "+
			"to upload what the engine has, give its ID, %s, as the input digest", err, local.Digest)
	}
	o.log.Warn(fmt.Sprintf("%v; using the container engine's copy of it", err))
	return local, nil
}

// TagTimeout bounds the wait for what only makes a message more helpful.
const TagTimeout = 10 * time.Second

// CheckTag warns when the tag next to a digest, if there is one, names
// something else by now.
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
		o.log.Warn(fmt.Sprintf("the digest in %s decides; the tag could not be checked: %v", ref.Text, err))
	case now.Hex != hexOf(ref.Name):
		o.log.Warn(fmt.Sprintf("the digest in %s decides; the tag has moved on to %s", ref.Text, now))
	}
}

// hexOf returns what follows the last colon: the hex part of a digest.
func hexOf(name string) string { return name[strings.LastIndex(name, ":")+1:] }

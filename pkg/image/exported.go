package image

import (
	"context"
	"errors"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// exported is a store over what an engine saves of an addressed image: an OCI
// layout in a stream, spooled when the first object is asked for.
type exported struct {
	open opener

	once    sync.Once
	spooled *spool
	store   layout
	err     error
}

// manifest returns the image or index of that digest. Only the export tells
// which of them it is.
func (e *exported) manifest(ctx context.Context, digest v1.Hash) (Manifest, error) {
	e.once.Do(func() { e.err = e.export(ctx) })
	if e.err != nil {
		return nil, e.err
	}
	return e.store.image(ctx, digest.String())
}

func (e *exported) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	e.once.Do(func() { e.err = e.export(ctx) })
	if e.err != nil {
		return nil, e.err
	}
	return e.store.fetch(ctx, d)
}

func (e *exported) export(ctx context.Context) error {
	stream, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	if e.spooled, err = spoolAll(stream); err != nil {
		return err
	}
	indexed, err := indexArchive(ctx, e.spooled.section())
	e.store = layout{indexed}
	return err
}

// Close drops what was spooled.
func (e *exported) Close() error {
	if e.spooled == nil {
		return nil
	}
	return e.spooled.close()
}

// Missing returns the platforms of an index whose manifests aren't where the
// index is; the containerd image store keeps such indexes after a pull of one
// platform.
func Missing(m Manifest) []v1.Platform {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		return nil
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil
	}
	var missing []v1.Platform
	for _, d := range manifest.Manifests {
		if d.Platform == nil || !d.MediaType.IsImage() {
			continue
		}
		image, err := index.Image(d.Digest)
		if err == nil {
			_, err = image.RawManifest()
		}
		var absent *MissingError
		if errors.As(err, &absent) && !d.Platform.Equals(unknown) {
			missing = append(missing, *d.Platform)
		}
	}
	return missing
}

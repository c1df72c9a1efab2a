package source

import (
	"context"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/spool"
)

// exported is a store over what an engine saves of a manifest-backed image: an OCI
// layout in a stream, spooled when the first object is asked for.
type exported struct {
	open openFunc

	once    sync.Once
	spooled *spool.File
	content layout
	err     error
}

// manifest returns the image or index of that digest. Only the export
// shows which of them it is.
func (e *exported) manifest(ctx context.Context, digest v1.Hash) (image.ImageOrIndex, error) {
	content, err := e.export(ctx)
	if err != nil {
		return nil, err
	}
	return content.image(ctx, digest.String())
}

func (e *exported) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	content, err := e.export(ctx)
	if err != nil {
		return nil, err
	}
	return content.fetch(ctx, d)
}

// export exports the image once.
func (e *exported) export(ctx context.Context) (layout, error) {
	e.once.Do(func() {
		stream, err := e.open(ctx)
		if err != nil {
			e.err = err
			return
		}
		defer func() { _ = stream.Close() }()
		if e.spooled, e.err = spool.Copy(stream); e.err == nil {
			e.content.files, e.err = indexArchive(ctx, e.spooled.Open().SectionReader)
		}
	})
	return e.content, e.err
}

// Close drops what was spooled.
func (e *exported) Close() error {
	if e.spooled == nil {
		return nil
	}
	return e.spooled.Close()
}

// storedImage is an image of an engine's containerd image store. Its digest is that of its manifest or index, so a registry
// can be asked for it without an export, which is slow.
type storedImage struct {
	digest v1.Hash
	images []v1.Descriptor    // of an index, without attestations; nil if they aren't known
	image  image.ImageOrIndex // nil if only the export shows whether it is an image or an index
	export exported
}

func (s *storedImage) Identity() image.Identity {
	return image.Identity{Manifest: s.digest, Images: s.images}
}

// Manifest exports the image if that is the only way to know whether it is an index, and reads which images an index has if
// the engine doesn't say.
func (s *storedImage) Manifest(ctx context.Context) (image.ImageOrIndex, error) {
	var err error
	if s.image == nil {
		if s.image, err = s.export.manifest(ctx, s.digest); err != nil {
			return nil, err
		}
	}
	if index, ok := s.image.(v1.ImageIndex); ok && s.images == nil {
		raw, err := index.RawManifest()
		if err != nil {
			return nil, err
		}
		s.images = image.RunnableImages(raw)
	}
	return s.image, nil
}

func (s *storedImage) Local() bool  { return false }
func (s *storedImage) Close() error { return s.export.Close() }

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

// Stored is an image of an engine's containerd image store. Its digest is that of
// its manifest or index, so a registry can be asked for it without an export, which
// is slow.
type Stored struct {
	// Images are the images of an index, without attestations, as far as the
	// engine reports without an export; else nil.
	Images []v1.Descriptor

	// Read returns the image or index. It is exported when its manifest is first
	// read, at the latest.
	Read func(context.Context) (image.ImageOrIndex, error)
}

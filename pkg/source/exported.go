package source

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/spool"
)

// exported is a store over an engine's export of an image: an OCI layout in a tar stream. The export is spooled when
// the first object is read, unless [exported.stream] has kept it.
type exported struct {
	open openFunc

	streamed *streamed // nil if stream hasn't read the export to its end
	once     sync.Once
	spooled  *spool.File
	content  layout
	err      error
}

// stream exports the image once. It keeps manifests, indexes and configs, unless an earlier call has. It calls take for
// every other blob, in the order of the export. Take may leave content unread.
func (e *exported) stream(ctx context.Context, take func(d v1.Descriptor, content io.Reader)) (err error) {
	stream, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	entries, s := newTarStream(stream), e.streamed
	if s == nil {
		kept, err := spool.New()
		if err != nil {
			return err
		}
		s = &streamed{
			documents: kept,
			spans:     map[string]span{},
			seen:      entries.seen,
			links:     entries.links,
			spooled:   func() (layout, error) { return e.spool(ctx) },
		}
	}
	for header, err := range entries.files() {
		if err == nil {
			err = s.read(header, entries, take)
		}
		if err != nil && e.streamed == nil {
			err = errors.Join(err, s.documents.Close())
		}
		if err != nil {
			return err
		}
	}
	e.streamed = s
	return nil
}

// streamed holds the documents of an export that was read once, and the names of the other files. Other blobs are
// spooled in another export when they are read.
type streamed struct {
	documents *spool.File
	spans     map[string]span   // of the documents, by name
	seen      map[string]bool   // names of all files
	links     map[string]string // targets of the symbolic links
	spooled   func() (layout, error)
}

// read keeps a document. It calls take for another blob.
func (s *streamed) read(header *tar.Header, content io.Reader, take func(v1.Descriptor, io.Reader)) error {
	buffered := bufio.NewReader(content)
	first, _ := buffered.Peek(1)
	digest, isBlob := blobOf(header.Name)
	isDocument := !isBlob || bytes.Equal(first, []byte("{"))
	_, isKept := s.spans[header.Name]
	switch {
	case !isDocument:
		take(v1.Descriptor{Digest: digest, Size: header.Size}, buffered)
	case isKept:
	case header.Size <= image.MaxConfig:
		s.spans[header.Name] = span{s.documents.Size(), header.Size}
		if _, err := io.Copy(s.documents, buffered); err != nil {
			return fmt.Errorf("cannot read the content to its end: %w", err)
		}
	}
	return nil
}

// blobOf returns the digest of a blob in an OCI image layout by its file name.
func blobOf(name string) (v1.Hash, bool) {
	dir, hex := path.Split(name)
	algorithm, isBlob := strings.CutPrefix(dir, "blobs/")
	digest, err := v1.NewHash(strings.TrimSuffix(algorithm, "/") + ":" + hex)
	return digest, isBlob && err == nil
}

// open opens a file of the layout and returns its size in bytes.
func (s *streamed) open(name string) (io.ReadCloser, int64, error) {
	if _, kept := s.spans[name]; kept || !s.seen[name] {
		return archive{file: s.documents.Open(), entries: s.spans}.open(name)
	}
	content, err := s.spooled()
	if err != nil {
		return nil, 0, err
	}
	return content.open(name)
}

// manifest returns the image or index with that digest. Only the export shows which of them it is.
func (e *exported) manifest(ctx context.Context, digest v1.Hash) (image.ImageOrIndex, error) {
	content, err := e.layout(ctx)
	if err != nil {
		return nil, err
	}
	return content.image(ctx, digest.String())
}

// fetch opens a manifest or blob. It implements store.
func (e *exported) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	content, err := e.layout(ctx)
	if err != nil {
		return nil, err
	}
	return content.fetch(ctx, d)
}

// layout returns the layout in the export: what stream kept, or all of it.
func (e *exported) layout(ctx context.Context) (layout, error) {
	if e.streamed != nil {
		return layout{e.streamed}, nil
	}
	return e.spool(ctx)
}

// spool exports the image to a temporary file, once.
func (e *exported) spool(ctx context.Context) (layout, error) {
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

// Close frees the disk space of the export.
func (e *exported) Close() error {
	var errs []error
	if e.streamed != nil {
		errs = append(errs, e.streamed.documents.Close())
	}
	if e.spooled != nil {
		errs = append(errs, e.spooled.Close())
	}
	return errors.Join(errs...)
}

// storedImage is an image of an engine's containerd image store. Its digest is that of its manifest or index. So a
// registry can be asked for it without exporting it, which is slow.
type storedImage struct {
	digest v1.Hash
	images []v1.Descriptor    // of an index, without attestations; nil if they aren't known
	image  image.ImageOrIndex // nil if only the export shows whether it is an image or an index
	export exported
}

// Identity returns the digests by which the image can be found. See [Source].
func (s *storedImage) Identity() image.Identity {
	return image.Identity{Manifest: s.digest, Images: s.images}
}

// Manifest returns the image or index. It exports the image if only the export shows which of them it is.
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

// Stream exports the image once. It keeps manifests and configs and calls take for every other blob, in the order of
// the export. Take may leave content unread. Other content that is read later takes another export.
func (s *storedImage) Stream(ctx context.Context, take func(d v1.Descriptor, content io.Reader)) error {
	return s.export.stream(ctx, take)
}

// Local returns false: reading manifests and configs takes an export.
func (s *storedImage) Local() bool { return false }

// Close frees the disk space of the export.
func (s *storedImage) Close() error { return s.export.Close() }

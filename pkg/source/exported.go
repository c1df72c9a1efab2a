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

// exportStore is a store over an OCI layout in a tar stream: an engine's export of an image, or a compressed archive.
// The whole stream is written to a temporary file when the first manifest or blob is read, unless
// [exportStore.stream] has kept what is read.
type exportStore struct {
	export openFunc

	kept *keptDocuments // nil if stream hasn't read the export to its end

	spoolOnce sync.Once // sets the fields below
	spoolFile *spool.File
	spooled   layout // over spoolFile
	err       error
}

// stream exports the image once. It calls take for every blob that doesn't begin with {, as manifests, indexes and
// configs do and layers don't, in the order of the export. Take may leave content unread. It keeps the other files,
// unless an earlier call has, or they exceed image.MaxConfig bytes.
func (e *exportStore) stream(ctx context.Context, take func(d v1.Descriptor, content io.Reader)) error {
	stream, err := e.export(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	entries, kept := newTarStream(stream), e.kept
	if kept == nil {
		file, err := spool.New()
		if err != nil {
			return err
		}
		kept = &keptDocuments{
			file:       file,
			spans:      map[string]span{},
			seen:       entries.seen,
			spoolAgain: func() (layout, error) { return e.spool(ctx) },
		}
	}
	buffered := bufio.NewReaderSize(entries, blobBuffer)
	for header, err := range entries.files() {
		if err == nil {
			buffered.Reset(entries)
			err = kept.read(header, buffered, take)
		}
		if err != nil && e.kept == nil {
			err = errors.Join(err, kept.file.Close())
		}
		if err != nil {
			return err
		}
	}
	e.kept = kept
	return nil
}

// keptDocuments are the manifests, indexes and configs of an export that was read once, and the names of its other
// files. If one of these is read, the image is exported again, to a temporary file.
type keptDocuments struct {
	file       *spool.File
	spans      map[string]span // of the documents in file, by name
	seen       map[string]bool // names of all files in the export
	spoolAgain func() (layout, error)
}

// blobBuffer is how many bytes of a blob are read at once.
const blobBuffer = 256 << 10

// read keeps the file if it is a manifest, an index or a config and isn't kept yet. It calls take for any other blob.
func (k *keptDocuments) read(header *tar.Header, content *bufio.Reader, take func(v1.Descriptor, io.Reader)) error {
	first, _ := content.Peek(1)
	digest, isBlob := blobOf(header.Name)
	isDocument := !isBlob || bytes.Equal(first, []byte("{"))
	_, isKept := k.spans[header.Name]
	switch {
	case !isDocument:
		take(v1.Descriptor{Digest: digest, Size: header.Size}, content)
	case isKept:
	case header.Size <= image.MaxConfig:
		k.spans[header.Name] = span{k.file.Size(), header.Size}
		if _, err := io.Copy(k.file, content); err != nil {
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
func (k *keptDocuments) open(name string) (io.ReadCloser, int64, error) {
	if _, kept := k.spans[name]; kept || !k.seen[name] {
		return archive{file: k.file.Open(), entries: k.spans}.open(name)
	}
	content, err := k.spoolAgain()
	if err != nil {
		return nil, 0, err
	}
	return content.open(name)
}

// manifest returns the image or index with that digest. Only the export shows which of them it is.
func (e *exportStore) manifest(ctx context.Context, digest v1.Hash) (image.ImageOrIndex, error) {
	content, err := e.layout(ctx)
	if err != nil {
		return nil, err
	}
	return content.image(ctx, digest.String())
}

// fetch opens a manifest or blob. It implements store.
func (e *exportStore) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	content, err := e.layout(ctx)
	if err != nil {
		return nil, err
	}
	return content.fetch(ctx, d)
}

// layout returns the layout over what stream kept, or over a spooled export.
func (e *exportStore) layout(ctx context.Context) (layout, error) {
	if e.kept != nil {
		return layout{e.kept}, nil
	}
	return e.spool(ctx)
}

// spool exports the image to a temporary file, once.
func (e *exportStore) spool(ctx context.Context) (layout, error) {
	e.spoolOnce.Do(func() {
		stream, err := e.export(ctx)
		if err != nil {
			e.err = err
			return
		}
		defer func() { _ = stream.Close() }()
		if e.spoolFile, e.err = spool.Copy(stream); e.err == nil {
			e.spooled.files, e.err = indexArchive(ctx, e.spoolFile.Open().SectionReader)
		}
	})
	return e.spooled, e.err
}

// Close frees the disk space of the export.
func (e *exportStore) Close() error {
	var errs []error
	if e.kept != nil {
		errs = append(errs, e.kept.file.Close())
	}
	if e.spoolFile != nil {
		errs = append(errs, e.spoolFile.Close())
	}
	return errors.Join(errs...)
}

// storedImage is an image of an engine's containerd image store. Its digest is that of its manifest or index. So a
// registry can be asked for it without exporting it, which is slow.
type storedImage struct {
	digest v1.Hash
	images []v1.Descriptor    // of an index, without attestations; nil if they aren't known
	image  image.ImageOrIndex // nil if only the export shows whether it is an image or an index
	export exportStore
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

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// refName is the annotation that names an image in a layout's index.json
// (OCI image spec, annotations.md).
const refName = "org.opencontainers.image.ref.name"

// files is an OCI image layout, whatever holds its files
// (OCI image spec, image-layout.md).
type files interface {
	// open opens a file by its slash-separated name in the layout.
	open(name string) (io.ReadCloser, int64, error)
}

// layout is a store over an OCI image layout.
type layout struct{ files }

func (l layout) fetch(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	content, size, err := l.open(path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Descriptor: d}
	}
	if err != nil {
		return nil, err
	}
	if d.Size > 0 && size != d.Size {
		return nil, errors.Join(content.Close(),
			fmt.Errorf("%s has %d bytes where %d are declared: the image is damaged", d.Digest, size, d.Size))
	}
	return content, nil
}

// MissingError says that an image refers to content that isn't there.
type MissingError struct{ v1.Descriptor }

func (e *MissingError) Error() string {
	what := e.Digest.String()
	if e.Platform != nil {
		what += " for " + e.Platform.String()
	}
	return what + " is listed, but not there: the image is incomplete"
}

// image returns the image that selector names in the layout's index.json: a
// digest, a reference name, or nothing where there is only one.
func (l layout) image(ctx context.Context, selector string) (Manifest, error) {
	content, size, err := l.open("index.json")
	if err != nil {
		return nil, fmt.Errorf("it has no index.json, so it is no OCI layout: %w", err)
	}
	defer func() { _ = content.Close() }()
	raw, err := readDocument(content, size)
	if err != nil {
		return nil, fmt.Errorf("its index.json can't be read: %w", err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("its index.json is damaged: %w", err)
	}
	d, err := selectManifest(index.Manifests, selector)
	if err != nil {
		return nil, err
	}
	return newAddressed(ctx, l, d)
}

func selectManifest(manifests []v1.Descriptor, selector string) (v1.Descriptor, error) {
	if selector == "" && len(manifests) > 0 && !slices.ContainsFunc(manifests, func(d v1.Descriptor) bool {
		return d.Digest != manifests[0].Digest // one image may have several names
	}) {
		return manifests[0], nil
	}
	var choice []string
	for _, d := range manifests {
		name := d.Annotations[refName]
		if selector != "" && (name == selector || d.Digest.String() == selector) {
			return d, nil
		}
		choice = append(choice, strings.TrimSpace(d.Digest.String()+" "+name))
	}
	if selector == "" {
		return v1.Descriptor{}, fmt.Errorf("it holds %d images; choose one by adding a colon and its name or digest: %s",
			len(manifests), strings.Join(choice, ", "))
	}
	return v1.Descriptor{}, fmt.Errorf("it has no image %q; it has %s", selector, strings.Join(choice, ", "))
}

// folder is a layout in a folder.
type folder struct{ *workspace.Folder }

func (f folder) open(name string) (io.ReadCloser, int64, error) {
	file, err := f.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// archive is a layout in a tar file that isn't compressed: its headers are
// read once, its content by offset.
type archive struct {
	file    io.ReaderAt
	entries map[string]span
}

type span struct{ offset, size int64 }

// indexArchive reads the headers of a tar file, seeking over the content.
func indexArchive(ctx context.Context, file *io.SectionReader) (archive, error) {
	a := archive{file: file, entries: map[string]span{}}
	headers := newTarStream(file)
	for header, err := range headers.files() {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return a, err
		}
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return a, err
		}
		a.entries[header.Name] = span{offset, header.Size}
	}
	return a, nil
}

func (a archive) open(name string) (io.ReadCloser, int64, error) {
	entry, ok := a.entries[name]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return spoolReader{io.NewSectionReader(a.file, entry.offset, entry.size)}, entry.size, nil
}

package source

import (
	"bytes"
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
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/spool"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// refName is the annotation that names an image in a layout's index.json
// (OCI image spec, annotations.md).
const refName = "org.opencontainers.image.ref.name"

// containerdName is the annotation in which containerd, and engines that store
// images there, write an image's name with its repository.
const containerdName = "io.containerd.image.name"

// files is an OCI image layout, whatever holds its files
// (OCI image spec, image-layout.md).
type files interface {
	// open opens a file by its slash-separated name in the layout.
	open(name string) (io.ReadCloser, int64, error)
}

// layout is a store over an OCI image layout.
type layout struct{ files }

func (l layout) fetch(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	var content io.ReadCloser
	var size int64
	err := fs.ErrNotExist
	for _, name := range blobNames(d.Digest) {
		if errors.Is(err, fs.ErrNotExist) {
			content, size, err = l.open(name)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &image.MissingError{Descriptor: d}
	}
	if err != nil {
		return nil, err
	}
	if d.Size > 0 && size != d.Size {
		return nil, errors.Join(content.Close(),
			fmt.Errorf("%s has %d bytes where %d are declared: the image is damaged; build, save or pull it again", d.Digest, size, d.Size))
	}
	return content, nil
}

// blobNames returns the names under which a blob may be: the one of the OCI image
// layout, and those that apko gives to manifests, configs and layers in the
// archives that it writes.
func blobNames(digest v1.Hash) []string {
	return []string{path.Join("blobs", digest.Algorithm, digest.Hex), digest.String(), digest.Hex + ".tar.gz"}
}

// image returns the image that selector names in the layout's index.json: a
// digest, a reference name, or nothing where there is only one, or where the
// list is an index itself.
func (l layout) image(ctx context.Context, selector string) (image.ImageOrIndex, error) {
	content, size, err := l.open("index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no index.json, so no OCI layout: %w; give a folder or an archive that has one", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	raw, err := readDocument(content, size, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("cannot read index.json: %w", err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index.json is damaged: %w; write the OCI layout anew", err)
	}
	if selector == "" && onePerPlatform(index.Manifests) {
		return l.itself(ctx, raw, index.MediaType)
	}
	d, err := selectManifest(index.Manifests, selector)
	if err != nil {
		return nil, err
	}
	return newBacked(ctx, l, d)
}

// onePerPlatform reports whether an index.json lists one image in the variants
// for several platforms, and not several images.
func onePerPlatform(manifests []v1.Descriptor) bool {
	var names []string
	taken := map[string]bool{}
	for _, d := range manifests {
		switch {
		case d.Platform == nil || !d.MediaType.IsImage():
			return false
		case image.IsAttached(d): // an attestation
			continue
		case taken[d.Platform.String()]:
			return false
		}
		taken[d.Platform.String()] = true
		names = append(names, d.Annotations[containerdName]+" "+d.Annotations[refName])
	}
	return len(manifests) > 1 && len(slices.Compact(names)) == 1
}

// itself returns an index.json as the index that it is. Its digest is that of
// its bytes, if it says that it is an index; one that leaves this out, as
// layouts may, is written anew.
func (l layout) itself(ctx context.Context, raw []byte, mediaType types.MediaType) (image.ImageOrIndex, error) {
	d := v1.Descriptor{MediaType: types.OCIImageIndex, Digest: sum(raw), Size: int64(len(raw))}
	if mediaType.IsIndex() {
		d.MediaType = mediaType
	}
	m, err := newBacked(ctx, rooted{l, d.Digest, raw}, d)
	if err != nil || mediaType.IsIndex() {
		return m, err
	}
	return image.Join([]image.Part{{Name: "index.json", Image: m}})
}

// rooted is a layout whose index.json is a manifest of it, too.
type rooted struct {
	layout
	digest v1.Hash
	raw    []byte
}

func (r rooted) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if d.Digest == r.digest {
		return io.NopCloser(bytes.NewReader(r.raw)), nil
	}
	return r.layout.fetch(ctx, d)
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
		if selector != "" && slices.Contains([]string{name, d.Annotations[containerdName], d.Digest.String()}, selector) {
			return d, nil
		}
		choice = append(choice, strings.TrimSpace(d.Digest.String()+" "+name))
	}
	if len(manifests) == 0 {
		return v1.Descriptor{}, errors.New("index.json lists nothing, so there is no image in it; write the OCI layout anew")
	}
	if selector == "" {
		return v1.Descriptor{}, fmt.Errorf("the OCI layout holds %d images; choose one by adding a colon and its name or digest: %s",
			len(manifests), strings.Join(choice, ", "))
	}
	return v1.Descriptor{}, fmt.Errorf("the OCI layout has no image %q; choose from %s", selector, strings.Join(choice, ", "))
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
	return spool.Reader{SectionReader: io.NewSectionReader(a.file, entry.offset, entry.size)}, entry.size, nil
}

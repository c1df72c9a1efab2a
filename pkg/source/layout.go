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

// refName is the annotation that names an image in a layout's index.json (OCI image spec, annotations.md).
const refName = "org.opencontainers.image.ref.name"

// containerdName is the annotation in which containerd stores an image's name with its repository.
const containerdName = "io.containerd.image.name"

// files opens the files of an OCI image layout by name (OCI image spec, image-layout.md).
type files interface {
	// open opens a file by its slash-separated name in the layout.
	open(name string) (io.ReadCloser, int64, error)
}

// layout is a store over an OCI image layout.
type layout struct{ files }

// fetch opens a manifest or blob. It implements store.
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
		return nil, errors.Join(
			content.Close(),
			fmt.Errorf(
				"%s has %d bytes where %d are declared: the image is damaged; build, save or pull it again",
				d.Digest,
				size,
				d.Size,
			),
		)
	}
	return content, nil
}

// blobNames returns the possible file names of a blob: the one of the OCI image layout, and those that apko gives to
// manifests, configs and layers in archives.
func blobNames(digest v1.Hash) []string {
	return []string{path.Join("blobs", digest.Algorithm, digest.Hex), digest.String(), digest.Hex + ".tar.gz"}
}

// image returns the image that selector names in index.json by a digest or reference name. The selector may be "" if
// the layout has one image, or if its index.json is an index of one image's platforms.
func (l layout) image(ctx context.Context, selector string) (image.ImageOrIndex, error) {
	content, size, err := l.open("index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no index.json, so no OCI layout: %w; give a folder or an archive that has one", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	raw, err := readDocument(content, size, manifestLimit)
	if err != nil {
		return nil, fmt.Errorf("cannot read index.json: %w", err)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("index.json is damaged: %w; write the OCI layout again", err)
	}
	if selector == "" && onePerPlatform(index.Manifests) {
		return l.itself(ctx, raw, index.MediaType)
	}
	d, err := l.selectManifest(ctx, index.Manifests, selector)
	if err != nil {
		return nil, err
	}
	return newBacked(ctx, l, d)
}

// onePerPlatform reports whether an index.json is the index of one image: its entries have the same name, and each is
// an image for another platform, or an attestation. One platform is enough if it has an attestation.
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

// itself returns index.json as an index. Its digest is that of its bytes if it has the media type of an index. If it
// has none, as the specification allows, the media type is added.
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

// rooted is a layout that also has its index.json as a manifest.
type rooted struct {
	layout
	digest v1.Hash
	raw    []byte
}

// fetch opens a manifest or blob. It implements store.
func (r rooted) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if d.Digest == r.digest {
		return io.NopCloser(bytes.NewReader(r.raw)), nil
	}
	return r.layout.fetch(ctx, d)
}

// selectManifest returns the entry of an index.json that selector names. If selector is "", it returns the only image,
// which may have several names.
func (l layout) selectManifest(
	ctx context.Context,
	listed []v1.Descriptor,
	selector string,
) (none v1.Descriptor, err error) {
	if len(listed) == 0 {
		return none, errors.New("index.json lists nothing, so there is no image in it; write the OCI layout again")
	}
	for _, d := range listed {
		if selector != "" &&
			slices.Contains([]string{d.Annotations[refName], d.Annotations[containerdName], d.Digest.String()}, selector) {
			return d, nil
		}
	}
	images := listed
	if !sameDigest(images) {
		images = l.choices(ctx, listed)
	}
	if selector == "" && sameDigest(images) {
		return images[0], nil
	}
	names := make([]string, len(images))
	for i, d := range images {
		names[i] = strings.TrimSpace(d.Digest.String() + " " + d.Annotations[refName])
	}
	if selector == "" {
		return none, fmt.Errorf("the OCI layout holds %d images; choose one by adding a colon and its name or digest: %s",
			len(images), strings.Join(names, ", "))
	}
	return none, fmt.Errorf("the OCI layout has no image %q; choose from %s", selector, strings.Join(names, ", "))
}

// sameDigest reports whether all manifests have the same digest.
func sameDigest(manifests []v1.Descriptor) bool {
	return !slices.ContainsFunc(manifests, func(d v1.Descriptor) bool { return d.Digest != manifests[0].Digest })
}

// choices returns the entries of an index.json from which one may be selected. oras writes an entry for each manifest
// that it copies, so choices leaves out:
//
//   - manifests with a subject, such as the signature of another entry
//   - lists of referrers, which are tagged with the digest of another entry (OCI distribution spec, "Referrers Tag
//     Schema")
//   - unnamed entries that an index in the layout lists
//
// If no entry is left, it returns all of them.
func (l layout) choices(ctx context.Context, listed []v1.Descriptor) []v1.Descriptor {
	hasSubject := map[v1.Hash]bool{}
	inIndex := map[v1.Hash]bool{}
	seen := map[v1.Hash]bool{}
	for _, d := range listed {
		if seen[d.Digest] || context.Cause(ctx) != nil {
			continue
		}
		seen[d.Digest] = true
		raw, err := read(ctx, l, d, manifestLimit)
		if err != nil {
			continue // it may not be the one that is wanted
		}
		var m struct {
			Subject   *struct{}                  `json:"subject"`
			Manifests []struct{ Digest v1.Hash } `json:"manifests"`
		}
		if json.Unmarshal(raw, &m) != nil {
			continue
		}
		hasSubject[d.Digest] = m.Subject != nil
		for _, child := range m.Manifests {
			inIndex[child.Digest] = true
		}
	}
	images := slices.DeleteFunc(slices.Clone(listed), func(d v1.Descriptor) bool {
		unnamed := d.Annotations[refName] == "" && d.Annotations[containerdName] == ""
		return hasSubject[d.Digest] || seen[referrersOf(d.Annotations[refName])] || unnamed && inIndex[d.Digest]
	})
	if len(images) == 0 {
		return listed
	}
	return images
}

// referrersOf returns the digest of the manifest whose referrers a tag is for, such as sha256-<hex>, or
// sha256-<hex>.sig of cosign.
func referrersOf(tag string) (digest v1.Hash) {
	digest.Algorithm, digest.Hex, _ = strings.Cut(tag, "-")
	digest.Hex, _, _ = strings.Cut(digest.Hex, ".")
	return digest
}

// folder is a layout in a folder.
type folder struct{ *workspace.Folder }

// open opens a file of the layout and returns its size in bytes.
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

// archive is a layout in a tar file that isn't compressed: its headers are read once, its content by offset.
type archive struct {
	file    io.ReaderAt
	entries map[string]span
	links   map[string]string // targets of symbolic links
}

// maxLinks is the maximum number of symbolic links between a name and a file.
const maxLinks = 8

// span is the position of a file in an archive, in bytes.
type span struct{ offset, size int64 }

// indexArchive reads the headers of a tar file. It skips the content.
func indexArchive(ctx context.Context, file *io.SectionReader) (archive, error) {
	a := archive{file: file, entries: map[string]span{}}
	headers := newTarStream(file)
	a.links = headers.links
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

// open opens a file of the layout and returns its size in bytes.
func (a archive) open(name string) (io.ReadCloser, int64, error) {
	at := name
	for range maxLinks {
		if target, ok := a.links[at]; ok {
			at = path.Join(path.Dir(at), target)
		}
	}
	if _, ok := a.links[at]; ok {
		return nil, 0, fmt.Errorf("%s leads to too many other links; write the archive again with plain files", name)
	}
	entry, ok := a.entries[at]
	if !ok {
		return nil, 0, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return spool.Reader{SectionReader: io.NewSectionReader(a.file, entry.offset, entry.size)}, entry.size, nil
}

package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/spool"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// openPath opens an image that is a file or a folder.
func openPath(ctx context.Context, files workspace.Workspace, ref Reference) (src Source, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", ref.Text, err)
		}
	}()
	if ref.Kind == KindOCILayout || ref.Kind == KindPath {
		dir, err := files.OpenFolder(ref.Path)
		if err == nil {
			return openFiles(ctx, folder{dir}, ref.Select, dir)
		}
		if ref.Kind == KindOCILayout || !errors.Is(err, syscall.ENOTDIR) {
			return nil, err
		}
	}
	file, err := openTar(files, ref.Path)
	if err != nil {
		return nil, err
	}
	kind := ref.Kind
	if kind == KindPath {
		if kind, err = recognise(ctx, file); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	if kind == KindOCIArchive {
		return openOCIArchive(ctx, file, ref.Select)
	}
	return openDockerArchive(ctx, file, ref.Select)
}

// recognise returns what kind of archive a file is, by its content.
func recognise(ctx context.Context, file *tarFile) (Kind, error) {
	toc, err := readContents(ctx, file.open)
	if err != nil {
		return 0, err
	}
	switch {
	case toc.names["manifest.json"] && toc.names["index.json"]:
		return recogniseSaved(ctx, toc, file.open), nil
	case toc.names["manifest.json"]:
		return KindDockerArchive, nil
	case toc.names["index.json"]:
		return KindOCIArchive, nil
	default:
		return 0, errors.New("neither a rock or other OCI archive (no index.json) nor a docker archive (no manifest.json); " +
			"give a rock, another OCI archive, or what `docker save` wrote")
	}
}

// recogniseSaved decides whether an archive that is both a docker archive and an OCI layout, as engines from 25 on
// save it, is read as one or the other. If the layers are named by other digests than their diff IDs, they are
// compressed: the archive comes from the containerd image store, and the layout has the manifest that a registry may
// have, too. Otherwise `docker save` made up the layout's manifest, which no registry has, so the file is read as a
// docker archive.
func recogniseSaved(ctx context.Context, toc contents, open openFunc) Kind {
	if len(toc.images) > 1 {
		var index v1.IndexManifest
		if json.Unmarshal(toc.index, &index) == nil && onePerPlatform(index.Manifests) {
			return KindOCIArchive
		}
		return KindDockerArchive // its manifest.json lists each of the images
	}
	saved, err := toc.selectImage("")
	if err != nil {
		return KindOCIArchive
	}
	u, err := toc.unpacked(ctx, saved, open)
	if err != nil {
		return KindOCIArchive // perhaps an image for another platform than the engine's
	}
	for name, diffID := range u.layers {
		if path.Base(name) != diffID.Hex {
			return KindOCIArchive
		}
	}
	return KindDockerArchive
}

// openOCIArchive opens an OCI layout in a tar file. If the file isn't compressed, only the headers in it are read.
// Otherwise there are no offsets to read at: the archive is decompressed once for each use, or, if its decompressor
// holds memory that a layer's may have to wait for, to a temporary file. Closing the image closes the file, as does an
// error.
func openOCIArchive(ctx context.Context, file *tarFile, selector string) (Source, error) {
	stream, err := file.open(ctx)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	content, closer := io.NewSectionReader(file, 0, file.size), io.Closer(file)
	if _, plain := stream.(contextSection); !plain {
		if !compression.HoldsMemory(stream) {
			_ = stream.Close() // only how it is compressed mattered
			return openCompressed(ctx, file, selector)
		}
		spooled, err := spool.Copy(stream)
		if err = errors.Join(err, stream.Close(), file.Close()); err != nil {
			return nil, err
		}
		content, closer = spooled.Open().SectionReader, spooled
	}
	indexed, err := indexArchive(ctx, content)
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	return openFiles(ctx, indexed, selector, closer)
}

// openFiles opens the image in a layout that selector names. Closing the image closes the layout, as does an error.
func openFiles(ctx context.Context, from files, selector string, closer io.Closer) (Backed, error) {
	m, err := layout{from}.image(ctx, selector)
	var digest v1.Hash
	if err == nil {
		digest, err = m.Digest()
	}
	if err == nil {
		err = image.CheckSize(m)
	}
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	return &opened{digest: digest, image: m, local: true, close: closer.Close}, nil
}

// compressedArchive is an image in an OCI archive that is compressed as a whole. Its manifests and configs are kept
// when it is opened. Its layers are decompressed again when they are needed.
type compressedArchive struct {
	Backed
	content *exportStore
}

// openCompressed opens an OCI archive that is compressed as a whole. Closing the image closes the file, as does an
// error.
func openCompressed(ctx context.Context, file *tarFile, selector string) (Source, error) {
	content := &exportStore{export: file.open}
	closer := closers{content, file}
	if err := content.stream(ctx, func(v1.Descriptor, io.Reader) {}); err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	kept, err := openFiles(ctx, content.kept, selector, closer)
	if err != nil {
		return nil, err
	}
	return &compressedArchive{kept, content}, nil
}

// Stream decompresses the archive once, and calls take for each layer of the image. See [Streamed].
func (a *compressedArchive) Stream(ctx context.Context, take func(d v1.Descriptor, content io.Reader)) error {
	m, err := a.Manifest(ctx)
	if err != nil {
		return err
	}
	layers := map[v1.Hash]bool{}
	addLayers(layers, m)
	return a.content.stream(ctx, func(d v1.Descriptor, content io.Reader) {
		if layers[d.Digest] {
			take(d, content)
		}
	})
}

// addLayers adds the digests of an image's layers to layers, or those of all images of an index. It leaves out what it
// can't read.
func addLayers(layers map[v1.Hash]bool, m image.ImageOrIndex) {
	switch m := m.(type) {
	case v1.Image:
		if manifest, err := m.Manifest(); err == nil {
			for _, d := range manifest.Layers {
				layers[d.Digest] = true
			}
		}
	case v1.ImageIndex:
		manifest, err := m.IndexManifest()
		if err != nil {
			return
		}
		for _, d := range manifest.Manifests {
			var child image.ImageOrIndex // stays nil for other artifacts, and for what can't be read
			switch {
			case d.MediaType.IsImage():
				child, _ = m.Image(d.Digest)
			case d.MediaType.IsIndex():
				child, _ = m.ImageIndex(d.Digest)
			}
			addLayers(layers, child)
		}
	}
}

// closers closes several files.
type closers []io.Closer

// Close closes all of them.
func (c closers) Close() error {
	errs := make([]error, len(c))
	for n, closer := range c {
		errs[n] = closer.Close()
	}
	return errors.Join(errs...)
}

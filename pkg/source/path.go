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

	"github.com/charmhub-actions/upload-resource/pkg/image"
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
// Closing the image closes the file, as does an error.
func openOCIArchive(ctx context.Context, file *tarFile, selector string) (Source, error) {
	stream, err := file.open(ctx)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, plain := stream.(contextSection); !plain {
		src, err := openCompressedArchive(ctx, file, selector)
		return src, errors.Join(err, stream.Close())
	}
	indexed, err := indexArchive(ctx, io.NewSectionReader(file, 0, file.size))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return openFiles(ctx, indexed, selector, file)
}

// compressedArchive is an OCI archive that is compressed as a whole, so it has no offsets to read at. It is
// decompressed once for its manifests and configs, and again to send its layers.
type compressedArchive struct {
	*opened
	export *exportStore
}

// openCompressedArchive opens an OCI archive that is compressed as a whole, and closes the file with the image.
func openCompressedArchive(ctx context.Context, file *tarFile, selector string) (Source, error) {
	export := &exportStore{export: file.open}
	closer := closers{export, file}
	if err := export.stream(ctx, func(v1.Descriptor, io.Reader) {}); err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	if len(export.kept.links) > 0 { // only an index of the whole archive says what they lead to
		content, err := export.spool(ctx)
		if err != nil {
			return nil, errors.Join(err, closer.Close())
		}
		return openFiles(ctx, content, selector, closer)
	}
	content, err := readLayout(ctx, export.kept, selector)
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	content.close = closer.Close
	return &compressedArchive{opened: content, export: export}, nil
}

// Stream decompresses the archive once. See [Streamed].
func (a *compressedArchive) Stream(ctx context.Context, take func(d v1.Descriptor, content io.Reader)) error {
	return a.export.stream(ctx, take)
}

// Local returns false, so that the archive isn't streamed if the repository has the image.
func (a *compressedArchive) Local() bool { return false }

// closers closes several files.
type closers []io.Closer

// Close closes all files and returns their errors.
func (c closers) Close() error {
	var errs []error
	for _, closer := range c {
		errs = append(errs, closer.Close())
	}
	return errors.Join(errs...)
}

// openFiles opens the image in a layout that selector names. Closing the image closes the layout, as does an error.
func openFiles(ctx context.Context, from files, selector string, closer io.Closer) (Source, error) {
	content, err := readLayout(ctx, from, selector)
	if err != nil {
		return nil, errors.Join(err, closer.Close())
	}
	content.close = closer.Close
	return content, nil
}

// readLayout reads the manifest of the image in a layout.
func readLayout(ctx context.Context, from files, selector string) (*opened, error) {
	m, err := layout{from}.image(ctx, selector)
	if err != nil {
		return nil, err
	}
	digest, err := m.Digest()
	if err != nil {
		return nil, err
	}
	return &opened{digest: digest, image: m, local: true}, image.CheckSize(m)
}

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
// Otherwise there are no offsets to read at, and the archive is decompressed to a temporary file first. Closing the
// image closes the file, as does an error.
func openOCIArchive(ctx context.Context, file *tarFile, selector string) (Source, error) {
	stream, err := file.open(ctx)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	content, closer := io.NewSectionReader(file, 0, file.size), io.Closer(file)
	if _, plain := stream.(contextSection); !plain {
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
func openFiles(ctx context.Context, from files, selector string, closer io.Closer) (Source, error) {
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

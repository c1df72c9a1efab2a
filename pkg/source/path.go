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
		kind, err = recognise(ctx, file)
	}
	switch {
	case err != nil:
	case kind == KindOCIArchive:
		return openOCIArchive(ctx, file, ref.Select)
	default:
		src, err = openDockerArchive(ctx, file, ref.Select)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return src, nil
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

// recogniseSaved decides about what engines from 25 on save: a docker archive and an OCI layout in one. Where its
// layers are called by other digests than their diff IDs, they are compressed: it comes from the containerd image
// store, and the layout's digest is the image's. Else that digest exists in this file alone.
func recogniseSaved(ctx context.Context, toc contents, open openFunc) Kind {
	if len(toc.images) > 1 {
		var index v1.IndexManifest
		if json.Unmarshal(toc.index, &index) == nil && onePerPlatform(index.Manifests) {
			return KindOCIArchive
		}
		return KindDockerArchive // whose table of contents names each of them
	}
	saved, err := toc.selectImage("")
	if err != nil {
		return KindOCIArchive
	}
	u, err := toc.unpacked(ctx, saved, open)
	if err != nil {
		return KindOCIArchive // of another platform than the engine's, perhaps
	}
	for name, diffID := range u.layers {
		if path.Base(name) != diffID.Hex {
			return KindOCIArchive
		}
	}
	return KindDockerArchive
}

// openOCIArchive opens a tar file by its headers, and closes it with the image. One that is compressed has no offsets
// to read at, and is decompressed first.
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

// openFiles opens what a layout holds, and closes the layout with it.
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

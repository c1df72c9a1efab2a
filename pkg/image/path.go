package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// openPath opens an image that is a file or a folder.
func openPath(ctx context.Context, ref Reference) (*Source, error) {
	kind := ref.Kind
	if kind == KindPath {
		recognised, err := recognise(ctx, ref.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref.Text, err)
		}
		kind = recognised
	}
	var src *Source
	var err error
	switch kind {
	case KindOCILayout:
		src, err = openLayout(ctx, ref)
	case KindOCIArchive:
		src, err = openOCIArchive(ctx, ref)
	default:
		src, err = openDockerArchive(ctx, ref)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref.Text, err)
	}
	src.Name = ref.Text
	return src, nil
}

// recognise tells from its content what kind of image a path is.
func recognise(ctx context.Context, file string) (Kind, error) {
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	if info.IsDir() {
		return KindOCILayout, nil
	}
	open := func(ctx context.Context) (io.ReadCloser, error) { return openTar(ctx, file) }
	toc, err := readContents(ctx, open)
	if err != nil {
		return 0, err
	}
	switch {
	case toc.names["manifest.json"] && toc.names["index.json"]:
		return recogniseSaved(ctx, toc, open), nil
	case toc.names["manifest.json"]:
		return KindDockerArchive, nil
	case toc.names["index.json"]:
		return KindOCIArchive, nil
	default:
		return 0, fmt.Errorf("it is neither a rock or other OCI archive (it has no index.json) nor a docker archive (no manifest.json)")
	}
}

// recogniseSaved decides about what engines from 25 on save: a docker
// archive and an OCI layout in one. Where its layers are called by other
// digests than their diff IDs, they are compressed: it comes from the
// containerd image store, and the layout's digest is the image's. Else that
// digest exists in this file alone.
func recogniseSaved(ctx context.Context, toc contents, open opener) Kind {
	if len(toc.images) > 1 {
		return KindDockerArchive // which tells them apart better
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

func openLayout(ctx context.Context, ref Reference) (*Source, error) {
	root, err := openFolder(ref.Path)
	if err != nil {
		return nil, err
	}
	return openFiles(ctx, root, ref.Select, root.Close)
}

// openOCIArchive opens a tar file by its headers. One that is compressed has
// no offsets to read at, and is decompressed first.
func openOCIArchive(ctx context.Context, ref Reference) (*Source, error) {
	stream, err := openTar(ctx, ref.Path)
	if err != nil {
		return nil, err
	}
	if file, ok := stream.(contextFile); ok {
		info, err := file.Stat()
		if err != nil {
			return nil, err
		}
		return openSection(ctx, io.NewSectionReader(file.File, 0, info.Size()), ref.Select, file.Close)
	}
	defer func() { _ = stream.Close() }()
	spooled, err := spoolAll(stream)
	if err != nil {
		return nil, err
	}
	return openSection(ctx, spooled.section(), ref.Select, spooled.close)
}

func openSection(ctx context.Context, file *io.SectionReader, selector string, closer func() error) (*Source, error) {
	indexed, err := indexArchive(ctx, file)
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	return openFiles(ctx, indexed, selector, closer)
}

func openFiles(ctx context.Context, from files, selector string, closer func() error) (*Source, error) {
	m, err := layout{from}.image(ctx, selector)
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	digest, err := m.Digest()
	if err == nil {
		err = bounded(m)
	}
	if err != nil {
		return nil, errors.Join(err, closer())
	}
	return &Source{Digest: digest, Addressed: m, close: closer}, nil
}

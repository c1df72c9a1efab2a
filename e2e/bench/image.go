package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// places returns the scenarios that were asked for and are possible here, without
// uploads.
func (b *bench) places() []scenario {
	places := slices.Concat(b.engines, []scenario{
		{kind: "rock", name: "image in an OCI archive, as a rock is one",
			put: func(_ context.Context, image localImage) (string, error) {
				return image.folder + ".rock", writeArchive(image.folder+".rock", image.folder)
			}},
		{kind: "registry", name: "image in another registry, by digest",
			put: func(ctx context.Context, image localImage) (string, error) {
				digest, err := image.Digest()
				ref := b.source.repository + "@" + digest.String()
				return ref, errors.Join(err, crane.Push(image, b.source.repository+":"+filepath.Base(image.folder),
					b.source.options(ctx)...))
			}},
		{kind: "file", name: "file of 1 % of that", put: func(_ context.Context, image localImage) (string, error) {
			manifest, err := image.Manifest()
			if err != nil {
				return "", err
			}
			return filepath.Join(image.folder, "blobs", "sha256", manifest.Layers[len(b.shares)-1].Digest.Hex), nil
		}},
	})
	return slices.DeleteFunc(places, func(s scenario) bool { return !has(b.rows, s.kind) })
}

// localImage is an image in an OCI layout.
type localImage struct {
	v1.Image
	folder string
}

// makeScenarios makes a scenario for each place, with an image and a changed one in it.
func (b *bench) makeScenarios(ctx context.Context) error {
	images, err := b.makeImages()
	if err != nil {
		return err
	}
	b.scenarios = b.places()
	for _, image := range images {
		config, err := image.ConfigName()
		if err != nil {
			return err
		}
		for i := range b.scenarios {
			s := &b.scenarios[i]
			ref, err := s.put(ctx, image)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			u := upload{ref, config.Hex}
			if s.kind == "file" {
				u.sum = filepath.Base(ref)
			}
			s.uploads = append(s.uploads, u)
		}
	}
	return nil
}

// makeImages makes an image of the setting's size and layers, and a changed one, once.
func (b *bench) makeImages() ([]localImage, error) {
	key := fmt.Sprintf("%d-%s", b.size, b.layers)
	if images := b.images[key]; images != nil {
		return images, nil
	}
	progress("making images of %d MB", b.size)
	content, err := machineFiles(filepath.Join(b.work, "content"), b.size*1e4*(100+b.shares[len(b.shares)-1]))
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	var layers []v1.Layer
	var images []localImage
	for _, label := range []string{"image", "changed"} {
		folder := filepath.Join(b.work, fmt.Sprintf("%s-%d", label, len(b.images)))
		image, err := makeImage(folder, content, b.size*1e6, b.shares, layers)
		if err != nil {
			return nil, err
		}
		if layers, err = image.Layers(); err != nil {
			return nil, err
		}
		images = append(images, localImage{image, folder})
	}
	if b.images == nil {
		b.images = map[string][]localImage{}
	}
	b.images[key] = images
	return images, nil
}

// makeImage makes an image in an OCI layout in the folder: of new layers, whose
// sizes are shares of the image's in per cent, or of those of another image with
// a new last one. Each layer is one file, a section
// of the content.
func makeImage(folder string, content io.ReaderAt, size int64, shares []int64, of []v1.Layer) (v1.Image, error) {
	kept := max(0, len(of)-1)
	layers, offset := of[:kept:kept], int64(0)
	if kept > 0 {
		offset = size // what no other layer has
	}
	for _, share := range shares[kept:] {
		section := io.NewSectionReader(content, offset, size*share/100)
		var header bytes.Buffer // writing to it can't fail
		_ = tar.NewWriter(&header).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "data", Size: section.Size(),
			Mode: 0o644})
		end := make([]byte, -section.Size()&511+1024) // fills the last block, and two more
		archive := io.NopCloser(io.MultiReader(&header, section, bytes.NewReader(end)))
		layers = append(layers, stream.NewLayer(archive, stream.WithMediaType(types.OCILayer)))
		offset += section.Size()
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Cmd: []string{"/usr/bin/true"}},
	})
	if err != nil {
		return nil, err
	}
	image = mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, layers...); err != nil {
		return nil, err
	}
	if err := crane.SaveOCI(image, folder); err != nil { // the layers are compressed now, once
		return nil, err
	}
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	return layout.Path(folder).Image(digest)
}

// writeArchive makes a tar of a folder.
func writeArchive(path, folder string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(file)
	return errors.Join(archive.AddFS(os.DirFS(folder)), archive.Close(), file.Close())
}

// machineFiles makes a file of the machine's own files, one after another: they
// compress as images do.
func machineFiles(path string, size int64) (*os.File, error) {
	all, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	files := os.DirFS("/usr")
	err = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // what can't be read isn't in an image
		}
		file, err := files.Open(path)
		if err != nil {
			return nil // nor is this
		}
		defer func() { _ = file.Close() }()
		n, err := io.Copy(all, io.LimitReader(file, size))
		if size -= n; size == 0 {
			return fs.SkipAll
		}
		return err
	})
	if size > 0 {
		err = errors.Join(err, errors.New("this machine has too few files: take a smaller size"))
	}
	return all, err
}

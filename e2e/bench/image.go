package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// shares are the sizes of an image's layers, in per cent of the image: a base,
// what a program needs, the program, its settings. The last is what changes.
var shares = []int{55, 30, 14, 1}

// loaded is an image in the engine; without a tag and an ID, one in an archive.
type loaded struct {
	tag    string
	id     string  // as the engine calls it
	config v1.Hash // digest of its config
}

// makeImages loads two images of the size into the engine that differ in
// their last layer.
func (b *bench) makeImages(ctx context.Context, size int) (image, changed *loaded, err error) {
	layers, left, err := b.makeLayers(size)
	if err != nil {
		return nil, nil, err
	}
	last, _, err := makeLayer(left, size, shares[len(shares)-1])
	if err != nil {
		return nil, nil, err
	}
	if image, err = b.load(ctx, fmt.Sprintf("%d-mb", size), layers); err != nil {
		return nil, nil, err
	}
	layers[len(layers)-1] = last
	changed, err = b.load(ctx, fmt.Sprintf("%d-mb-changed", size), layers)
	return image, changed, err
}

// makeImage loads an image of the size into the engine.
func (b *bench) makeImage(ctx context.Context, size int) (*loaded, error) {
	layers, _, err := b.makeLayers(size)
	if err != nil {
		return nil, err
	}
	return b.load(ctx, fmt.Sprintf("%d-mb", size), layers)
}

// makeLayers returns layers of the size in all, and the files that are left.
func (b *bench) makeLayers(size int) (layers []v1.Layer, left []file, err error) {
	progress("making an image of %d MB", size)
	left = b.pool
	for _, share := range shares {
		var layer v1.Layer
		if layer, left, err = makeLayer(left, size, share); err != nil {
			return nil, nil, err
		}
		layers = append(layers, layer)
	}
	return layers, left, nil
}

func makeLayer(from []file, size, share int) (v1.Layer, []file, error) {
	files, left, err := take(from, int64(size)*1e6*int64(share)/100)
	if err != nil {
		return nil, nil, err
	}
	open := func() (io.ReadCloser, error) { return tarOf(files), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.NoCompression))
	if err != nil {
		return nil, nil, fmt.Errorf("making a layer of the machine's files: %w", err)
	}
	return layer, left, nil
}

// load gives an image of the layers to the engine, under a tag that no other
// bench uses.
func (b *bench) load(ctx context.Context, label string, layers []v1.Layer) (*loaded, error) {
	progress("loading it into the engine as %s", label)
	image, err := imageOf(layers)
	if err != nil {
		return nil, fmt.Errorf("making the image: %w", err)
	}
	config, err := image.ConfigName()
	if err != nil {
		return nil, fmt.Errorf("making the image: %w", err)
	}
	tag, err := name.NewTag(fmt.Sprintf("upload-resource-bench-%d:%s", os.Getpid(), label))
	if err != nil {
		return nil, err
	}
	made := &loaded{tag: tag.String(), config: config}
	b.images = append(b.images, made)
	if err := pipe(ctx, tag, image); err != nil {
		return nil, err
	}
	id, err := command(ctx, "docker", "image", "inspect", "--format", "{{.Id}}", made.tag).Output()
	if err != nil {
		return nil, fmt.Errorf("looking for the image in the engine: %w", err)
	}
	made.id = strings.TrimSpace(string(id))
	return made, nil
}

func imageOf(layers []v1.Layer) (v1.Image, error) {
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Cmd = []string{"/usr/bin/true"}
	return mutate.ConfigFile(image, config)
}

// pipe writes the image to the engine without a file in between.
func pipe(ctx context.Context, tag name.Tag, image v1.Image) error {
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(tarball.Write(tag, image, w)) }()
	load := command(ctx, "docker", "load", "--quiet")
	load.Stdin = r
	out, err := load.CombinedOutput()
	_ = r.Close()
	if err != nil {
		return fmt.Errorf("loading the image into the engine: %w\n%s", err, out)
	}
	return nil
}

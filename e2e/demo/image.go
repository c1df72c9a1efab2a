package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/daemon"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/moby/client"
)

// repository is the name of the demo's images in a container engine.
const repository = "upload-resource-demo"

// images makes images in a container engine, or as files in a folder where no
// engine answers.
type images struct {
	dir     string
	engine  *client.Client // nil for none
	version string
	made    []name.Tag
}

// newImages waits a few seconds for the engine's answer.
func newImages(ctx context.Context, dir string) *images {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	i := &images{dir: dir}
	if engine, err := client.New(client.FromEnv); err == nil {
		if answer, err := engine.ServerVersion(ctx, client.ServerVersionOptions{}); err == nil {
			i.engine, i.version = engine, answer.Version
		}
	}
	return i
}

func (i *images) String() string {
	if i.engine == nil {
		return "an archive like those of docker save, since no container engine answers"
	}
	return "in the container engine, which is version " + i.version
}

// make returns the action's input, NAME=value, for an image of two layers: the
// program, and the greeting alone.
func (i *images) make(ctx context.Context, program, greeting string) (input string, err error) {
	content, readErr := os.ReadFile(program)
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"},
	})
	if err == nil {
		image, err = mutate.AppendLayers(image, layer("app/upload-resource", content), layer("app/greeting", []byte(greeting)))
	}
	tag, tagErr := name.NewTag(repository + ":" + rand.Text())
	if err := errors.Join(readErr, err, tagErr, ctx.Err()); err != nil {
		return "", fmt.Errorf("making an image: %w", err)
	}
	i.made = append(i.made, tag)
	if i.engine == nil {
		file := fmt.Sprintf("image-%d.tar", len(i.made))
		return "image=" + file, tarball.WriteToFile(filepath.Join(i.dir, file), tag, image)
	}
	// Runs to its end even when ctx ends: an engine whose client went away may
	// still add the image, after what was made has been removed.
	loading, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	_, err = daemon.Write(tag, image, daemon.WithContext(loading), daemon.WithClient(i.engine))
	if err != nil {
		return "", fmt.Errorf("loading an image into the container engine: %w; to do without one, set DOCKER_HOST=tcp://127.0.0.1:1", err)
	}
	loaded, err := i.engine.ImageInspect(loading, tag.String())
	return "digest=" + loaded.ID, errors.Join(err, ctx.Err())
}

// close removes the images from the engine; files go with the folder.
func (i *images) close() error {
	if i.engine == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, tag := range i.made {
		if _, err := i.engine.ImageRemove(ctx, tag.String(), client.ImageRemoveOptions{Force: true, PruneChildren: true}); err != nil {
			errs = append(errs, fmt.Errorf("removing the image %s from the container engine: %w", tag, err))
		}
	}
	return errors.Join(append(errs, i.engine.Close())...)
}

// layer is an uncompressed layer of one file.
func layer(path string, content []byte) v1.Layer {
	var archive bytes.Buffer // writing to it can't fail
	w := tar.NewWriter(&archive)
	_ = w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(content))})
	_, _ = w.Write(content)
	_ = w.Close()
	return static.NewLayer(archive.Bytes(), types.DockerUncompressedLayer)
}

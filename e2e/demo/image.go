package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/moby/client"

	"github.com/charmhub-actions/upload-resource/e2e/program"
)

// repository is the name of the demo's images in a container engine.
const repository = "upload-resource-demo"

// images makes images in a container engine, or as files in a folder where no
// engine answers.
type images struct {
	dir     string
	engine  *client.Client // nil for none
	where   string         // what the demo says of it
	cleanup []func() error // what removes what is in the engine, the last first
}

// newImages waits a few seconds for the engine's answer.
func newImages(ctx context.Context, dir string) *images {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	i := &images{dir: dir, where: "an archive like those of docker save, since no container engine answers"}
	if engine, err := client.New(client.FromEnv); err == nil {
		if answer, err := engine.ServerVersion(ctx, client.ServerVersionOptions{}); err == nil {
			i.engine, i.where = engine, "in the container engine, which is version "+answer.Version
			i.cleanup = append(i.cleanup, engine.Close)
		}
	}
	return i
}

// make returns the action's input, NAME=value, for an image of two layers: the
// program, and the greeting alone. The file is for where no engine answers.
func (i *images) make(ctx context.Context, file, binary, greeting string) (input string, err error) {
	content, readErr := os.ReadFile(binary)
	image, err := mutate.ConfigFile(empty.Image,
		&v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}})
	if err == nil {
		image, err = mutate.AppendLayers(image, layer("app/upload-resource", content),
			layer("app/greeting", []byte(greeting)))
	}
	if err := errors.Join(readErr, err, ctx.Err()); err != nil {
		return "", fmt.Errorf("making an image: %w", err)
	}
	if i.engine == nil {
		return "image=" + file, tarball.WriteToFile(filepath.Join(i.dir, file), name.MustParseReference(repository), image)
	}
	id, remove, err := program.Load(ctx, i.engine, repository, image)
	i.cleanup = append(i.cleanup, remove)
	if err != nil {
		return "", fmt.Errorf("%w; to do without one, set DOCKER_HOST=tcp://127.0.0.1:1", err)
	}
	return "digest=" + id, nil
}

// close removes the images from the engine; files go with the folder.
func (i *images) close() error {
	var errs []error
	for _, remove := range slices.Backward(i.cleanup) {
		errs = append(errs, remove())
	}
	return errors.Join(errs...)
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

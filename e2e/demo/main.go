// Command demo shows the action's main job on this machine, without an account:
//
//	go run ./e2e/demo
//
// It starts a Charmhub with a real registry on loopback, builds the action and
// runs it as a workflow step would: an image for the first time, the same one
// again, the image with another last layer, a file, the same file again. After
// each run it checks the outputs, the bytes that were sent, and what the store
// then has. The first mistake ends the demo with exit code 1.
//
// The image is loaded into the container engine that DOCKER_HOST names, or the
// local one; where none answers, it is an archive as docker save writes it.
// Images and files are removed at the end, also after an interrupt.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/program"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// The charm that the demo's Charmhub has.
const (
	charm         = "my-charm"
	imageResource = "my-image"
	fileResource  = "my-file"
)

func main() { program.Main("demo", run) }

// demo is a Charmhub, a folder that is the action's workspace and has its
// program, and a place for images.
type demo struct {
	out     io.Writer
	dir     string
	program string
	sandbox *server.Server
	images  *images
}

// run writes everything that happens to out. When it returns, also early because
// ctx ended, everything that it made is gone.
func run(ctx context.Context, _ []string, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "upload-resource-demo-")
	if err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{out: out, dir: dir, program: filepath.Join(dir, "upload-resource")}
	d.sandbox, err = server.Start(server.Options{Charms: []server.Charm{{Name: charm, Resources: []server.Resource{
		{Name: imageResource, Type: server.TypeImage}, {Name: fileResource, Type: server.TypeFile},
	}}}})
	if err != nil {
		return fmt.Errorf("starting a Charmhub on loopback: %w", err)
	}
	defer func() { err = errors.Join(err, d.sandbox.Close()) }()
	d.printf("Charmhub   a sandbox on loopback: %s, its registry: %s\n", d.sandbox.StoreURL, d.sandbox.RegistryURL)

	d.printf("Action     compiling from source (minutes if the build cache is empty) ... ")
	began := time.Now()
	if err := program.Build(ctx, d.program); err != nil {
		return err
	}
	d.printf("%s\n", seconds(time.Since(began)))
	d.images = newImages(ctx, dir)
	defer func() { err = errors.Join(err, d.images.close()) }()
	d.printf("Image      %s\n", d.images.where)
	return d.runSteps(ctx)
}

// printf prints to the demo's output and ignores an error of it.
func (d *demo) printf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

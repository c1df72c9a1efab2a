// Command demo shows the action's main job on this machine, without an account:
//
//	go run ./e2e/demo
//
// It starts a Charmhub with a real registry on loopback, builds the action and
// runs it as a workflow step would: an image for the first time, the same one
// again, the image with another last layer, a file, the same file again. Each
// time it checks the outputs, what was sent, and what the store then has. The
// first mistake ends the demo with a sentence about it and exit code 1.
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
	"os/signal"
	"path/filepath"
	"syscall"
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is a Charmhub, a folder with the action's program and a workspace for
// it, and a place for images.
type demo struct {
	out     io.Writer
	dir     string
	sandbox *server.Server
	images  *images
}

// run tells the whole story on out. When it returns, also early because ctx
// ended, everything that it made is gone.
func run(ctx context.Context, out io.Writer) (err error) {
	defer func() {
		if ctx.Err() != nil && err != nil {
			err = errors.New("interrupted")
		}
	}()
	dir, err := os.MkdirTemp("", "upload-resource-demo-")
	if err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	d := &demo{out: out, dir: dir}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := errors.Join(os.Mkdir(d.workspace(), 0o700), os.Mkdir(d.tmp(), 0o700)); err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	d.sandbox, err = server.Start(server.Options{Charms: []server.Charm{{Name: charm, Resources: []server.Resource{
		{Name: imageResource, Type: server.TypeImage}, {Name: fileResource, Type: server.TypeFile},
	}}}})
	if err != nil {
		return fmt.Errorf("starting a Charmhub on loopback: %w", err)
	}
	defer func() { err = errors.Join(err, d.sandbox.Close()) }()
	d.printf("Charmhub   a sandbox on loopback: %s, its registry: %s\n", d.sandbox.StoreURL, d.sandbox.RegistryURL)

	began := time.Now()
	if err := program.Build(ctx, d.program()); err != nil {
		return err
	}
	d.printf("Action     built from source in %s\n", seconds(time.Since(began)))
	d.images = newImages(ctx, d.program(), d.workspace())
	defer func() { err = errors.Join(err, d.images.close()) }()
	d.printf("Image      %s\n", d.images)
	return d.tell(ctx)
}

func (d *demo) program() string   { return filepath.Join(d.dir, "upload-resource") }
func (d *demo) workspace() string { return filepath.Join(d.dir, "workspace") }

// tmp is where the action keeps temporary files.
func (d *demo) tmp() string { return filepath.Join(d.dir, "tmp") }

func (d *demo) printf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

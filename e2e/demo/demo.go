package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// The charm that the demo's Charmhub has.
const (
	charm         = "my-charm"
	imageResource = "my-image"
	fileResource  = "my-file"
)

// demo is the stage: a Charmhub, the action's program, a workspace for it, and
// a place where images are made.
type demo struct {
	out       io.Writer
	dir       string // holds all that follows
	program   string
	workspace string
	sandbox   *server.Server
	images    imageMaker
	rows      []row // the steps so far
}

// imageMaker makes the images that the demo uploads.
type imageMaker interface {
	// make returns the action's input, NAME=value, for an image whose last
	// layer is the greeting alone. The layer below is always the same.
	make(ctx context.Context, greeting string) (input string, err error)
	// String says in a line where the images come from.
	String() string
	// close removes the images.
	close() error
}

func (d *demo) prepare(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "upload-resource-demo-"); err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	d.program, d.workspace = filepath.Join(d.dir, "upload-resource"), filepath.Join(d.dir, "workspace")
	if err := errors.Join(os.Mkdir(d.workspace, 0o700), os.Mkdir(d.tmp(), 0o700)); err != nil {
		return fmt.Errorf("making a folder to work in: %w", err)
	}
	d.sandbox, err = server.Start(server.Options{Charms: []server.Charm{{Name: charm, Resources: []server.Resource{
		{Name: imageResource, Type: server.TypeImage}, {Name: fileResource, Type: server.TypeFile},
	}}}})
	if err != nil {
		return fmt.Errorf("starting a Charmhub on loopback: %w", err)
	}
	d.printf("Charmhub   a sandbox on loopback: %s, its registry: %s\n", d.sandbox.StoreURL, d.sandbox.RegistryURL)

	began := time.Now()
	if err := build(ctx, d.program); err != nil {
		return err
	}
	d.printf("Action     built from source in %s\n", seconds(time.Since(began)))
	d.images = newImageMaker(ctx, d.program, d.workspace)
	d.printf("Image      %s\n", d.images)
	return nil
}

// tmp is where the action keeps temporary files.
func (d *demo) tmp() string { return filepath.Join(d.dir, "tmp") }

func (d *demo) close() error {
	var errs []error
	if d.images != nil {
		errs = append(errs, d.images.close())
	}
	if d.sandbox != nil {
		errs = append(errs, d.sandbox.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

func (d *demo) printf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

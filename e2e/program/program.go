// Package program is what the commands beside the tests share: building the action, reading what a run of it left,
// starting a container engine, loading images into one, and ending at a signal.
package program

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/daemon"
	"github.com/moby/moby/client"
)

const module = "github.com/charmhub-actions/upload-resource"

// Build compiles the action into the file path as the Dockerfile does. The working directory has to be in the action's
// repository.
func Build(ctx context.Context, path string) error {
	arguments := []string{"build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", path, module}
	command := exec.CommandContext(ctx, "go", arguments...) //nolint:gosec // the path is the caller's own
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) } // it removes its own files then
	command.WaitDelay = 10 * time.Second
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building the action with go build: %w; run this in the repository's folder\n%s", err, out)
	}
	return nil
}

// Main runs a command until it ends, or an interrupt ends its context, and exits with 1 after an error.
func Main(name string, run func(ctx context.Context, args []string, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// output is three lines: name<<DELIMITER, the value, DELIMITER.
var output = regexp.MustCompile(`(?m)^([a-z-]+)<<.*\n(.*)\n.*\n`)

// Outputs returns the outputs by name that a run wrote to the file GITHUB_OUTPUT, which is at path.
func Outputs(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the action's outputs: %w", err)
	}
	outputs := map[string]string{}
	for _, found := range output.FindAllStringSubmatch(string(text), -1) {
		outputs[found[1]] = found[2]
	}
	return outputs, nil
}

// Load gives an image to a container engine, under a tag of its own, and returns the ID that it has there. Remove
// removes it, also after an error.
func Load(
	ctx context.Context, engine *client.Client, repository string, image v1.Image,
) (id string, remove func() error, err error) {
	tag, err := name.NewTag(repository + ":" + rand.Text())
	if err != nil {
		return "", func() error { return nil }, err
	}
	remove = func() error { // in its own time: an interrupt has ended ctx
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		if _, err := engine.ImageRemove(ctx, tag.String(),
			client.ImageRemoveOptions{Force: true, PruneChildren: true}); err != nil {
			return fmt.Errorf("removing the image %s from the container engine: %w; remove it by hand", tag, err)
		}
		return nil
	}
	// Goes on for a while when ctx ends: an engine whose client went away may still add the image, after what was made has
	// been removed.
	loading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(2*time.Minute, cancel) })()
	if _, err := daemon.Write(tag, image, daemon.WithContext(loading), daemon.WithClient(engine)); err != nil {
		return "", remove, fmt.Errorf("loading an image into the container engine: %w", err)
	}
	loaded, err := engine.ImageInspect(loading, tag.String())
	return loaded.ID, remove, errors.Join(err, ctx.Err())
}

// Dockerd returns the arguments for a dockerd of version 29 or newer that keeps images in containerd and everything in
// the folder, and the DOCKER_HOST that it answers at. It needs root, but no network of its own.
func Dockerd(dir string) (host string, args []string) {
	host = "unix://" + filepath.Join(dir, "d.sock")
	return host, []string{
		"--config-file", os.DevNull, "--host", host, "--pidfile", filepath.Join(dir, "pid"),
		"--data-root", filepath.Join(dir, "d"), "--exec-root", filepath.Join(dir, "x"),
		"--feature", "containerd-snapshotter=true", "--storage-driver", "native",
		"--iptables=false", "--ip6tables=false", "--bridge=none",
	}
}

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// bench is what all measurements share.
type bench struct {
	options
	work    string // folder for everything, removed at the end
	action  tool
	tools   []tool
	pool    []file // that images are made of
	images  []*loaded
	results results
}

func newBench(ctx context.Context, o options) (_ *bench, err error) {
	b := &bench{options: o}
	defer func() {
		if err != nil {
			b.close(ctx)
		}
	}()
	if b.work, err = os.MkdirTemp("", "upload-resource-bench-"); err != nil {
		return nil, fmt.Errorf("making a folder for the measurements: %w", err)
	}
	program, err := b.build(ctx)
	if err != nil {
		return nil, err
	}
	b.action = actionTool(program)
	if b.tools, err = chooseTools(b.action, o.tools); err != nil {
		return nil, err
	}
	for _, needed := range []string{"docker", "skopeo"} {
		if _, err := exec.LookPath(needed); err != nil {
			return nil, err
		}
	}
	progress("looking for files to make images of")
	b.pool, err = findFiles("/usr/lib", "/usr/share", "/usr/bin", "/usr/local/go")
	return b, err
}

// build makes the action's program as its image has it.
func (b *bench) build(ctx context.Context) (string, error) {
	progress("building the action")
	program := filepath.Join(b.work, "upload-resource")
	build := command(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "github.com/charmhub-actions/upload-resource")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the action: %w\n%s", err, out)
	}
	return program, nil
}

// close removes what was made, in its own time: an interrupt has ended ctx.
func (b *bench) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	for _, image := range b.images {
		if out, err := command(ctx, "docker", "image", "rm", "--force", image.tag).CombinedOutput(); err != nil {
			progress("the engine still has image %s, remove it by hand: %v\n%s", image.tag, err, out)
		}
	}
	if err := os.RemoveAll(b.work); err != nil {
		progress("remove the folder %s by hand: %v", b.work, err)
	}
}

// compareTools measures every tool in every round. The order changes from
// round to round, so that none has always the same one before it.
func (b *bench) compareTools(ctx context.Context) error {
	image, changed, err := b.makeImages(ctx, b.size)
	if err != nil {
		return err
	}
	for round := range b.rounds {
		progress("round %d of %d", round+1, b.rounds)
		for i := range b.tools {
			if err := b.cycle(ctx, b.tools[(i+round)%len(b.tools)], image, changed); err != nil {
				return err
			}
		}
	}
	return nil
}

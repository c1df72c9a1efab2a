// Command demo shows the action's main job on this machine, without an account:
//
//	go run ./e2e/demo
//
// It starts a Charmhub with a real registry on loopback, builds the action and
// runs it as a workflow step would: an image for the first time, the same one
// again, the image with another last layer, a file, the same file again. Each
// time it checks the outputs, what was sent, and what the store then has; the
// first thing that isn't as it should be ends the demo with a sentence about
// it and exit code 1.
//
// The image is built in the container engine that DOCKER_HOST names, or the
// local one; where none answers, it is an archive as docker save writes it.
// Nothing of it all stays.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
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

// run tells the whole story on out. When it returns, also early because ctx
// ended, everything that it made is gone.
func run(ctx context.Context, out io.Writer) (err error) {
	d := &demo{out: out}
	defer func() {
		if cause := ctx.Err(); cause != nil && err != nil {
			err = errors.New("interrupted")
		}
		err = errors.Join(err, d.close())
	}()
	if err := d.prepare(ctx); err != nil {
		return err
	}
	return d.tell(ctx)
}

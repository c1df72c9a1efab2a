// Upload-resource puts a resource of a charm, an image or a file, on Charmhub.
// It is configured by the inputs of a workflow step, which are environment
// variables; see action.yml.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// memory is how much of it the garbage collector tries to stay within, in bytes:
// left to itself it takes twice what is in use, on a machine that others use.
const memory = 96 << 20

func main() {
	debug.SetMemoryLimit(memory)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	runner := action.New(os.Getenv, os.Stdout)
	err := parallel.Guard(func() error { return upload.Run(ctx, runner, version()) })
	stop()
	if err != nil {
		var crash *parallel.PanicError
		if errors.As(err, &crash) {
			runner.Logger().Debug(string(crash.Stack))
		}
		runner.Fail(err)
		os.Exit(1)
	}
}

// version is the one that the module was built at, as the Go command knows it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}

// Upload-resource uploads a resource of a charm, an image or a file, to Charmhub. With the argument release it puts
// charm and resource revisions on channels, and with check-token it reports what a store token can do. It is configured
// by flags, or by the inputs of a workflow step, which are environment variables; see the action.yml files.
//
// It exits with 0 if what was asked for has been done, 1 if not, and 2 if the command line can't be read.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/commandline"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/program"
)

// version is set by the linker in release builds.
var version = "devel"

// memoryLimit is the garbage collector's soft limit, in bytes. Without it, the collector takes twice what is in use, on
// a machine that others use.
const memoryLimit = 96 << 20

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code.
func run(args []string) (exit int) {
	debug.SetMemoryLimit(memoryLimit)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	defer stop()
	line, err := commandline.Parse(args, version)
	runner := action.New(line.Getenv(os.LookupEnv), os.Stdout)
	switch {
	case err != nil:
		runner.Fail(err)
		return 2
	case line.Help != "":
		fmt.Print(line.Help)
		return 0
	}
	if err = runner.WriteJSON(line.JSON); err == nil {
		err = parallel.Guard(func() error { return program.Run(ctx, runner, line.Command, version) })
	}
	if err != nil {
		var crash *parallel.PanicError
		if errors.As(err, &crash) {
			runner.Logger().Debug(string(crash.Stack))
		}
		runner.Fail(err)
		return 1
	}
	return 0
}

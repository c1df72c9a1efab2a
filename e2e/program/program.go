// Package program is what the commands beside the tests share: building the
// action, reading what a run of it left, and ending at a signal.
package program

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

const module = "github.com/charmhub-actions/upload-resource"

// Build compiles the action into the file path as the Dockerfile does. The
// working directory has to be in the action's repository.
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

// Main runs a command until it ends, or an interrupt ends its context, and exits
// with 1 after an error.
func Main(name string, run func(ctx context.Context, args []string, out io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// output is three lines: name<<DELIMITER, the value, DELIMITER.
var output = regexp.MustCompile(`(?m)^([a-z-]+)<<.*\n(.*)\n.*\n`)

// Outputs returns the outputs by name that a run wrote to the file
// GITHUB_OUTPUT, which is at path.
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

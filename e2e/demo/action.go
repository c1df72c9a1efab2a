package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const module = "github.com/charmhub-actions/upload-resource"

// build makes the action's program as its Dockerfile does.
func build(ctx context.Context, program string) error {
	arguments := []string{"build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", program, module}
	command := exec.CommandContext(ctx, "go", arguments...) //nolint:gosec // all of it is the demo's own
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	interruptible(command)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building the action with go build (run the demo from the repository's folder): %w\n%s", err, out)
	}
	return nil
}

// interruptible lets a program end by itself when its context does.
func interruptible(command *exec.Cmd) {
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
}

// outcome is what a run of the action left.
type outcome struct {
	log       string
	outputs   map[string]string
	traffic   traffic
	revisions []server.Revision // of the step's resource
	took      time.Duration
}

// runAction runs the action as a workflow step in the workspace, and fails when
// it does. All that the action sees of this machine's environment is what leads
// it to the container engine.
func (d *demo) runAction(ctx context.Context, s step) (*outcome, error) {
	outputs := filepath.Join(d.dir, "outputs")
	if err := os.WriteFile(outputs, nil, 0o600); err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, d.program) //nolint:gosec // what the demo built
	command.Dir = d.workspace
	command.Env = append(engineVariables(), "INPUT_CHARM="+charm, "INPUT_RESOURCE="+s.resource, variable(s.input),
		"GITHUB_OUTPUT="+outputs, "TMPDIR="+d.tmp())
	command.Env = append(command.Env, d.sandbox.Env()...)
	interruptible(command)
	log := &logWriter{out: d.out}
	command.Stdout, command.Stderr = log, log

	d.sandbox.ResetRequests()
	began := time.Now()
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("the action failed, its log says why: %w", err)
	}
	o := &outcome{log: log.all.String(), took: time.Since(began), traffic: count(d.sandbox.Requests())}
	o.revisions = d.sandbox.Revisions(charm, s.resource)
	text, err := os.ReadFile(outputs)
	if err != nil {
		return nil, err
	}
	o.outputs, err = parseOutputs(string(text))
	return o, err
}

func engineVariables() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "DOCKER_HOST", "DOCKER_API_VERSION", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// variable is an input, NAME=value, in the way that the runner hands it over.
func variable(input string) string {
	name, value, _ := strings.Cut(input, "=")
	return "INPUT_" + strings.ToUpper(name) + "=" + value
}

// parseOutputs reads what was written for GITHUB_OUTPUT: for each output three
// lines, name<<DELIMITER, the value, DELIMITER.
func parseOutputs(text string) (map[string]string, error) {
	outputs := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for ; len(lines) >= 3; lines = lines[3:] {
		name, delimiter, ok := strings.Cut(lines[0], "<<")
		if !ok || lines[2] != delimiter {
			break
		}
		outputs[name] = lines[1]
	}
	if len(lines) > 0 {
		return nil, errors.New("the action wrote outputs that can't be read: " + strings.Join(lines, "⏎"))
	}
	return outputs, nil
}

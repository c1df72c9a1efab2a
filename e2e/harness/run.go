package harness

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// Result is what a run of the action printed and wrote, with its exit code.
type Result struct {
	Exit    int
	Log     string
	Outputs map[string]string
	Summary string
	Dir     string // of its output, its summary and its TMPDIR
}

// Upload runs the program as GitHub's runner does, with inputs given as name=value: `digest=sha256:…`. A name in
// capitals is a variable.
func Upload(t *testing.T, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	return UploadContext(t.Context(), t, sandbox, inputs...)
}

// UploadContext stops the run as a runner does when its context ends: by a signal that it can act on.
func UploadContext(ctx context.Context, t *testing.T, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	command := exec.CommandContext(ctx, Program)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return Execute(t, command, sandbox, inputs...)
}

// UploadIn runs the program in a folder.
func UploadIn(ctx context.Context, t *testing.T, dir string, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	command := exec.CommandContext(ctx, Program)
	command.Dir = dir
	return Execute(t, command, sandbox, inputs...)
}

// Execute runs a command that is the program, or becomes it.
func Execute(t *testing.T, command *exec.Cmd, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	r := Result{Dir: t.TempDir()}
	output, summary := filepath.Join(r.Dir, "output"), filepath.Join(r.Dir, "summary")
	tmp := filepath.Join(r.Dir, "tmp")
	for _, err := range []error{os.WriteFile(output, nil, 0o600), os.WriteFile(summary, nil, 0o600),
		os.Mkdir(tmp, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	command.Env = append([]string{
		"GITHUB_ACTIONS=true", "GITHUB_OUTPUT=" + output, "GITHUB_STEP_SUMMARY=" + summary, "TMPDIR=" + tmp,
		"GITHUB_WORKSPACE=" + os.TempDir(), // where tests put files, unless they say otherwise
	}, Environment(sandbox, inputs)...)
	var log bytes.Buffer
	if command.Stdout == nil { // else the test looks at it by itself
		command.Stdout, command.Stderr = &log, &log
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // how it ended is in ProcessState
	r.Exit, r.Log = command.ProcessState.ExitCode(), log.String()
	r.Outputs = ReadOutputs(t, output)
	r.Summary = ReadFile(t, summary)
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the run left temporary files: %v %v", left, err)
	}
	CheckSecrets(t, sandbox, r, inputs...)
	checkRequests(t, sandbox)
	return r
}

// MeasurePeak has the memory of a command measured that isn't started yet. Once it has ended, the result tells the most
// memory that it had, in MiB.
func MeasurePeak(t *testing.T, command *exec.Cmd) (megabytes func() int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "peak")
	command.Args = append([]string{peak, file, command.Path}, command.Args[1:]...)
	command.Path = peak
	return func() int64 {
		t.Helper()
		kilobytes, err := strconv.ParseInt(ReadFile(t, file), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return kilobytes >> 10
	}
}

// Environment is all that the action sees: of ours, what finds the engine.
func Environment(sandbox *server.Server, inputs []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "INPUT_CHARM=" + Charm}
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		env = append(env, "DOCKER_HOST="+host)
	}
	if sandbox != nil {
		env = append(env, sandbox.Env()...)
	}
	for _, input := range inputs {
		name, value, _ := strings.Cut(input, "=")
		if name != strings.ToUpper(name) {
			name = "INPUT_" + strings.ToUpper(name)
		}
		env = append(env, name+"="+value)
	}
	return env
}

// ReadOutputs reads what was written for GITHUB_OUTPUT: name<<DELIMITER, the lines of the value, DELIMITER.
func ReadOutputs(t *testing.T, path string) map[string]string {
	t.Helper()
	outputs := map[string]string{}
	lines := strings.Split(ReadFile(t, path), "\n")
	for len(lines) > 2 {
		name, delimiter, ok := strings.Cut(lines[0], "<<")
		end := slices.Index(lines, delimiter)
		if !ok || end < 1 || end > 2 && name != "notes" {
			t.Fatalf("%s is no output, or one of several lines", lines[:3])
		}
		outputs[name] = strings.Join(lines[1:end], "\n")
		lines = lines[end+1:]
	}
	return outputs
}

// Release runs the program as the action release does.
func Release(t *testing.T, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	return ReleaseContext(t.Context(), t, sandbox, inputs...)
}

// ReleaseContext is Release with a context that stops the run, see UploadContext.
func ReleaseContext(ctx context.Context, t *testing.T, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	command := exec.CommandContext(ctx, Program, "release")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return Execute(t, command, sandbox, inputs...)
}

// RemoteDigest uploads an image to a new Charmhub and returns the digest that it has there.
func RemoteDigest(t *testing.T, inputs ...string) string {
	t.Helper()
	sandbox := StartSandbox(t, server.Options{})
	r := Upload(t, sandbox, append(inputs, "resource="+ImageResource)...)
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"uploaded": "true"})
	return r.Outputs["remote-digest"]
}

// DryRun fails the test if anything changes.
func DryRun(t *testing.T, sandbox *server.Server, inputs []string) Result {
	t.Helper()
	sandbox.ResetRequests()
	r := Upload(t, sandbox, append([]string{"dry-run=true"}, inputs...)...)
	r.Succeeded(t)
	if sent := Changes(sandbox); len(sent) > 0 {
		t.Errorf("the dry run changed something:\n%s", strings.Join(sent, "\n"))
	}
	return r
}

// MaxMemory is the most memory that a run may use, in megabytes, with any input.
const MaxMemory = 128

// Publish runs the program as the action publish does.
func Publish(t *testing.T, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	return PublishContext(t.Context(), t, sandbox, inputs...)
}

// PublishContext is Publish with a context that stops the run, see UploadContext.
func PublishContext(ctx context.Context, t *testing.T, sandbox *server.Server, inputs ...string) Result {
	t.Helper()
	command := exec.CommandContext(ctx, Program, "publish")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return Execute(t, command, sandbox, append([]string{"charm="}, inputs...)...)
}

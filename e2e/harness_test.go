// Package e2e tests the action as its users run it: the built program, a real
// registry, a real container engine, and other people's tools as judges of
// what came out. Charmhub alone is a stand-in, see e2e/sandbox.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// program is the action's binary, shell a small static one for images, and peak
// one that measures another's memory; see testdata. They are built once for all
// tests.
var program, shell, peak string

func TestMain(m *testing.M) {
	flag.Parse()
	runMoreAtOnce()
	os.Exit(buildAndRun(m))
}

// runMoreAtOnce lets twice as many tests run at once as there are cores, unless
// the command line says how many: many of them wait for a time-out.
func runMoreAtOnce() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "upload-resource-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	defer func() { _ = exec.Command("docker", "rmi", "--force", actionImageName).Run() }()
	program, shell, peak = filepath.Join(dir, "upload-resource"), filepath.Join(dir, "sh"), filepath.Join(dir, "peak")
	for binary, source := range map[string]string{program: "..", shell: "./testdata/sh", peak: "./testdata/peak"} {
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", source, err, out)
			return 1
		}
	}
	return m.Run()
}

// need skips the test where a tool is missing, and fails it where nothing may
// be skipped.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if err := available(tool); err == nil {
			continue
		} else if os.Getenv("UPLOAD_RESOURCE_E2E") == "required" {
			t.Fatalf("%s is required: %v", tool, err)
		} else {
			t.Skipf("%s is not here: %v", tool, err)
		}
	}
}

// available reports whether a program is there; of docker, whether its engine
// answers.
func available(tool string) error {
	if tool == "docker" {
		out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	_, err := exec.LookPath(tool)
	return err
}

// The charm that the sandbox of most tests has.
const (
	charm         = "my-charm"
	imageResource = "my-image"
	fileResource  = "my-file"
)

// startSandbox starts a Charmhub with the charm above, for the length of a
// test. UPLOAD_RESOURCE_E2E_REGISTRY names a distribution binary to run for the
// tests that ask for none.
func startSandbox(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	if options.Charms == nil {
		options.Charms = []server.Charm{{Name: charm, Resources: []server.Resource{
			{Name: imageResource, Type: server.TypeImage}, {Name: fileResource, Type: server.TypeFile},
		}}}
	}
	options.Registry = cmp.Or(options.Registry, os.Getenv("UPLOAD_RESOURCE_E2E_REGISTRY"))
	sandbox, err := server.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	return sandbox
}

// eachRegistry runs a test against each of the registries that images are
// pushed to: options are for a sandbox with one of them.
func eachRegistry(t *testing.T, test func(t *testing.T, options server.Options)) {
	t.Helper()
	t.Run("distribution 3", func(t *testing.T) {
		t.Parallel()
		test(t, server.Options{})
	})
	t.Run("distribution 2", func(t *testing.T) {
		t.Parallel()
		need(t, "docker-registry")
		test(t, server.Options{Registry: "docker-registry"})
	})
}

// result is what a run of the action left.
type result struct {
	exit    int
	log     string
	outputs map[string]string
	summary string
	dir     string // of its output, its summary and its TMPDIR
}

// action runs the program as GitHub's runner does, with inputs given as
// name=value: `digest=sha256:…`. A name in capitals is a variable.
func action(t *testing.T, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	return actionContext(t.Context(), t, sandbox, inputs...)
}

// actionContext stops the run as a runner does when its context ends: by a
// signal that it can act on.
func actionContext(ctx context.Context, t *testing.T, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	command := exec.CommandContext(ctx, program)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return execute(t, command, sandbox, inputs...)
}

// actionIn runs the program in a folder.
func actionIn(ctx context.Context, t *testing.T, dir string, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	command := exec.CommandContext(ctx, program)
	command.Dir = dir
	return execute(t, command, sandbox, inputs...)
}

// execute runs a command that is the program, or becomes it.
func execute(t *testing.T, command *exec.Cmd, sandbox *server.Server, inputs ...string) result {
	t.Helper()
	r := result{dir: t.TempDir()}
	output, summary := filepath.Join(r.dir, "output"), filepath.Join(r.dir, "summary")
	tmp := filepath.Join(r.dir, "tmp")
	for _, err := range []error{os.WriteFile(output, nil, 0o600), os.WriteFile(summary, nil, 0o600), os.Mkdir(tmp, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	command.Env = append([]string{
		"GITHUB_ACTIONS=true", "GITHUB_OUTPUT=" + output, "GITHUB_STEP_SUMMARY=" + summary, "TMPDIR=" + tmp,
		"GITHUB_WORKSPACE=" + os.TempDir(), // where tests put files, unless they say otherwise
	}, environment(sandbox, inputs)...)
	var log bytes.Buffer
	if command.Stdout == nil { // else the test looks at it by itself
		command.Stdout, command.Stderr = &log, &log
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // how it ended is in ProcessState
	r.exit, r.log = command.ProcessState.ExitCode(), log.String()
	r.outputs = readOutputs(t, output)
	r.summary = readFile(t, summary)
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("the run left temporary files: %v %v", left, err)
	}
	checkSecrets(t, sandbox, r, inputs...)
	checkWire(t, sandbox)
	return r
}

// peakOf has the memory of a command measured that isn't started yet. Once it has ended, the result tells the most memory
// that it had, in MiB.
func peakOf(t *testing.T, command *exec.Cmd) (megabytes func() int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "peak")
	command.Args = append([]string{peak, file, command.Path}, command.Args[1:]...)
	command.Path = peak
	return func() int64 {
		t.Helper()
		kilobytes, err := strconv.ParseInt(readFile(t, file), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return kilobytes >> 10
	}
}

// environment is all that the action sees: of ours, what finds the engine.
func environment(sandbox *server.Server, inputs []string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "INPUT_CHARM=" + charm}
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

// readOutputs reads what was written for GITHUB_OUTPUT: name<<DELIMITER, the
// lines of the value, DELIMITER.
func readOutputs(t *testing.T, path string) map[string]string {
	t.Helper()
	outputs := map[string]string{}
	lines := strings.Split(readFile(t, path), "\n")
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

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// run runs another tool and returns what it printed, trimmed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	return strings.TrimSpace(output(t, name, args...))
}

// output runs another tool and returns what it printed, to the byte.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", command, err, out.String(), errs.String())
	}
	return out.String()
}

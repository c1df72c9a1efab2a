package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestContainerUploadsImageOnce(t *testing.T) {
	t.Parallel()
	containerUploadsImageOnce(t, actionImage(t))
}

func containerUploadsImageOnce(t *testing.T, image string) {
	t.Helper()
	id := buildImage(t, "scratch")
	sandbox := startSandbox(t, server.Options{})
	inputs := []string{"resource=" + imageResource, "digest=" + id}

	first := container(t, image, sandbox, t.TempDir(), inputs...)
	first.succeeded(t)
	first.logged(t, logUnknown, logUploaded(first), logCreated(imageResource, "1"))
	first.has(t, map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true",
		"source-digest": id, "resource-flag": imageResource + ":1",
	})
	rerunsChangeNothing(t, sandbox, first,
		func() result { return container(t, image, sandbox, t.TempDir(), inputs...) },
		func() result { return action(t, sandbox, inputs...) })
}

func TestContainerUploadsFileOnce(t *testing.T) {
	t.Parallel()
	image := actionImage(t)
	sandbox := startSandbox(t, server.Options{})
	workspace := t.TempDir()
	file := filepath.Join(workspace, "rules.txt")
	writeFile(t, file, "one\ntwo\n")
	upload := func(path string) result {
		return container(t, image, sandbox, workspace, "resource="+fileResource, "filepath="+path)
	}

	first := upload("rules.txt")
	first.succeeded(t)
	first.logged(t, logCreated(fileResource, "1"))
	first.has(t, map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true",
		"source-digest": "sha256:" + sumOf("one\ntwo\n"), "resource-flag": fileResource + ":1",
	})
	rerunsChangeNothing(t, sandbox, first,
		func() result { return upload("rules.txt") },
		func() result { return upload("/github/workspace/rules.txt") },
		func() result { return action(t, sandbox, "resource="+fileResource, "filepath="+file) })
}

// rerunsChangeNothing checks that each run after the first sends nothing and
// says what the first said: the container and the binary are one.
func rerunsChangeNothing(t *testing.T, sandbox *server.Server, first result, reruns ...func() result) {
	t.Helper()
	for _, rerun := range reruns {
		sandbox.ResetRequests()
		again := rerun()
		again.succeeded(t)
		if diff := cmp.Diff(first.unchanged(), again.outputs); diff != "" {
			t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
		}
		if sent := changes(sandbox); len(sent) > 0 {
			t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
		}
	}
}

// A path that only the runner's host has is what users trip over.
func TestContainerExplainsRunnerTemp(t *testing.T) {
	t.Parallel()
	image := actionImage(t)
	sandbox := startSandbox(t, server.Options{})
	path := filepath.Join(t.TempDir(), "on-the-host")
	writeFile(t, path, "")
	for _, inputs := range [][]string{
		{"resource=" + fileResource, "filepath=" + path},
		{"resource=" + imageResource, "image=" + path},
	} {
		r := container(t, image, sandbox, t.TempDir(), inputs...)
		r.failed(t, sandbox, path, "a container action sees the workspace", "runner.temp", "github.workspace")
	}
}

// container runs an image of the action as GitHub's runner does: the engine's
// socket and the workspace mounted, a variable for each input that action.yml
// declares. It gets the host's network, which the sandbox is on. What the
// action writes to exists before, so none of it ends up as root's.
func container(t *testing.T, image string, sandbox *server.Server, workspace string, inputs ...string) result {
	t.Helper()
	r := result{dir: t.TempDir()}
	output, summary := filepath.Join(r.dir, "output"), filepath.Join(r.dir, "summary")
	if err := errors.Join(os.WriteFile(output, nil, 0o600), os.WriteFile(summary, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	name := "upload-resource-e2e-" + strings.ToLower(rand.Text())
	args := []string{
		"run", "--name", name, "--network", "host", "--workdir", "/github/workspace",
		"-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", t.TempDir() + ":/github/home",
		"-v", r.dir + ":/github/file_commands", "-v", workspace + ":/github/workspace",
		"-e", "HOME=/github/home", "-e", "GITHUB_ACTIONS=true", "-e", "GITHUB_WORKSPACE=/github/workspace",
		"-e", "GITHUB_OUTPUT=/github/file_commands/output", "-e", "GITHUB_STEP_SUMMARY=/github/file_commands/summary",
	}
	variables := containerEnv(t, sandbox, inputs)
	for _, variable := range variables {
		name, _, _ := strings.Cut(variable, "=") // a value can be secret, and the process list is public
		args = append(args, "-e", name)
	}
	command := exec.CommandContext(t.Context(), "docker", append(args, image)...)
	command.Env = append(os.Environ(), variables...)
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", name).Run() })
	if err := command.Run(); err != nil && command.ProcessState.ExitCode() != 1 {
		t.Fatalf("docker run: %v\n%s", err, log.String())
	}
	r.exit, r.log = command.ProcessState.ExitCode(), log.String()
	r.outputs, r.summary = readOutputs(t, output), readFile(t, summary)
	checkSecrets(t, sandbox, r, inputs...)
	if diff := run(t, "docker", "diff", name); strings.Contains(diff, " /tmp/") {
		t.Errorf("the run left temporary files:\n%s", diff)
	}
	return r
}

// containerEnv is how the runner hands inputs over: each that action.yml
// declares is there, empty if it is neither given nor has a default. The job's
// variables lead to the sandbox.
func containerEnv(t *testing.T, sandbox *server.Server, inputs []string) []string {
	t.Helper()
	var declared struct {
		Inputs map[string]struct{ Default string }
	}
	if err := yaml.Unmarshal([]byte(readFile(t, "../action.yml")), &declared); err != nil {
		t.Fatal(err)
	}
	given := environment(sandbox, inputs)
	all := sandbox.Env()
	for input, declaration := range declared.Inputs {
		variable := "INPUT_" + strings.ToUpper(input) + "="
		all = append(all, variable+declaration.Default)
		if i := slices.IndexFunc(given, func(g string) bool { return strings.HasPrefix(g, variable) }); i >= 0 {
			all[len(all)-1] = given[i]
		}
	}
	return all
}

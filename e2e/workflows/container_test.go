package workflows

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

	"go.yaml.in/yaml/v3"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestContainerUploadsImageOnce(t *testing.T) {
	t.Parallel()
	containerUploadsImageOnce(t, harness.ActionImage(t))
}

// containerUploadsImageOnce uploads an image with the action in a container, and checks that no second run, in a
// container or without one, changes anything.
func containerUploadsImageOnce(t *testing.T, image string) {
	t.Helper()
	id := harness.BuildImage(t, "scratch")
	sandbox := harness.StartSandbox(t, server.Options{})
	inputs := []string{"resource=" + harness.ImageResource, "digest=" + id}

	first := container(t, image, sandbox, t.TempDir(), inputs...)
	first.Succeeded(t)
	first.Logged(t, harness.LogUnknown, harness.LogUploaded(first), harness.LogCreated(harness.ImageResource, "1"))
	first.HasOutputs(t, map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true",
		"source-digest": id, "resource-flag": harness.ImageResource + ":1",
	})
	harness.RerunsChangeNothing(t, sandbox, first,
		func() harness.Result { return container(t, image, sandbox, t.TempDir(), inputs...) },
		func() harness.Result { return harness.Upload(t, sandbox, inputs...) })
}

func TestContainerUploadsFileOnce(t *testing.T) {
	t.Parallel()
	image := harness.ActionImage(t)
	sandbox := harness.StartSandbox(t, server.Options{})
	workspace := t.TempDir()
	file := filepath.Join(workspace, "rules.txt")
	harness.WriteFile(t, file, "one\ntwo\n")
	upload := func(path string) harness.Result {
		return container(t, image, sandbox, workspace, "resource="+harness.FileResource, "filepath="+path)
	}

	first := upload("rules.txt")
	first.Succeeded(t)
	first.Logged(t, harness.LogCreated(harness.FileResource, "1"))
	first.HasOutputs(t, map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true",
		"source-digest": "sha256:" + harness.SHA256Of("one\ntwo\n"), "resource-flag": harness.FileResource + ":1",
	})
	harness.RerunsChangeNothing(t, sandbox, first,
		func() harness.Result { return upload("rules.txt") },
		func() harness.Result { return upload("/github/workspace/rules.txt") },
		func() harness.Result {
			return harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+file)
		})
}

// A path that only the runner's host has is what users trip over.
func TestContainerExplainsRunnerTemp(t *testing.T) {
	t.Parallel()
	image := harness.ActionImage(t)
	sandbox := harness.StartSandbox(t, server.Options{})
	path := filepath.Join(t.TempDir(), "on-the-host")
	harness.WriteFile(t, path, "")
	for _, inputs := range [][]string{
		{"resource=" + harness.FileResource, "filepath=" + path},
		{"resource=" + harness.ImageResource, "image=" + path},
	} {
		r := container(t, image, sandbox, t.TempDir(), inputs...)
		r.Failed(t, sandbox, path, "a container action sees the workspace", "runner.temp", "github.workspace")
	}
}

// container runs an image of the action as GitHub's runner does: the engine's
// socket and the workspace mounted, a variable for each input that action.yml
// declares. It gets the host's network, which the sandbox is on. What the
// action writes to exists before, so none of it ends up as root's.
func container(t *testing.T, image string, sandbox *server.Server, workspace string, inputs ...string) harness.Result {
	t.Helper()
	r := harness.Result{Dir: t.TempDir()}
	output, summary := filepath.Join(r.Dir, "output"), filepath.Join(r.Dir, "summary")
	if err := errors.Join(os.WriteFile(output, nil, 0o600), os.WriteFile(summary, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	name := "upload-resource-e2e-" + strings.ToLower(rand.Text())
	args := []string{
		"run", "--name", name, "--network", "host", "--workdir", "/github/workspace",
		"-v", "/var/run/docker.sock:/var/run/docker.sock", "-v", t.TempDir() + ":/github/home",
		"-v", r.Dir + ":/github/file_commands", "-v", workspace + ":/github/workspace",
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
	r.Exit, r.Log = command.ProcessState.ExitCode(), log.String()
	r.Outputs, r.Summary = harness.ReadOutputs(t, output), harness.ReadFile(t, summary)
	harness.CheckSecrets(t, sandbox, r, inputs...)
	if diff := harness.Tool(t, "docker", "diff", name); strings.Contains(diff, " /tmp/") {
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
	if err := yaml.Unmarshal([]byte(harness.ReadFile(t, harness.Root+"/action.yml")), &declared); err != nil {
		t.Fatal(err)
	}
	given := harness.Environment(sandbox, inputs)
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

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// runnerImage returns the name of an image in which act can run the steps of a
// job, made once for all tests: busybox, the Docker client that is here, and
// stand-ins for what needs a cluster or a store.
func runnerImage(t *testing.T) string {
	t.Helper()
	need(t, "docker", "busybox")
	image, err := importRunnerImage()
	if err != nil {
		t.Fatal(err)
	}
	return image
}

var importRunnerImage = sync.OnceValues(func() (string, error) {
	const image = "upload-resource-e2e-runner"
	root, w := io.Pipe()
	defer func() { _ = root.Close() }()
	go func() { w.CloseWithError(writeRunner(w)) }()
	load := exec.Command("docker", "import", "-", image)
	load.Stdin = root
	if out, err := load.CombinedOutput(); err != nil {
		return "", fmt.Errorf("importing an image for the runner: %w\n%s", err, out)
	}
	return image, nil
})

func writeRunner(w io.Writer) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	docker, err := exec.LookPath("docker")
	if err != nil {
		return err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return err
	}
	root := rootFS{tar.NewWriter(w)}
	err = errors.Join(root.dir("tmp", 0o1777), root.dir("root", 0o700), root.tree("bin/busybox", busybox), root.script("bin/bash", bash))
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			err = errors.Join(err, root.link("bin/"+applet, "busybox"))
		}
	}
	for name, text := range standInPrograms {
		err = errors.Join(err, root.script("bin/"+name, text))
	}
	for _, file := range append(libraries(docker), docker) {
		to := strings.TrimPrefix(file, "/")
		if file == docker {
			to = "bin/docker"
		}
		err = errors.Join(err, root.tree(to, file))
	}
	return errors.Join(err, root.Close())
}

// bash has nothing beyond sh: its options before the script are for the real
// one.
const bash = `#!/bin/sh
while true; do
	case $1 in
	--*) shift ;;
	*) exec /bin/sh "$@" ;;
	esac
done
`

func (r rootFS) script(to, text string) error {
	if err := r.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: 0o755, Size: int64(len(text))}); err != nil {
		return err
	}
	_, err := io.WriteString(r, text)
	return err
}

var library = regexp.MustCompile(`(?m)(?:^|=>)\s*(/\S+) \(0x`)

// libraries returns what a program is linked with; nothing if it is static.
func libraries(program string) (paths []string) {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil
	}
	for _, found := range library.FindAllSubmatch(out, -1) {
		paths = append(paths, string(found[1]))
	}
	return paths
}

// checkout is a charm's repository, as a runner checks it out.
type checkout struct {
	dir     string
	action  string // folder of the action that its workflows use
	options []string
	sandbox *server.Server
}

// actionFiles returns the files that declare this repository's actions, from its root on.
func actionFiles(t *testing.T) (files []string) {
	t.Helper()
	paths, err := filepath.Glob("../*/action.yml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no actions: %v", err)
	}
	for _, path := range append(paths, "../action.yml") {
		files = append(files, strings.TrimPrefix(path, "../"))
	}
	return files
}

var dockerfile = regexp.MustCompile(`image: (\.\./)?Dockerfile\n`)

// newCheckout makes a repository with a workflow and other files.
func newCheckout(t *testing.T, sandbox *server.Server, workflow string, files map[string]string) checkout {
	t.Helper()
	need(t, "act", "git")
	c := checkout{dir: t.TempDir(), action: t.TempDir(), sandbox: sandbox, options: useStandIns(t)}
	for _, file := range actionFiles(t) {
		declared := dockerfile.ReplaceAllString(readFile(t, "../"+file), "image: docker://"+actionImage(t)+"\n")
		if err := os.MkdirAll(filepath.Dir(filepath.Join(c.action, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(c.action, file), declared)
	}
	c.write(t, ".github/workflows/"+workflow, workflowText(t, workflow))
	for name, content := range files {
		c.write(t, name, content)
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main"}, {"add", "--all"},
		{"-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "commit", "--quiet", "--message=all"},
		{"remote", "add", "origin", "https://example.com/someone/my-charm.git"},
	} {
		run(t, "git", append([]string{"-C", c.dir}, args...)...)
	}
	return c
}

func (c checkout) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, content)
}

// job is what a run of a workflow printed.
type job struct {
	failed bool
	log    string
}

// runs lets act run the checkout's workflow for an event, with more options of
// act's. The workflow uses the action as released; where its servers are is said
// by the variables that charmcraft reads. No step may show a secret.
func (c checkout) runs(t *testing.T, event string, options ...string) job {
	t.Helper()
	home := t.TempDir()
	env := []string{"HOME=" + home, "XDG_CACHE_HOME=" + home, "PATH=" + os.Getenv("PATH"), "DOCKER_HOST=" + os.Getenv("DOCKER_HOST")}
	args := []string{
		event, "--directory", c.dir, "--platform", "ubuntu-latest=" + runnerImage(t) + ":latest", "--pull=false", "--no-cache-server",
		"--rm", "--local-repository", "charmhub-actions/upload-resource@v1=" + c.action,
		"--secret", "CHARMHUB_TOKEN", "--env", "DOCKER_BUILDKIT=0",
	}
	args = append(append(args, c.options...), options...)
	token, servers := c.sandbox.Env()[0], c.sandbox.Env()[1:]
	env = append(env, "CHARMHUB_TOKEN="+strings.TrimPrefix(token, "CHARMCRAFT_AUTH="))
	envFile := filepath.Join(home, "sandbox.env")
	writeFile(t, envFile, strings.Join(servers, "\n")+"\n")
	args = append(args, "--env-file", envFile)
	command := exec.CommandContext(t.Context(), "act", args...)
	command.Env = env
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	checkSecrets(t, c.sandbox, result{dir: t.TempDir(), log: out.String()})
	return job{failed: err != nil, log: out.String()}
}

// succeeded fails the test at once unless all jobs of the workflow did.
func (j job) succeeded(t *testing.T) {
	t.Helper()
	if j.failed {
		t.Fatalf("the workflow failed:\n%s", j.log)
	}
}

// logged fails the test unless steps printed each of the texts.
func (j job) logged(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(j.log, text) {
			t.Errorf("the log of the workflow doesn't say %q:\n%s", text, j.log)
		}
	}
}

// uniqueFile is a file's content that no other test has.
func uniqueFile() string { return rand.Text() + "\n" }

package harness

import (
	"bytes"
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

var markedWorkflow = regexp.MustCompile("(?s)<!-- workflow: ([a-z-]+) -->\n+```yaml\n(.*?)```\n")

// DocumentedWorkflows returns the workflows that the documents tell people to
// copy, by file name.
func DocumentedWorkflows(t *testing.T) map[string]string {
	t.Helper()
	pages, err := filepath.Glob(Root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	workflows := map[string]string{}
	for _, page := range append(pages, Root+"/README.md") {
		for _, found := range markedWorkflow.FindAllStringSubmatch(ReadFile(t, page), -1) {
			name := found[1] + ".yml"
			if workflows[name] != "" {
				t.Errorf("%s has a second workflow %s", page, found[1])
			}
			workflows[name] = found[2]
		}
	}
	if len(workflows) == 0 {
		t.Fatal("the documents have no workflow")
	}
	return workflows
}

// workflowText returns a workflow of the documents, or of testdata, which has
// those that nobody should copy.
func workflowText(t *testing.T, name string) string {
	t.Helper()
	if text, ok := DocumentedWorkflows(t)[name]; ok {
		return text
	}
	return ReadFile(t, "testdata/workflows/"+name)
}

// standInActions are what the documents' workflows use besides this action, by
// repository and version: instead of packing, they take a file of the checkout,
// a rock that is named for the job if there is one.
var standInActions = map[string]map[string]string{
	"actions/attest-build-provenance@v3": {".": `
inputs: {subject-name: {required: true}, subject-digest: {required: true}}
runs: {using: composite, steps: [{shell: sh, run: 'echo "attested ${{ inputs.subject-name }}@${{ inputs.subject-digest }}"'}]}
`},
	"canonical/craft-actions@v1": {
		"rockcraft/pack": `
inputs: {path: {default: .}}
outputs: {rocks: {value: "${{ steps.pack.outputs.rocks }}"}}
runs:
  using: composite
  steps:
    - id: pack
      shell: sh
      run: |
        echo "packing in ${{ inputs.path }}"
        rock=$GITHUB_JOB.rock
        [ -e "$rock" ] || rock=$(echo *.rock)
        echo "rocks=$rock" >> "$GITHUB_OUTPUT"
`,
		"charmcraft/pack": `
outputs: {charms: {value: "${{ steps.pack.outputs.charms }}"}}
runs: {using: composite, steps: [{id: pack, shell: sh, run: 'echo charms=$(echo *.charm) >> "$GITHUB_OUTPUT"'}]}
`,
	},
}

// standInPrograms are what steps run that can't run here: GitHub's gh, a skopeo that
// reads a manifest out of a rock, a cluster that has
// what it is to wait for, and a node that hashes the files of a pattern such as
// rock/**, which act asks for hashFiles. In .ci/cluster, kubectl is the real one.
var standInPrograms = map[string]string{
	"gh": `#!/bin/sh
case "$1 $2" in
"issue list") ;;
"release view") test -e "released-$3" ;;
*) echo "gh $*" ;;
esac
`,
	"skopeo": `#!/bin/sh
rock=${3#oci-archive:}
digest=$(tar -xOf "$rock" index.json | grep -o 'sha256:[0-9a-f]*' | head -n 1 | cut -d : -f 2)
tar -xOf "$rock" "blobs/sha256/$digest"
`,
	"kubectl": "#!/bin/sh\necho \"$IMAGE\"\n",
	"node": `#!/bin/sh
case $* in
*execPath*) echo /bin/node ;;
*/hashfiles/*)
	cd "$GITHUB_WORKSPACE" || exit
	echo "__OUTPUT__$(find "${patterns%%/\**}" -type f | sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1)__OUTPUT__"
esac
`,
}

// useStandIns writes the actions and returns the options that make act use
// them.
func useStandIns(t *testing.T) (options []string) {
	t.Helper()
	for repository, actions := range standInActions {
		root := t.TempDir()
		for name, text := range actions {
			dir := filepath.Join(root, name)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			WriteFile(t, filepath.Join(dir, "action.yml"), "name: stand-in\ndescription: stand-in"+text)
		}
		options = append(options, "--local-repository", repository+"="+root)
	}
	for _, label := range []string{"ubuntu-24.04", "ubuntu-24.04-arm"} {
		options = append(options, "--platform", label+"="+runnerImage(t)+":latest")
	}
	return options
}

// runnerImage returns the name of an image in which act can run the steps of a
// job, made once for all tests: busybox, the Docker client that is here, and
// stand-ins for what needs a cluster or a store.
func runnerImage(t *testing.T) string {
	t.Helper()
	Need(t, "docker", "busybox")
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

// writeRunner writes the root file system of an image in which act runs the steps of a job: busybox, the docker
// client and stand-ins for other programs. It is a tar archive.
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
	root := NewRootFS(w)
	err = errors.Join(root.Dir("tmp", 0o1777), root.Dir("root", 0o700), root.Tree("bin/busybox", busybox),
		root.script("bin/bash", bash))
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
		err = errors.Join(err, root.Tree(to, file))
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

// Checkout is a charm's repository, as a runner checks it out.
type Checkout struct {
	dir     string
	Action  string // folder of the action that its workflows use
	options []string
	sandbox *server.Server
}

// ActionFiles returns the files that declare this repository's actions, from its root on.
func ActionFiles(t *testing.T) (files []string) {
	t.Helper()
	paths, err := filepath.Glob(Root + "/*/action.yml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no actions: %v", err)
	}
	for _, path := range append(paths, Root+"/action.yml") {
		files = append(files, strings.TrimPrefix(path, Root+"/"))
	}
	return files
}

var dockerfile = regexp.MustCompile(`image: (\.\./)?Dockerfile\n`)

// NewCheckout makes a repository with a workflow and other files.
func NewCheckout(t *testing.T, sandbox *server.Server, workflow string, files map[string]string) Checkout {
	t.Helper()
	Need(t, "act", "git")
	c := Checkout{dir: t.TempDir(), Action: t.TempDir(), sandbox: sandbox, options: useStandIns(t)}
	for _, file := range ActionFiles(t) {
		declared := dockerfile.ReplaceAllString(ReadFile(t, Root+"/"+file), "image: docker://"+ActionImage(t)+"\n")
		if err := os.MkdirAll(filepath.Dir(filepath.Join(c.Action, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		WriteFile(t, filepath.Join(c.Action, file), declared)
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
		Tool(t, "git", append([]string{"-C", c.dir}, args...)...)
	}
	return c
}

// write writes a file into the checkout and creates the folders above it.
func (c Checkout) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	WriteFile(t, path, content)
}

// Job is the outcome of a workflow's run: its log, and whether it failed.
type Job struct {
	Failed bool
	Log    string
}

// Run lets act run the checkout's workflow for an event, with more options of
// act's. The workflow uses the action as released; where its servers are is said
// by the variables that charmcraft reads. No step may show a secret.
func (c Checkout) Run(t *testing.T, event string, options ...string) Job {
	t.Helper()
	home := t.TempDir()
	env := []string{"HOME=" + home, "XDG_CACHE_HOME=" + home, "PATH=" + os.Getenv("PATH"),
		"DOCKER_HOST=" + os.Getenv("DOCKER_HOST")}
	args := []string{
		event, "--directory", c.dir, "--platform", "ubuntu-latest=" + runnerImage(t) + ":latest", "--pull=false",
		"--no-cache-server",
		"--rm", "--local-repository", "charmhub-actions/upload-resource@v1=" + c.Action,
		"--secret", "CHARMHUB_TOKEN", "--env", "DOCKER_BUILDKIT=0",
	}
	args = append(append(args, c.options...), options...)
	token, servers := c.sandbox.Env()[0], c.sandbox.Env()[1:]
	env = append(env, "CHARMHUB_TOKEN="+strings.TrimPrefix(token, "CHARMCRAFT_AUTH="))
	envFile := filepath.Join(home, "sandbox.env")
	WriteFile(t, envFile, strings.Join(servers, "\n")+"\n")
	args = append(args, "--env-file", envFile)
	command := exec.CommandContext(t.Context(), "act", args...)
	command.Env = env
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	CheckSecrets(t, c.sandbox, Result{Dir: t.TempDir(), Log: out.String()})
	return Job{Failed: err != nil, Log: out.String()}
}

// Succeeded fails the test at once unless all jobs of the workflow did.
func (j Job) Succeeded(t *testing.T) {
	t.Helper()
	if j.Failed {
		t.Fatalf("the workflow failed:\n%s", j.Log)
	}
}

// Logged fails the test unless steps printed each of the texts.
func (j Job) Logged(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(j.Log, text) {
			t.Errorf("the log of the workflow doesn't say %q:\n%s", text, j.Log)
		}
	}
}

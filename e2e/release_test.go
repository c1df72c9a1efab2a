package e2e

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.yaml.in/yaml/v3"
)

type workflow struct {
	Permissions *map[string]string
	Concurrency any
	Jobs        map[string]struct {
		Permissions map[string]string
		Timeout     int `yaml:"timeout-minutes"`
		Steps       []step
	}
}

type step struct {
	ID, Uses, Run string
	With          map[string]any
}

func readWorkflow(t *testing.T, path string) (w workflow) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, path)), &w); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return w
}

var pinned = regexp.MustCompile(`uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+`)

// TestOwnWorkflows: what runs with this repository's permissions is named by
// its content, and has no more of them than it needs.
func TestOwnWorkflows(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(paths) < 2 {
		t.Fatalf("workflows %v: %v", paths, err)
	}
	for _, path := range paths {
		w := readWorkflow(t, path)
		if w.Permissions == nil || w.Concurrency == nil {
			t.Errorf("%s doesn't bound its permissions or its concurrency", path)
		}
		for job, j := range w.Jobs {
			if j.Timeout == 0 {
				t.Errorf("%s: job %s may run forever", path, job)
			}
		}
		for line := range strings.Lines(readFile(t, path)) {
			if strings.Contains(line, "uses:") && !pinned.MatchString(line) {
				t.Errorf("%s: not pinned by a commit with its version: %s", path, strings.TrimSpace(line))
			}
		}
	}
	release := readWorkflow(t, "../.github/workflows/release.yml")
	want := map[string]map[string]string{
		"image": {"contents": "read", "packages": "write", "id-token": "write", "attestations": "write"},
		"tag":   {"contents": "write"},
	}
	for job, j := range release.Jobs {
		if diff := cmp.Diff(want[job], j.Permissions); diff != "" {
			t.Errorf("permissions of job %s (-want +got):\n%s", job, diff)
		}
	}
}

// release runs the scripts of the release workflow here.
type release struct {
	dir  string
	env  []string
	temp string
}

// run runs the script of a step as a runner does, and returns its outputs.
func (r release) run(t *testing.T, job, id string, env ...string) (outputs map[string]string, err error) {
	t.Helper()
	for _, s := range readWorkflow(t, "../.github/workflows/release.yml").Jobs[job].Steps {
		if s.ID != id {
			continue
		}
		if strings.Contains(s.Run, "${{") {
			t.Errorf("the script of step %s has an expression in it, which could become code", id)
		}
		return r.bash(t, s.Run, env)
	}
	t.Fatalf("job %s has no step %s", job, id)
	return nil, nil
}

func (r release) bash(t *testing.T, script string, env []string) (map[string]string, error) {
	t.Helper()
	output := filepath.Join(t.TempDir(), "output")
	writeFile(t, output, "")
	command := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	command.Dir = r.dir
	command.Env = append(os.Environ(), "GITHUB_OUTPUT="+output, "RUNNER_TEMP="+r.temp, "DOCKER_BUILDKIT=0")
	command.Env = append(append(command.Env, r.env...), env...)
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	err := command.Run()
	t.Logf("%s", log.String())
	outputs := map[string]string{}
	for line := range strings.Lines(readFile(t, output)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		outputs[name] = value
	}
	return outputs, err
}

// TestRelease lets act run the whole workflow, on this machine as it is: what it
// builds is pushed to a registry here, pulled from there, tried, and tagged. The
// actions that sign are GitHub's alone; stand-ins say what they were asked for.
func TestRelease(t *testing.T) { // not parallel: builds for two architectures need the whole machine
	compilesAll(t)
	need(t, "docker", "act", "git", "jq")
	base := dockerfileBase(t)
	if !enginePulls(base) {
		if err := loadStandIn(base); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = exec.Command("docker", "rmi", base).Run() })
	}
	host := anonymousRegistry(t)
	image := host + "/someone/upload-resource"
	for _, tag := range []string{":v0.1.0-amd64", ":v0.1.0-arm64"} {
		removeImage(t, image+tag)
	}
	origin, dir := cloneOf(t, "..", host)

	r := actRelease(t, dir, "v0.1.0")
	r.succeeded(t)
	action := run(t, "git", "-C", origin, "show", "v0.1.0:action.yml")
	pushed := regexp.MustCompile(`(?m)^  image: docker://(\S+@sha256:[0-9a-f]{64})$`).FindStringSubmatch(action)
	if pushed == nil || !strings.HasPrefix(pushed[1], image+"@") {
		t.Fatalf("the tag's action.yml doesn't name an image in %s:\n%s", image, action)
	}
	removeImage(t, pushed[1])
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, pushedFor(t, pushed[1])); diff != "" {
		t.Errorf("platforms of the image (-want +got):\n%s", diff)
	}
	if major := run(t, "git", "-C", origin, "show", "v0:action.yml"); major != action {
		t.Errorf("v0 has another action.yml than v0.1.0:\n%s", major)
	}
	r.logged(t, "ok  \tgithub.com/charmhub-actions/upload-resource/e2e", "signed "+pushed[1]+" for .", "signed "+pushed[1]+" for v0.1.0.")

	if r = actRelease(t, dir, "v0.1"); !r.failed {
		t.Error("a version of another form was released")
	}
	r.logged(t, "v0.1 is not of the form vX.Y.Z")
}

// cloneOf makes a repository of a folder's files, as they are now, and a clone
// of it. A release from there goes to the registry at host.
func cloneOf(t *testing.T, folder, host string) (origin, dir string) {
	t.Helper()
	origin, dir = t.TempDir(), t.TempDir()
	run(t, "git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	run(t, "git", "clone", "--quiet", origin, dir)
	files := run(t, "git", "-C", folder, "ls-files", "--cached", "--others", "--exclude-standard")
	for _, name := range strings.Fields(files) {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		text := readFile(t, filepath.Join(folder, name))
		if name == ".github/workflows/release.yml" {
			text = strings.ReplaceAll(text, "ghcr.io", host)
		}
		writeFile(t, to, text)
	}
	git := func(args ...string) { run(t, "git", append([]string{"-C", dir}, args...)...) }
	git("add", "--all")
	git("-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "commit", "--quiet", "--message=all")
	git("push", "--quiet", "origin", "HEAD:main")
	// By this address act knows which repository it is.
	git("remote", "set-url", "origin", "https://github.com/someone/upload-resource")
	git("config", "url."+origin+".pushInsteadOf", "https://github.com/someone/upload-resource")
	return origin, dir
}

// actRelease runs the release workflow of a clone, outside a container.
func actRelease(t *testing.T, dir, version string) job {
	t.Helper()
	home := t.TempDir()
	args := []string{
		"workflow_dispatch", "--directory", dir, "--workflows", ".github/workflows/release.yml", "--input", "version=" + version,
		"--platform", "ubuntu-latest=-self-hosted", "--no-cache-server", "--secret", "GITHUB_TOKEN=none",
		"--env", "DOCKER_BUILDKIT=0", "--env", "GOFLAGS=-buildvcs=false",
	}
	for _, name := range []string{"GOPROXY", "GOCACHE", "GOMODCACHE"} {
		args = append(args, "--env", name+"="+goEnv(name))
	}
	used := regexp.MustCompile(`uses: (actions/(setup-go|attest)@[0-9a-f]{40})`)
	for _, found := range used.FindAllStringSubmatch(readFile(t, "../.github/workflows/release.yml"), -1) {
		folder := t.TempDir()
		writeFile(t, filepath.Join(folder, "action.yml"), releaseStandIns[found[2]])
		args = append(args, "--local-repository", found[1]+"="+folder)
	}
	command := exec.CommandContext(t.Context(), "act", args...)
	command.Env = []string{"HOME=" + home, "XDG_CACHE_HOME=" + home, "PATH=" + os.Getenv("PATH"), "DOCKER_HOST=" + os.Getenv("DOCKER_HOST")}
	out, err := command.CombinedOutput()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	return job{failed: err != nil, log: string(out)}
}

// releaseStandIns are for actions that can't be had here: Go is installed, and
// what would be signed is printed.
var releaseStandIns = map[string]string{
	"setup-go": `name: stand-in
description: does nothing
runs: {using: composite, steps: [{shell: bash, run: go version}]}
`,
	"attest": `name: stand-in
description: tells what it was asked to sign
inputs: {subject-name: {}, subject-digest: {}, sbom-path: {}}
runs:
  using: composite
  steps:
    - shell: bash
      run: echo "signed $NAME@$DIGEST for $([[ -z $SBOM ]] || jq -r .metadata.component.version "$SBOM")."
      env:
        NAME: ${{ inputs.subject-name }}
        DIGEST: ${{ inputs.subject-digest }}
        SBOM: ${{ inputs.sbom-path }}
`,
}

// pushedFor returns the platforms of an index in a registry.
func pushedFor(t *testing.T, reference string) (names []string) {
	t.Helper()
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range manifest.Manifests {
		names = append(names, child.Platform.String())
	}
	return names
}

// TestReleaseSBOM: the list of what is in the image has every linked module at
// its version, and what a reader of such lists looks for.
func TestReleaseSBOM(t *testing.T) {
	t.Parallel()
	need(t, "bash", "jq")
	r := release{dir: "..", temp: t.TempDir(), env: []string{"VERSION=v1.2.3"}}
	if _, err := r.run(t, "image", "sbom"); err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		BOMFormat, SpecVersion, SerialNumber string
		Metadata                             struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(r.temp, "sbom.json"))), &sbom); err != nil {
		t.Fatal(err)
	}
	if sbom.BOMFormat != "CycloneDX" || sbom.SpecVersion == "" || sbom.SerialNumber == "" || sbom.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("the list's head is %+v", sbom)
	}
	listed := map[string]string{}
	for _, c := range sbom.Components {
		listed[c.Name] = c.Version
		if c.PURL != "pkg:golang/"+c.Name+"@"+c.Version || c.Version == "" {
			t.Errorf("component %+v", c)
		}
	}
	built, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range built.Deps {
		if listed[module.Path] != module.Version {
			t.Errorf("%s %s is listed as %q", module.Path, module.Version, listed[module.Path])
		}
	}
	if listed["std"] != built.GoVersion || len(listed) != len(built.Deps)+1 {
		t.Errorf("%d components with Go %q, want %d with %s", len(listed), listed["std"], len(built.Deps)+1, built.GoVersion)
	}
}

func TestReleaseVersion(t *testing.T) {
	t.Parallel()
	need(t, "git", "bash")
	_, r := newRelease(t)
	run(t, "git", "-C", r.dir, "tag", "v1.0.0")
	for version, valid := range map[string]bool{
		"v1.2.3": true, "v1.0.0": false, "1.2.3": false, "v1.2": false, "v1.2.3-rc1": false, "v1.2.3\nx": false, "v1.2.3; true": false, "": false,
	} {
		if _, err := r.run(t, "image", "check", "VERSION="+version); (err == nil) != valid {
			t.Errorf("version %q: got error %v", version, err)
		}
	}
}

// newRelease makes a repository with the action, and a clone to release from.
func newRelease(t *testing.T) (origin string, r release) {
	t.Helper()
	origin, r = t.TempDir(), release{dir: t.TempDir(), temp: t.TempDir(), env: []string{"IMAGE=ghcr.io/x/upload-resource"}}
	run(t, "git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	run(t, "git", "clone", "--quiet", origin, r.dir)
	if err := os.Mkdir(filepath.Join(r.dir, "release"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"action.yml", "release/action.yml"} {
		writeFile(t, filepath.Join(r.dir, file), readFile(t, "../"+file))
	}
	run(t, "git", "-C", r.dir, "add", "--all")
	run(t, "git", "-C", r.dir, "-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "commit", "--quiet", "--message=first")
	run(t, "git", "-C", r.dir, "push", "--quiet", "origin", "HEAD:main")
	return origin, r
}

// TestReleaseTags: the tags name the image by digest, the major one moves, the
// branch stays as it is, and a version is released once.
func TestReleaseTags(t *testing.T) {
	t.Parallel()
	need(t, "git", "bash")
	origin, r := newRelease(t)
	at := func(ref, file string) string {
		for line := range strings.Lines(run(t, "git", "-C", origin, "show", ref+":"+file) + "\n") {
			if image, ok := strings.CutPrefix(line, "  image: "); ok && !strings.Contains(line, ">-") {
				return strings.TrimSpace(image)
			}
		}
		return ""
	}
	release := func(version, hex string) error {
		run(t, "git", "-C", r.dir, "checkout", "--quiet", "--force", "origin/main")
		_, err := r.run(t, "tag", "tag", "VERSION="+version, "DIGEST=sha256:"+strings.Repeat(hex, 64))
		return err
	}
	image := func(hex string) string {
		return "docker://ghcr.io/x/upload-resource@sha256:" + strings.Repeat(hex, 64)
	}
	for _, next := range []struct{ version, hex string }{{"v1.0.0", "a"}, {"v1.1.0", "b"}} {
		if err := release(next.version, next.hex); err != nil {
			t.Fatal(err)
		}
		for ref, want := range map[string]string{next.version: image(next.hex), "v1": image(next.hex), "main": "Dockerfile"} {
			if got := at(ref, "action.yml"); got != want {
				t.Errorf("after %s, the action at %s runs %q, want %q", next.version, ref, got, want)
			}
			if got := strings.TrimPrefix(at(ref, "release/action.yml"), "../"); got != want {
				t.Errorf("after %s, the action release at %s runs %q, want %q", next.version, ref, got, want)
			}
		}
	}
	run(t, "git", "-C", r.dir, "tag", "--delete", "v1.0.0") // as in a fresh clone without tags
	if err := release("v1.0.0", "c"); err == nil || at("v1", "action.yml") != image("b") || at("v1.0.0", "action.yml") != image("a") {
		t.Errorf("released again with error %v: v1.0.0 runs %q, v1 %q", err, at("v1.0.0", "action.yml"), at("v1", "action.yml"))
	}
	if err := release("v2.0.0", "../x"); err == nil {
		t.Error("a digest that is none was taken")
	}
}

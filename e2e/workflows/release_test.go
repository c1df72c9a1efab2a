package workflows

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.yaml.in/yaml/v3"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/internal/releaseimage"
)

// workflow is the part of a GitHub workflow that the tests read.
type workflow struct {
	Permissions *map[string]string
	Concurrency any
	Jobs        map[string]struct {
		Permissions map[string]string
		Timeout     int `yaml:"timeout-minutes"`
		Steps       []step
	}
}

// step is a step of a workflow's job.
type step struct {
	ID, Uses, Run string
	With          map[string]any
}

// readWorkflow reads the workflow in the file at path.
func readWorkflow(t *testing.T, path string) (w workflow) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(harness.ReadFile(t, path)), &w); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return w
}

// pinned is an action by its commit, with the version or the branch that this is
// of, or an action of the workflow's own commit.
var pinned = regexp.MustCompile(`uses: ([\w./-]+@[0-9a-f]{40} # (v\d+\.\d+\.\d+|main, ` +
	`\d{4}-\d\d-\d\d)|\./\.upload-resource/\w+)$`)

// TestOwnWorkflows: what runs with this repository's permissions is named by
// its content, and has no more of them than it needs.
func TestOwnWorkflows(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(harness.Root + "/.github/workflows/*.yml")
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
		for line := range strings.Lines(harness.ReadFile(t, path)) {
			if strings.Contains(line, "uses:") && !pinned.MatchString(strings.TrimSpace(line)) {
				t.Errorf("%s: not pinned by a commit with its version: %s", path, strings.TrimSpace(line))
			}
		}
	}
	release := readWorkflow(t, harness.Root+"/.github/workflows/release.yml")
	want := map[string]map[string]string{
		"image":   {"actions": "read", "contents": "read", "packages": "write", "id-token": "write", "attestations": "write"},
		"tag":     {"contents": "write"},
		"publish": {"contents": "write"},
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

// fails fails the test unless the script of a step fails and prints the texts.
func (r release) fails(t *testing.T, job, id string, texts ...string) {
	t.Helper()
	log, err := r.run(t, job, id)
	if err == nil {
		t.Errorf("step %s succeeded", id)
	}
	for _, text := range append(texts, "::error::") {
		if !strings.Contains(log, text) {
			t.Errorf("step %s doesn't say %q:\n%s", id, text, log)
		}
	}
}

// run runs the script of a step as a runner does, and returns its log.
func (r release) run(t *testing.T, job, id string, env ...string) (log string, err error) {
	t.Helper()
	for _, s := range readWorkflow(t, harness.Root+"/.github/workflows/release.yml").Jobs[job].Steps {
		if s.ID != id {
			continue
		}
		if strings.Contains(s.Run, "${{") {
			t.Errorf("the script of step %s has an expression in it, which could become code", id)
		}
		return r.bash(t, s.Run, env)
	}
	t.Fatalf("job %s has no step %s", job, id)
	return "", nil
}

// bash runs a script with bash as GitHub does, which ends at the first command that fails, and returns its output.
func (r release) bash(t *testing.T, script string, env []string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", script)
	command.Dir = r.dir
	command.Env = append(append(append(os.Environ(), "RUNNER_TEMP="+r.temp), r.env...), env...)
	out, err := command.CombinedOutput()
	t.Logf("%s", out)
	return string(out), err
}

// TestRelease lets act run the whole workflow, on this machine as it is: what it
// builds is pushed to a registry here, pulled from there, tried, and tagged. The
// actions that sign are GitHub's alone, as is gh; stand-ins say what they were
// asked for. The same version, built in another folder and with an empty cache,
// has the same digest.
func TestRelease(t *testing.T) {
	compilesAll(t)
	harness.Need(t, "docker", "act", "crane", "git", "jq", "qemu-aarch64-static")
	registry := startPackages(t)
	image := registry.host + "/someone/upload-resource"
	origin, dir := cloneOf(t, harness.Root, registry.host)

	assets := t.TempDir()
	r := actRelease(t, dir, "v0.1.0", assets)
	r.Succeeded(t)
	action := harness.Tool(t, "git", "-C", origin, "show", "v0.1.0:action.yml")
	pushed := regexp.MustCompile(`(?m)^  image: docker://(\S+@(sha256:[0-9a-f]{64}))$`).FindStringSubmatch(action)
	if pushed == nil || !strings.HasPrefix(pushed[1], image+"@") {
		t.Fatalf("the tag's action.yml doesn't name an image in %s:\n%s", image, action)
	}
	harness.RemoveImage(t, pushed[1])
	harness.Tool(t, "crane", "validate", "--remote", pushed[1])
	programsOf(t, pushed[1])
	if major := harness.Tool(t, "git", "-C", origin, "show", "v0:action.yml"); major != action {
		t.Errorf("v0 has another action.yml than v0.1.0:\n%s", major)
	}
	r.Logged(t, "https://example.com/ci/1 passed", "arm64 starts", "ppc64le starts", "riscv64 starts", "s390x starts",
		"amd64 starts",
		"ok  \tgithub.com/charmhub-actions/upload-resource/e2e", "signed "+pushed[1]+" for .",
		"signed "+pushed[1]+" for v0.1.0.",
		"signed 7 programs", "gh release create v0.1.0 --repo someone/upload-resource --verify-tag")

	_, other := cloneOf(t, harness.Root, registry.host)
	t.Setenv("GOCACHE", t.TempDir())
	programs, err := releaseimage.Compile(t.Context(), other, "v0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	again, err := releaseimage.Index(programs, "v0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := again.Digest(); err != nil || digest.String() != pushed[2] {
		t.Errorf("built again in another folder, the image is %s instead of %s: %v", digest, pushed[2], err)
	}
	checkAssets(t, filepath.Join(assets, "released"), programs)

	if r = actRelease(t, dir, "v0.1", assets); !r.Failed {
		t.Error("a version of another form was released")
	}
	r.Logged(t, "v0.1 is not of the form vX.Y.Z")
}

// checkAssets fails the test unless a release has the programs and their checksums,
// and each program for Linux starts.
func checkAssets(t *testing.T, assets string, programs []releaseimage.Program) {
	t.Helper()
	want := t.TempDir()
	if err := releaseimage.Write(want, programs); err != nil {
		t.Fatal(err)
	}
	harness.Tool(t, "diff", "--recursive", want, assets) // built again, they are the same
	for architecture, emulator := range map[string]string{
		"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "riscv64": "riscv64", "s390x": "s390x",
	} {
		path := filepath.Join(assets, "upload-resource-linux-"+architecture)
		harness.Tool(t, "chmod", "+x", path)
		if said := harness.Tool(t, "qemu-"+emulator+"-static", path, "--help"); !strings.Contains(said, "upload-resource") {
			t.Errorf("the program for %s says %q", architecture, said)
		}
	}
}

// programsOf fails the test unless an index has an image for each platform of a
// release, with a program that is for it.
func programsOf(t *testing.T, reference string) {
	t.Helper()
	want := map[string]elf.Machine{
		"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64, "linux/ppc64le": elf.EM_PPC64,
		"linux/riscv64": elf.EM_RISCV, "linux/s390x": elf.EM_S390,
	}
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
	got := map[string]elf.Machine{}
	for _, child := range manifest.Manifests {
		img, err := index.Image(child.Digest)
		if err != nil {
			t.Fatal(err)
		}
		program, err := elf.NewFile(bytes.NewReader(fileOf(t, img, "upload-resource")))
		if err != nil {
			t.Fatal(err)
		}
		got[child.Platform.String()] = program.Machine
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("programs of the image (-want +got):\n%s", diff)
	}
}

// fileOf returns the content of a file in an image.
func fileOf(t *testing.T, img v1.Image, name string) []byte {
	t.Helper()
	stream := mutate.Extract(img)
	defer func() { _ = stream.Close() }()
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if err != nil {
			t.Fatalf("%s isn't in the image: %v", name, err)
		}
		if header.Name != name {
			continue
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
}

// packages is a registry in which everybody may read, and those who log in may
// write, unless the packages are private.
type packages struct {
	host    string
	private atomic.Bool
}

// startPackages starts a registry that hands out bearer tokens, as GitHub's does.
func startPackages(t *testing.T) *packages {
	t.Helper()
	p := &packages{}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	p.host = strings.TrimPrefix(harness.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			_, _, login := r.BasicAuth()
			switch {
			case login:
				_, _ = io.WriteString(w, `{"token": "write"}`)
			case p.private.Load():
				w.WriteHeader(http.StatusForbidden)
			default:
				_, _ = io.WriteString(w, `{"token": "read"}`)
			}
			return
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if reads := r.Method == http.MethodGet || r.Method == http.MethodHead; token == "write" || token == "read" && reads {
			store.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="`+r.Host+`"`)
		w.WriteHeader(http.StatusUnauthorized)
	})), "http://")
	return p
}

// TestReleaseStart: an image is released if each platform can be pulled without a
// login, and starts.
func TestReleaseStart(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker", "bash", "qemu-aarch64-static")
	module := t.TempDir()
	harness.WriteFile(t, filepath.Join(module, "go.mod"),
		"module example.com/small\n\ngo 1.26.0\n\ntoolchain "+runtime.Version()+"\n")
	for _, test := range []struct {
		program string
		private bool
		want    []string // errors; none if it is released
	}{
		{`println("nothing")`, true, []string{
			"can't be pulled without a login",
			"open https://github.com/someone/upload-resource/pkgs/container/upload-resource, Package settings, Change " +
				"visibility",
		}},
		{`println("nothing")`, false, []string{"the image for arm64 doesn't start"}},
		{`os.Stdout.WriteString("::error title=upload-resource::input charm: missing\n"); os.Exit(1)`, false, nil},
	} {
		harness.WriteFile(t, filepath.Join(module, "main.go"),
			"package main\n\nimport \"os\"\n\nvar _ = os.Exit\n\nfunc main() { "+test.program+" }\n")
		programs, err := releaseimage.Compile(t.Context(), module, "v1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		index, err := releaseimage.Index(programs, "v1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		registry := startPackages(t)
		image := registry.host + "/someone/upload-resource"
		tag, err := name.NewTag(image + ":v1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(tag, index,
			remote.WithAuth(&authn.Basic{Username: "someone", Password: "secret"})); err != nil {
			t.Fatal(err)
		}
		registry.private.Store(test.private)
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		harness.RemoveImage(t, image+"@"+digest.String())
		r := release{dir: harness.Root, temp: t.TempDir(), env: []string{
			"IMAGE=" + image, "DIGEST=" + digest.String(), "GITHUB_SERVER_URL=https://github.com",
			"GITHUB_REPOSITORY=someone/upload-resource",
		}}
		if test.want != nil {
			r.fails(t, "image", "start", test.want...)
			continue
		}
		log, err := r.run(t, "image", "start")
		if err != nil {
			t.Errorf("an image that starts isn't released: %v", err)
		}
		for _, architecture := range []string{"amd64", "arm64", "ppc64le", "riscv64", "s390x"} {
			if !strings.Contains(log, "\n"+architecture+" starts\n") {
				t.Errorf("the image for %s wasn't started", architecture)
			}
		}
	}
}

// TestReleaseNeedsCI: only a commit that CI passed on is released.
func TestReleaseNeedsCI(t *testing.T) {
	t.Parallel()
	harness.Need(t, "bash")
	for passed, ok := range map[string]bool{"https://example.com/ci/1": true, "": false} {
		r := release{dir: t.TempDir(), temp: t.TempDir()}
		r.env = []string{
			"PATH=" + standInGH(t, passed) + ":" + os.Getenv("PATH"), "GITHUB_REPOSITORY=someone/upload-resource",
			"GITHUB_SHA=" + strings.Repeat("a", 40),
		}
		if ok {
			_, err := r.run(t, "image", "passed")
			if err != nil {
				t.Errorf("a commit that CI passed on isn't released: %v", err)
			}
			continue
		}
		r.fails(t, "image", "passed", "ci.yml has not passed on "+strings.Repeat("a", 40))
	}
}

// standInGH returns a folder with a gh that prints what it is asked for, and
// knows one run of ci.yml, or none. With a file of notes, it prints that. It
// attaches files by copying them to $ASSETS/released.
func standInGH(t *testing.T, passed string) string {
	t.Helper()
	dir := t.TempDir()
	harness.WriteFile(t, filepath.Join(dir, "gh"), `#!/bin/sh
case "$1 $2" in
"run list") echo '`+passed+`' ;;
*)
	echo "gh $*" && cat "$RUNNER_TEMP/notes.md" && mkdir -p "$ASSETS/released" || exit
	for file; do
		case $file in
		*/programs/*) cp "$file" "$ASSETS/released" || exit ;;
		esac
	done
	;;
esac
`)
	return dir
}

// TestReleaseNotes: what a release says is the changelog's section on it, with
// links that lead to the version's pages. The programs are attached, if they are
// what their checksums say.
func TestReleaseNotes(t *testing.T) {
	t.Parallel()
	harness.Need(t, "bash", "git")
	r := release{dir: t.TempDir(), temp: t.TempDir()}
	harness.WriteFile(t, filepath.Join(r.dir, "CHANGELOG.md"), `# Changelog

## [1.1.0] - 2027-02-01

- Not this.

## [1.0.0] - 2027-01-01

### Added

- A [page](docs/releases.md#a-new-charm) and a
  [site](https://example.com/a).

## [0.9.0] - 2026-12-01

- Nor this.
`)
	assets := t.TempDir()
	r.env = []string{
		"PATH=" + standInGH(t, "") + ":" + os.Getenv("PATH"), "GITHUB_REPOSITORY=someone/upload-resource",
		"GITHUB_SERVER_URL=https://github.com",
		"ASSETS=" + assets,
	}
	programs := filepath.Join(r.temp, "programs")
	if err := releaseimage.Write(programs,
		[]releaseimage.Program{{OS: "linux", Architecture: "arm64", Content: []byte("whole")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(t, "publish", "publish", "VERSION=v1.0.0"); err != nil {
		t.Fatal(err)
	}
	harness.Tool(t, "diff", "--recursive", programs, filepath.Join(assets, "released"))
	want := `
### Added

- A [page](https://github.com/someone/upload-resource/blob/v1.0.0/docs/releases.md#a-new-charm) and a [site](https://example.com/a).

`
	if diff := cmp.Diff(want, harness.ReadFile(t, filepath.Join(r.temp, "notes.md"))); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	r.env = append(r.env, "VERSION=v2.0.0")
	r.fails(t, "publish", "publish", "CHANGELOG.md has nothing on v2.0.0")
	harness.WriteFile(t, filepath.Join(programs, "upload-resource-linux-arm64"), "broken")
	if log, err := r.run(t, "publish", "publish", "VERSION=v1.0.0"); err == nil || strings.Contains(log, "gh release") {
		t.Errorf("a program that isn't what was signed was released:\n%s", log)
	}
}

// cloneOf makes a repository of a folder's files, as they are now, and a clone
// of it. A release from there goes to the registry at host.
func cloneOf(t *testing.T, folder, host string) (origin, dir string) {
	t.Helper()
	origin, dir = t.TempDir(), t.TempDir()
	harness.Tool(t, "git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	harness.Tool(t, "git", "clone", "--quiet", origin, dir)
	files := harness.Tool(t, "git", "-C", folder, "ls-files", "--cached", "--others", "--exclude-standard")
	for _, name := range strings.Fields(files) {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		text := harness.ReadFile(t, filepath.Join(folder, name))
		switch name {
		case ".github/workflows/release.yml":
			text = strings.ReplaceAll(text, "ghcr.io", host)
		case "CHANGELOG.md":
			text += "\n## [0.1.0] - 2026-01-01\n\n- Everything.\n"
		}
		harness.WriteFile(t, to, text)
	}
	git := func(args ...string) { harness.Tool(t, "git", append([]string{"-C", dir}, args...)...) }
	git("add", "--all")
	git("-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "commit", "--quiet", "--message=all")
	git("push", "--quiet", "origin", "HEAD:main")
	// By this address act knows which repository it is.
	git("remote", "set-url", "origin", "https://github.com/someone/upload-resource")
	git("config", "url."+origin+".pushInsteadOf", "https://github.com/someone/upload-resource")
	return origin, dir
}

// actRelease runs the release workflow of a clone, outside a container. It leaves
// the release's assets in a folder.
func actRelease(t *testing.T, dir, version, assets string) harness.Job {
	t.Helper()
	home := t.TempDir()
	args := []string{
		"workflow_dispatch", "--directory", dir, "--workflows", ".github/workflows/release.yml", "--input",
		"version=" + version,
		"--platform", "ubuntu-latest=-self-hosted", "--no-cache-server", "--secret", "GITHUB_TOKEN=none",
		"--env", "DOCKER_BUILDKIT=0", "--env", "GOFLAGS=-buildvcs=false",
		"--env", "ASSETS=" + assets,
	}
	for _, name := range []string{"GOPROXY", "GOCACHE", "GOMODCACHE", "CGO_ENABLED"} {
		args = append(args, "--env", name+"="+goEnv(name))
	}
	used := regexp.MustCompile(`uses: (actions/(setup-go|attest|upload-artifact|download-artifact)@[0-9a-f]{40})`)
	for _, found := range used.FindAllStringSubmatch(harness.ReadFile(t, harness.Root+"/.github/workflows/release.yml"),
		-1) {
		folder := t.TempDir()
		harness.WriteFile(t, filepath.Join(folder, "action.yml"), releaseStandIns[found[2]])
		args = append(args, "--local-repository", found[1]+"="+folder)
	}
	command := exec.CommandContext(t.Context(), "act", args...)
	command.Env = []string{
		"HOME=" + home, "XDG_CACHE_HOME=" + home, "DOCKER_HOST=" + os.Getenv("DOCKER_HOST"),
		"PATH=" + standInGH(t, "https://example.com/ci/1") + ":" + os.Getenv("PATH"),
	}
	out, err := command.CombinedOutput()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	return harness.Job{Failed: err != nil, Log: string(out)}
}

// releaseStandIns are for actions that can't be had here: Go is installed, what
// would be signed is printed, and an artifact is kept in $ASSETS.
var releaseStandIns = map[string]string{
	"setup-go": `name: stand-in
description: does nothing
runs: {using: composite, steps: [{shell: bash, run: go version}]}
`,
	"attest": `name: stand-in
description: tells what it was asked to sign
inputs: {subject-name: {}, subject-digest: {}, subject-checksums: {}, sbom-path: {}}
runs:
  using: composite
  steps:
    - shell: bash
      run: |
        if [[ $SUMS ]]; then
          echo "signed $(wc -l <"$SUMS") programs"
        else
          echo "signed $NAME@$DIGEST for $([[ -z $SBOM ]] || jq -r .metadata.component.version "$SBOM")."
        fi
      env:
        NAME: ${{ inputs.subject-name }}
        DIGEST: ${{ inputs.subject-digest }}
        SUMS: ${{ inputs.subject-checksums }}
        SBOM: ${{ inputs.sbom-path }}
`,
	"upload-artifact": `name: stand-in
description: keeps a folder
inputs: {name: {}, path: {}, if-no-files-found: {}}
runs: {using: composite, steps: [{shell: bash, run: 'cp -r "${{ inputs.path }}" "$ASSETS/${{ inputs.name }}"'}]}
`,
	"download-artifact": `name: stand-in
description: gets a folder that was kept
inputs: {name: {}, path: {}}
runs: {using: composite, steps: [{shell: bash, run: 'mkdir -p "${{ inputs.path }}" && cp -r "$ASSETS/${{ inputs.name }}/." "${{ inputs.path }}"'}]}
`,
}

// TestReleaseSBOM: the list of what is in the image has every linked module at
// its version, and what a reader of such lists looks for.
func TestReleaseSBOM(t *testing.T) {
	t.Parallel()
	harness.Need(t, "bash", "jq")
	r := release{dir: harness.Root, temp: t.TempDir(), env: []string{"VERSION=v1.2.3"}}
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
	if err := json.Unmarshal([]byte(harness.ReadFile(t, filepath.Join(r.temp, "sbom.json"))), &sbom); err != nil {
		t.Fatal(err)
	}
	if sbom.BOMFormat != "CycloneDX" || sbom.SpecVersion == "" || sbom.SerialNumber == "" ||
		sbom.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("the list's head is %+v", sbom)
	}
	listed := map[string]string{}
	for _, c := range sbom.Components {
		listed[c.Name] = c.Version
		if c.PURL != "pkg:golang/"+c.Name+"@"+c.Version || c.Version == "" {
			t.Errorf("component %+v", c)
		}
	}
	built, err := buildinfo.ReadFile(harness.Program)
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range built.Deps {
		if listed[module.Path] != module.Version {
			t.Errorf("%s %s is listed as %q", module.Path, module.Version, listed[module.Path])
		}
	}
	if listed["std"] != built.GoVersion || len(listed) != len(built.Deps)+2 ||
		listed["golang.org/x/crypto/x509roots/fallback"] == "" {
		t.Errorf("%d components with Go %q, want %d with %s and the CA bundle", len(listed), listed["std"], len(built.Deps)+2,
			built.GoVersion)
	}
}

func TestReleaseVersion(t *testing.T) {
	t.Parallel()
	harness.Need(t, "git", "bash")
	_, r := newRelease(t)
	harness.Tool(t, "git", "-C", r.dir, "tag", "v1.0.0")
	harness.WriteFile(t, filepath.Join(r.dir, "CHANGELOG.md"),
		"## [1.2.3] - 2027-01-01\n\n## [1.0.0] - 2026-12-01\n\n## [1.2.4] - unreleased\n")
	for version, valid := range map[string]bool{
		"v1.2.3": true, "v1.0.0": false, "1.2.3": false, "v1.2": false, "v1.2.3-rc1": false, "v1.2.3\nx": false,
		"v1.2.3; true": false, "": false,
		"v1.2.4": false, "v1.2.5": false, // not in the changelog
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
	harness.Tool(t, "git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	harness.Tool(t, "git", "clone", "--quiet", origin, r.dir)
	for _, file := range harness.ActionFiles(t) {
		if err := os.MkdirAll(filepath.Join(r.dir, filepath.Dir(file)), 0o700); err != nil {
			t.Fatal(err)
		}
		harness.WriteFile(t, filepath.Join(r.dir, file), harness.ReadFile(t, harness.Root+"/"+file))
	}
	harness.Tool(t, "git", "-C", r.dir, "add", "--all")
	harness.Tool(t, "git", "-C", r.dir, "-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "commit", "--quiet",
		"--message=first")
	harness.Tool(t, "git", "-C", r.dir, "push", "--quiet", "origin", "HEAD:main")
	return origin, r
}

// TestReleaseTags: the tags name the image by digest, the major one moves, the
// branch stays as it is, and a version is released once.
func TestReleaseTags(t *testing.T) {
	t.Parallel()
	harness.Need(t, "git", "bash")
	origin, r := newRelease(t)
	at := func(ref, file string) string {
		for line := range strings.Lines(harness.Tool(t, "git", "-C", origin, "show", ref+":"+file) + "\n") {
			if image, ok := strings.CutPrefix(line, "  image: "); ok && !strings.Contains(line, ">-") {
				return strings.TrimSpace(image)
			}
		}
		return ""
	}
	release := func(version, hex string) error {
		harness.Tool(t, "git", "-C", r.dir, "checkout", "--quiet", "--force", "origin/main")
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
			for _, file := range harness.ActionFiles(t) {
				if got := strings.TrimPrefix(at(ref, file), "../"); got != want {
					t.Errorf("after %s, %s at %s runs %q, want %q", next.version, file, ref, got, want)
				}
			}
		}
	}
	if err := release("v1.0.1", "d"); err != nil || at("v1.0.1", "action.yml") != image("d") ||
		at("v1", "action.yml") != image("b") {
		t.Errorf("after v1.0.1 with error %v, the action at v1.0.1 runs %q and v1 %q, want %q still",
			err, at("v1.0.1", "action.yml"), at("v1", "action.yml"), image("b"))
	}
	if err := release("v1.10.0", "e"); err != nil || at("v1", "action.yml") != image("e") {
		t.Errorf("after v1.10.0 with error %v, v1 runs %q", err, at("v1", "action.yml"))
	}
	harness.Tool(t, "git", "-C", r.dir, "tag", "--delete", "v1.0.0") // as in a fresh clone without tags
	if err := release("v1.0.0", "c"); err == nil || at("v1", "action.yml") != image("e") ||
		at("v1.0.0", "action.yml") != image("a") {
		t.Errorf("released again with error %v: v1.0.0 runs %q, v1 %q", err, at("v1.0.0", "action.yml"),
			at("v1", "action.yml"))
	}
	if err := release("v2.0.0", "../x"); err == nil {
		t.Error("a digest that is none was taken")
	}
}

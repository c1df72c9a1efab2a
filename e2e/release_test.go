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
	"sigs.k8s.io/yaml"
)

type workflow struct {
	Permissions *map[string]string
	Concurrency any
	Jobs        map[string]struct {
		Permissions map[string]string
		Timeout     int `json:"timeout-minutes"`
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

// TestReleaseImage builds and pushes as a release does, to a registry of its
// own, and tries what it can pull from there.
func TestReleaseImage(t *testing.T) { // not parallel: builds for two architectures need the whole machine
	need(t, "jq")
	actionImage(t)
	base, err := dockerfileBase()
	if err != nil {
		t.Fatal(err)
	}
	if !enginePulls(base) {
		if err := loadStandIn(base); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = exec.Command("docker", "rmi", base).Run() })
	}
	image := anonymousRegistry(t) + "/upload-resource"
	r := release{dir: "..", temp: t.TempDir(), env: []string{"IMAGE=" + image, "VERSION=v0.0.1", "GOPROXY=" + goEnv("GOPROXY")}}
	for _, arch := range []string{"amd64", "arm64"} {
		removeImage(t, image+":v0.0.1-"+arch)
	}
	outputs, err := r.run(t, "image", "push")
	if err != nil {
		t.Fatal(err)
	}
	pushed := image + "@" + outputs["digest"]
	ref, err := name.ParseReference(pushed)
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
	var got []string
	for _, child := range manifest.Manifests {
		got = append(got, child.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, got); diff != "" {
		t.Errorf("platforms of the image (-want +got):\n%s", diff)
	}
	removeImage(t, pushed)
	if _, err := r.run(t, "image", "smoke", "UPLOAD_RESOURCE_E2E_IMAGE="+pushed); err != nil {
		t.Errorf("the pushed image failed: %v", err)
	}
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
	writeFile(t, filepath.Join(r.dir, "action.yml"), readFile(t, "../action.yml"))
	run(t, "git", "-C", r.dir, "add", "action.yml")
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
	at := func(ref string) string {
		for line := range strings.Lines(run(t, "git", "-C", origin, "show", ref+":action.yml") + "\n") {
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
			if got := at(ref); got != want {
				t.Errorf("after %s, the action at %s runs %q, want %q", next.version, ref, got, want)
			}
		}
	}
	run(t, "git", "-C", r.dir, "tag", "--delete", "v1.0.0") // as in a fresh clone without tags
	if err := release("v1.0.0", "c"); err == nil || at("v1") != image("b") || at("v1.0.0") != image("a") {
		t.Errorf("released again with error %v: v1.0.0 runs %q, v1 %q", err, at("v1.0.0"), at("v1"))
	}
	if err := release("v2.0.0", "../x"); err == nil {
		t.Error("a digest that is none was taken")
	}
}

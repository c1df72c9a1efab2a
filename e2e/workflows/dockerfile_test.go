package workflows

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

// compilesAll skips a test that compiles the action from scratch, which takes
// minutes, unless .ci/release runs it.
func compilesAll(t *testing.T) {
	t.Helper()
	if os.Getenv("UPLOAD_RESOURCE_E2E_RELEASE") == "" {
		t.Skip("UPLOAD_RESOURCE_E2E_RELEASE isn't set: .ci/release runs this test")
	}
}

var fromBase = regexp.MustCompile(`(?m)^FROM (\S+) AS build$`)

// TestDockerfile builds the image that a branch's workflow runs, and uploads with
// it.
func TestDockerfile(t *testing.T) {
	compilesAll(t)
	harness.Need(t, "docker")
	const image, standIn = "upload-resource-e2e-dockerfile", "upload-resource-e2e-go:latest"
	dockerfile := harness.ReadFile(t, harness.Root+"/Dockerfile")
	base := fromBase.FindStringSubmatch(dockerfile)
	if base == nil {
		t.Fatal("the Dockerfile has no line FROM image AS build")
	}
	args := []string{"build", "--force-rm", "--network", "host", "--tag", image}
	if enginePulls(base[1]) {
		args = append(args, "--build-arg", "GOPROXY") // by name: a proxy's address can hold a password
	} else {
		if err := loadStandIn(standIn); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = exec.Command("docker", "rmi", standIn).Run() })
		changed := filepath.Join(t.TempDir(), "Dockerfile")
		harness.WriteFile(t, changed, strings.Replace(dockerfile, base[1], standIn, 1))
		args = append(args, "--file", changed)
	}
	build := exec.CommandContext(t.Context(), "docker", append(args, harness.Root)...)
	build.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "GOPROXY="+goEnv("GOPROXY"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	holdsTheActionAlone(t, image)
	containerUploadsImageOnce(t, image)
}

// enginePulls reports whether the engine has the image, or has it now.
func enginePulls(image string) bool {
	return exec.Command("docker", "image", "inspect", image).Run() == nil ||
		exec.Command("docker", "pull", "--quiet", image).Run() == nil
}

var pinnedBase = regexp.MustCompile(`^\S+:\S+@sha256:[0-9a-f]{64}$`)

// TestDockerfileIsPinned: what a branch is built in is named by its content.
func TestDockerfileIsPinned(t *testing.T) {
	t.Parallel()
	base := fromBase.FindStringSubmatch(harness.ReadFile(t, harness.Root+"/Dockerfile"))
	if base == nil || !pinnedBase.MatchString(base[1]) {
		t.Errorf("the Dockerfile builds in %q, want name:tag@sha256:…", base)
	}
}

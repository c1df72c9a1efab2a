package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// actionImage returns the name of the action's own image, built from the
// Dockerfile once for all tests. The engine keeps it, as it keeps the layers
// that make the next build fast.
func actionImage(t *testing.T) string {
	t.Helper()
	need(t, "docker")
	if image := os.Getenv("UPLOAD_RESOURCE_E2E_IMAGE"); image != "" { // a release tries what it has pushed
		return image
	}
	image, err := buildActionImage()
	if err != nil {
		t.Fatal(err)
	}
	return image
}

var buildActionImage = sync.OnceValues(func() (string, error) {
	const image = "upload-resource-e2e"
	base, err := dockerfileBase()
	if err != nil {
		return "", err
	}
	args := []string{"build", "--force-rm", "--network", "host", "--tag", image}
	if enginePulls(base) {
		args = append(args, "--build-arg", "GOPROXY") // by name: a proxy's address can hold a password
	} else {
		if err := loadStandIn(base); err != nil {
			return "", err
		}
		defer func() { _ = exec.Command("docker", "rmi", base).Run() }()
	}
	build := exec.Command("docker", append(args, "..")...)
	build.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "GOPROXY="+goEnv("GOPROXY"))
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the action's image: %w\n%s", err, out)
	}
	return image, nil
})

var fromBase = regexp.MustCompile(`(?m)^FROM (\S+) AS build$`)

// dockerfileBase returns the image that the Dockerfile builds in.
func dockerfileBase() (string, error) {
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		return "", err
	}
	found := fromBase.FindSubmatch(dockerfile)
	if found == nil {
		return "", errors.New("the Dockerfile has no line FROM image AS build")
	}
	return string(found[1]), nil
}

// enginePulls reports whether the engine has the image, or has it now.
func enginePulls(image string) bool {
	return exec.Command("docker", "image", "inspect", image).Run() == nil ||
		exec.Command("docker", "pull", "--quiet", image).Run() == nil
}

func TestActionImageHoldsNothingElse(t *testing.T) {
	t.Parallel()
	archive := filepath.Join(t.TempDir(), "image.tar")
	run(t, "docker", "save", "--output", archive, actionImage(t))
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := entries(t, mutate.Extract(img))
	want := []string{
		"etc", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "tmp", "upload-resource",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the image holds other files (-want +got):\n%s", diff)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "" {
		t.Errorf("it runs as %s, who can't write GITHUB_OUTPUT", config.Config.User)
	}
	const most = 8_000_000
	size := compressedSize(t, archive)
	if t.Logf("%d bytes compressed", size); size > most {
		t.Errorf("the image has %d bytes compressed, more than %d", size, most)
	}
}

// entries lists a tar stream, sorted.
func entries(t *testing.T, stream io.ReadCloser) (names []string) {
	t.Helper()
	defer func() { _ = stream.Close() }()
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}

func compressedSize(t *testing.T, path string) int {
	t.Helper()
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	_, err := io.WriteString(w, readFile(t, path))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return compressed.Len()
}

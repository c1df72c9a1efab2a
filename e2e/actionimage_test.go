package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/internal/releaseimage"
)

// actionImage returns the name of the action's own image, made once for all tests:
// it holds the program that the other tests run, packed as for a release. Where
// UPLOAD_RESOURCE_E2E_IMAGE names an image, that one is tested.
func actionImage(t *testing.T) string {
	t.Helper()
	need(t, "docker")
	if image := os.Getenv("UPLOAD_RESOURCE_E2E_IMAGE"); image != "" {
		return image
	}
	image, err := loadActionImage()
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// actionImageName is this process's own, since others may test another program
// with the same engine.
var actionImageName = "upload-resource-e2e:" + strings.ToLower(rand.Text())

var loadActionImage = sync.OnceValues(func() (string, error) {
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	img, err := releaseimage.Image(content, runtime.GOARCH, "devel")
	if err != nil {
		return "", err
	}
	if err := loadImage(actionImageName, img); err != nil {
		return "", err
	}
	return actionImageName, nil
})

// loadImage loads an image into the engine, under a name.
func loadImage(reference string, img v1.Image) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	archive, w := io.Pipe()
	defer func() { _ = archive.Close() }()
	go func() { w.CloseWithError(tarball.Write(tag, img, w)) }()
	load := exec.Command("docker", "load", "--quiet")
	load.Stdin = archive
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("loading %s: %w\n%s", reference, err, out)
	}
	return nil
}

func TestActionImage(t *testing.T) {
	t.Parallel()
	holdsTheActionAlone(t, actionImage(t))
}

// holdsTheActionAlone fails the test unless an image of the engine holds the
// program and certificates, and nothing else.
func holdsTheActionAlone(t *testing.T, image string) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	run(t, "docker", "save", "--output", archive, image)
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
		names = append(names, strings.TrimSuffix(header.Name, "/"))
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

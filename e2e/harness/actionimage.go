package harness

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/internal/releaseimage"
)

// ActionImage returns the name of the action's own image, made once for all tests:
// it holds the program that the other tests run, packed as for a release. Where
// UPLOAD_RESOURCE_E2E_IMAGE names an image, that one is tested.
func ActionImage(t *testing.T) string {
	t.Helper()
	Need(t, "docker")
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
	content, err := os.ReadFile(Program)
	if err != nil {
		return "", err
	}
	img, err := releaseimage.Image(content, runtime.GOARCH, "devel")
	if err != nil {
		return "", err
	}
	if err := LoadImage(actionImageName, img); err != nil {
		return "", err
	}
	return actionImageName, nil
})

// removeActionImage removes what ActionImage made.
func removeActionImage() { _ = exec.Command("docker", "rmi", "--force", actionImageName).Run() }

// LoadImage loads an image into the engine, under a name.
func LoadImage(reference string, img v1.Image) error {
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

package workflows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

// loadStandIn gives the engine an image that can build the action without a
// network: this machine's Go, the modules, the CA bundle and a small shell. The
// same content gets the same image ID, so that the engine's build cache knows it
// in the next run.
func loadStandIn(reference string) error {
	img, err := standIn()
	if err != nil {
		return fmt.Errorf("making a stand-in for %s: %w", reference, err)
	}
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	if exec.Command("docker", "tag", id.String(), reference).Run() == nil {
		return nil // an earlier run loaded it, and the build cache has kept it
	}
	return harness.LoadImage(reference, img)
}

// standIn returns an image that can stand in for golang's: this machine's Go, a shell, root certificates and the
// module's dependencies.
func standIn() (v1.Image, error) {
	var content bytes.Buffer
	if err := writeStandIn(&content); err != nil {
		return nil, err
	}
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH,
		Config: v1.Config{
			Env:        []string{"PATH=/usr/local/go/bin:/bin", "GOPATH=/go", "GOTOOLCHAIN=local"},
			WorkingDir: "/go",
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(base, static.NewLayer(content.Bytes(), types.DockerUncompressedLayer))
}

// writeStandIn writes the root file system of the stand-in as a tar archive.
func writeStandIn(w io.Writer) error {
	modules, err := downloadModules()
	defer func() { _ = os.RemoveAll(modules) }()
	if err != nil {
		return err
	}
	root := harness.NewRootFS(w)
	err = errors.Join(
		root.Dir("tmp", 0o1777), root.Dir("root", 0o700),
		root.Tree("bin/sh", harness.Shell),
		root.Tree("etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt"),
		root.Tree("go/pkg/mod/cache/download", filepath.Join(modules, "cache/download")),
	)
	for _, part := range []string{"bin", "lib", "pkg", "src", "VERSION", "go.env"} {
		err = errors.Join(err, root.Tree("usr/local/go/"+part, filepath.Join(goEnv("GOROOT"), part)))
	}
	return errors.Join(err, root.Close())
}

// downloadModules returns a new module cache with what the action is compiled
// from, out of this machine's own cache where it is there. It is the caller's to
// remove.
func downloadModules() (dir string, err error) {
	dir, err = os.MkdirTemp("", "upload-resource-e2e-")
	if err != nil {
		return "", err
	}
	download := exec.Command("go", "list", "-deps", ".")
	download.Dir = harness.Root
	download.Env = append(os.Environ(), "GOMODCACHE="+dir, "GOFLAGS=-modcacherw",
		"GOPROXY=file://"+filepath.ToSlash(goEnv("GOMODCACHE"))+"/cache/download,"+goEnv("GOPROXY"))
	if out, err := download.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%s: %w\n%s", download, err, out)
	}
	return dir, nil
}

// goEnv returns a variable as "go env" prints it. It is empty if the command fails.
func goEnv(name string) string {
	out, _ := exec.Command("go", "env", name).Output()
	return strings.TrimSpace(string(out))
}

package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
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
	return loadImage(reference, img)
}

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

func writeStandIn(w io.Writer) error {
	modules, err := downloadModules()
	defer func() { _ = os.RemoveAll(modules) }()
	if err != nil {
		return err
	}
	root := rootFS{tar.NewWriter(w)}
	err = errors.Join(
		root.dir("tmp", 0o1777), root.dir("root", 0o700),
		root.tree("bin/sh", shell),
		root.tree("etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt"),
		root.tree("go/pkg/mod/cache/download", filepath.Join(modules, "cache/download")),
	)
	for _, part := range []string{"bin", "lib", "pkg", "src", "VERSION", "go.env"} {
		err = errors.Join(err, root.tree("usr/local/go/"+part, filepath.Join(goEnv("GOROOT"), part)))
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
	download.Dir = ".."
	download.Env = append(os.Environ(), "GOMODCACHE="+dir, "GOFLAGS=-modcacherw",
		"GOPROXY=file://"+filepath.ToSlash(goEnv("GOMODCACHE"))+"/cache/download,"+goEnv("GOPROXY"))
	if out, err := download.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%s: %w\n%s", download, err, out)
	}
	return dir, nil
}

func goEnv(name string) string {
	out, _ := exec.Command("go", "env", name).Output()
	return strings.TrimSpace(string(out))
}

// rootFS writes a root file system whose bytes depend on its content alone:
// no times, no owners.
type rootFS struct{ *tar.Writer }

func (r rootFS) dir(to string, mode int64) error {
	return r.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: to + "/", Mode: mode})
}

func (r rootFS) link(to, target string) error {
	return r.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: to, Linkname: target, Mode: 0o777})
}

// tree writes a file, or all of a folder that a build can need.
func (r rootFS) tree(to, from string) error {
	from, err := filepath.EvalSymlinks(from) // distributions like to link parts of Go
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(file string, entry fs.DirEntry, err error) error {
		within, _ := filepath.Rel(from, file)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || to == "usr/local/go/src" && within == "cmd"):
			return fs.SkipDir
		case entry.IsDir() || strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, ".lock"):
			return nil
		}
		return r.file(path.Join(to, filepath.ToSlash(within)), file)
	})
}

func (r rootFS) file(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	mode := 0o644 | int64(info.Mode().Perm()&0o111)
	if err := r.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: mode, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err = r.Write(content)
	return err
}

package harness

import (
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// BuildImage builds an image in the engine and returns its ID. It has a layer
// that no other image has, for tests that run at the same time, on top of
// base: an ID, or scratch.
func BuildImage(t *testing.T, base string) string {
	t.Helper()
	Need(t, "docker")
	dir := t.TempDir()
	dockerfile := "FROM " + base + "\nCOPY unique /" + rand.Text() + "\n"
	if base == "scratch" {
		dockerfile += "COPY sh /bin/sh\nENTRYPOINT [\"/bin/sh\"]\n"
	}
	WriteFile(t, filepath.Join(dir, "Dockerfile"), dockerfile)
	WriteFile(t, filepath.Join(dir, "unique"), rand.Text())
	WriteFile(t, filepath.Join(dir, "sh"), ReadFile(t, Shell))
	iid := filepath.Join(dir, "iid")
	// The cache looks at images that other tests are about to remove.
	Tool(t, "docker", "build", "--no-cache", "--quiet", "--iidfile", iid, dir)
	id := strings.TrimSpace(ReadFile(t, iid))
	RemoveImage(t, id)
	return id
}

// RemoveImage removes an image at the test's end, if it is still there.
func RemoveImage(t *testing.T, id string) {
	t.Helper()
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", id).Run() })
}

// RandomImage makes an image for this machine, of layers with size random bytes each.
func RandomImage(t *testing.T, size, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// WriteImageArchive makes an image of layers with so many random bytes each, and
// returns the file that has it as other tools than Docker save it: with layers
// that are compressed already.
func WriteImageArchive(t *testing.T, size, layers int64) string {
	t.Helper()
	img := RandomImage(t, size, layers)
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(path, name.MustParseReference("saved:image"), img); err != nil {
		t.Fatal(err)
	}
	return path
}

// PlatformImage makes an OCI image that runs on a platform.
func PlatformImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	return RunsOn(t, img, types.OCILayer, platform)
}

// RunsOn adds a random layer to an image, and has its config say the platform.
func RunsOn(t *testing.T, img v1.Image, layerType types.MediaType, platform string) v1.Image {
	t.Helper()
	layer, err := random.Layer(1000, layerType)
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.AppendLayers(img, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	p := ParsePlatform(t, platform)
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant, config.OSVersion = p.OS, p.Architecture, p.Variant, p.OSVersion
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// ParsePlatform reads a platform such as linux/arm/v7.
func ParsePlatform(t *testing.T, text string) *v1.Platform {
	t.Helper()
	p, err := v1.ParsePlatform(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// PlatformIndex makes an index with an image for each of the platforms.
func PlatformIndex(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, platform := range platforms {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: PlatformImage(t, platform), Descriptor: v1.Descriptor{Platform: ParsePlatform(t, platform)},
		})
	}
	return mutate.IndexMediaType(index, types.OCIImageIndex)
}

// WriteLayout writes images and indexes into a new OCI image layout and
// returns its folder.
func WriteLayout(t *testing.T, all ...any) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	for _, one := range all {
		switch one := one.(type) {
		case v1.ImageIndex:
			err = path.AppendIndex(one)
		case v1.Image:
			err = path.AppendImage(one)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// WriteRock writes a layout as rockcraft does, in a tar file.
func WriteRock(t *testing.T, all ...any) string {
	t.Helper()
	return TarDir(t, WriteLayout(t, all...))
}

// TarDir packs a layout into a file, index.json first.
func TarDir(t *testing.T, dir string) string {
	t.Helper()
	rock := filepath.Join(t.TempDir(), "image.rock")
	file, err := os.Create(rock)
	if err != nil {
		t.Fatal(err)
	}
	root := NewRootFS(file)
	err = root.Tree("index.json", filepath.Join(dir, "index.json"))
	for _, part := range []string{"oci-layout", "blobs"} {
		err = errors.Join(err, root.Tree(part, filepath.Join(dir, part)))
	}
	if err := errors.Join(err, root.Close(), file.Close()); err != nil {
		t.Fatal(err)
	}
	return rock
}

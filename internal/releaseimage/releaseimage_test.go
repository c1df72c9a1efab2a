package releaseimage

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64, "riscv64": elf.EM_RISCV, "s390x": elf.EM_S390,
}

// writeProgram writes a module with a small program into a folder and returns the folder.
func writeProgram(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module example.com/small\n\ngo 1.26.0\n\ntoolchain " + runtime.Version() + "\n",
		"main.go": "package main\n\nvar version = \"devel\"\n\nfunc main() { println(\"version\", version) }\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestIndex(t *testing.T) {
	index, err := Index(t.Context(), writeProgram(t), "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Annotations["org.opencontainers.image.version"] != "v1.2.3" || manifest.MediaType != types.OCIImageIndex {
		t.Errorf("the index is %s with annotations %v", manifest.MediaType, manifest.Annotations)
	}
	var platforms []string
	for _, child := range manifest.Manifests {
		platforms = append(platforms, child.Platform.String())
		img, err := index.Image(child.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, img, child.Platform.Architecture)
	}
	want := []string{"linux/amd64", "linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x"}
	if diff := cmp.Diff(want, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// checkImage fails the test unless an image starts a program that is for the
// architecture, and holds nothing else but certificates.
func checkImage(t *testing.T, img v1.Image, architecture string) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != architecture || config.OS != "linux" || config.Config.User != "" || !config.Created.IsZero() ||
		!slices.Equal(config.Config.Entrypoint, []string{"/upload-resource"}) {
		t.Errorf("the config for %s is %+v", architecture, config)
	}
	files := extract(t, img)
	names := slices.Sorted(maps.Keys(files))
	want := []string{"etc", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", "tmp", "upload-resource"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files for %s (-want +got):\n%s", architecture, diff)
	}
	program, err := elf.NewFile(bytes.NewReader(files["upload-resource"]))
	if err != nil {
		t.Fatal(err)
	}
	if program.Machine != machines[architecture] {
		t.Errorf("the program for %s is for %s", architecture, program.Machine)
	}
	if !bytes.Contains(files["upload-resource"], []byte("v1.2.3")) {
		t.Errorf("the program for %s doesn't know its version", architecture)
	}
}

// extract returns the content of an image's files, and nil for each folder.
func extract(t *testing.T, img v1.Image) map[string][]byte {
	t.Helper()
	stream := mutate.Extract(img)
	defer func() { _ = stream.Close() }()
	files := map[string][]byte{}
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeDir {
			content = nil
		}
		files[strings.TrimSuffix(header.Name, "/")] = content
	}
}

// TestIndexIsReproducible: the digest depends on the source and the version, and
// not on the folder or the environment.
func TestIndexIsReproducible(t *testing.T) {
	first := digest(t, writeProgram(t), "v1.2.3")
	for name, value := range map[string]string{
		"GOFLAGS": "-tags=other -ldflags=-X=main.version=v9", "GOAMD64": "v3", "GOARM64": "v9.0", "CGO_ENABLED": "1",
		"GOARCH": "arm", "GOOS": "windows", "TZ": "Asia/Tokyo",
	} {
		t.Setenv(name, value)
	}
	if second := digest(t, writeProgram(t), "v1.2.3"); second != first {
		t.Errorf("the second build is %s, the first %s", second, first)
	}
	if other := digest(t, writeProgram(t), "v1.2.4"); other == first {
		t.Error("another version has the same digest")
	}
}

func digest(t *testing.T, folder, version string) v1.Hash {
	t.Helper()
	index, err := Index(t.Context(), folder, version)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// TestImageSharesItsBase: all platforms and releases share the layer below the
// program.
func TestImageSharesItsBase(t *testing.T) {
	img, err := Image([]byte("program"), "arm64", "v1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers, want 2: %v", len(layers), err)
	}
	other, err := Image([]byte("another program"), "s390x", "v1.0.1")
	if err != nil {
		t.Fatal(err)
	}
	others, err := other.Layers()
	if err != nil {
		t.Fatal(err)
	}
	base, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	if same, err := others[0].Digest(); err != nil || same != base {
		t.Errorf("the layer of certificates is %s and %s: %v", base, same, err)
	}
}

func TestCertificates(t *testing.T) {
	bundle := certificates()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		t.Fatal("the bundle has no certificate")
	}
	count := 0
	for rest := bundle; ; count++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				t.Errorf("the bundle ends in %q", rest)
			}
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Error(err)
		}
	}
	if count < 100 {
		t.Errorf("%d certificates, want Mozilla's", count)
	}
}

func TestIndexExplainsFailures(t *testing.T) {
	broken := writeProgram(t)
	if err := os.WriteFile(filepath.Join(broken, "main.go"), []byte("package main\n\nfunc main() { undefined() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Index(t.Context(), broken, "v1.2.3"); err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("got error %v, want the compiler's", err)
	}
	loose := writeProgram(t)
	if err := os.WriteFile(filepath.Join(loose, "go.mod"), []byte("module example.com/small\n\ngo 1.26.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Index(t.Context(), loose, "v1.2.3"); err == nil || !strings.Contains(err.Error(), "toolchain") {
		t.Errorf("got error %v, want one about the toolchain", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Index(ctx, writeProgram(t), "v1.2.3"); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that it was cancelled", err)
	}
}

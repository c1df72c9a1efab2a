package releaseimage

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64, "riscv64": elf.EM_RISCV,
	"s390x": elf.EM_S390,
}

// indexOf returns the index of programs' images.
func indexOf(t *testing.T, programs []Program, version string) v1.ImageIndex {
	t.Helper()
	index, err := Index(programs, version)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestIndex(t *testing.T) {
	index := indexOf(t, build(t, writeProgram(t), "v1.2.3"), "v1.2.3")
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
	if config.Architecture != architecture || config.OS != "linux" || config.Config.User != "" ||
		!config.Created.IsZero() ||
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

package workflows

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

func TestActionImage(t *testing.T) {
	t.Parallel()
	holdsTheActionAlone(t, harness.ActionImage(t))
}

// holdsTheActionAlone fails the test unless an image of the engine holds the
// program and certificates, and nothing else.
func holdsTheActionAlone(t *testing.T, image string) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	harness.Tool(t, "docker", "save", "--output", archive, image)
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

// compressedSize returns the size in bytes of a file after compression with gzip.
func compressedSize(t *testing.T, path string) int {
	t.Helper()
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	_, err := io.WriteString(w, harness.ReadFile(t, path))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return compressed.Len()
}

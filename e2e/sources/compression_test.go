package sources

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestZstd: an image is packed with zstd, other tools read it, engines pull it,
// one runs it, and it is found again whichever compression is asked for.
func TestZstd(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker", "skopeo", "crane")
	id := harness.BuildImage(t, "scratch")
	sandbox := harness.StartSandbox(t, server.Options{})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id, "compression=zstd")
	first.Succeeded(t)
	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	remote := repository + "@" + first.Outputs["remote-digest"]

	raw := harness.Tool(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", harness.AuthFile(t, login),
		"docker://"+remote)
	for _, want := range []string{"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.oci.image.manifest.v1+json", id} {
		if !strings.Contains(raw, want) {
			t.Errorf("the manifest lacks %s: %s", want, raw)
		}
	}
	harness.Tool(t, "skopeo", "inspect", "--tls-verify=false", "--authfile", harness.AuthFile(t, login),
		"docker://"+remote)
	// it can't read layers but gzip
	harness.Tool(t, "env", "DOCKER_CONFIG="+login, "crane", "validate", "--fast", "--remote", remote)

	t.Run("containerd", func(t *testing.T) {
		t.Parallel()
		engine := harness.StartContainerdStore(t)
		harness.Tool(t, "env", engine, "docker", "--config", login, "pull", "--quiet", remote) // which unpacks it
	})
	t.Run("podman", func(t *testing.T) {
		t.Parallel()
		p := harness.NewPodman(t)
		p.Run(t, "pull", "--quiet", "--tls-verify=false", "--authfile", harness.AuthFile(t, login), remote)
		if out, err := p.Container(t, remote); err != nil {
			t.Errorf("podman can't run it: %v: %s", err, out)
		}
	})
	t.Run("found", func(t *testing.T) {
		for _, compression := range []string{"zstd", "gzip"} {
			harness.Rerun(t, sandbox, first, "digest="+id, "compression="+compression)
		}
	})
}

// TestZstdOfGzipped: an image that the repository has with gzip isn't sent again.
func TestZstdOfGzipped(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker")
	id := harness.BuildImage(t, "scratch")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id)
	first.Succeeded(t)
	harness.Rerun(t, sandbox, first, "digest="+id, "compression=zstd")
}

// compressed returns a copy of a file, compressed by gzip or zstd.
func compressed(t *testing.T, file, format string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(file)+"."+format)
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var w io.WriteCloser = gzip.NewWriter(out)
	if format == "zst" {
		if w, err = zstd.NewWriter(out); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(w, harness.ReadFile(t, file)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []io.Closer{w, out} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

package e2e

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestZstd: an image is packed with zstd, other tools read it, engines pull it,
// one runs it, and it is found again whichever compression is asked for.
func TestZstd(t *testing.T) {
	t.Parallel()
	need(t, "docker", "skopeo", "crane")
	id := buildImage(t, "scratch")
	sandbox := startSandbox(t, server.Options{})
	first := action(t, sandbox, "resource="+imageResource, "digest="+id, "compression=zstd")
	first.succeeded(t)
	login, repository := registryLogin(t, sandbox, imageResource)
	remote := repository + "@" + first.outputs["remote-digest"]

	raw := run(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", authFile(t, login), "docker://"+remote)
	for _, want := range []string{"application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.oci.image.manifest.v1+json", id} {
		if !strings.Contains(raw, want) {
			t.Errorf("the manifest lacks %s: %s", want, raw)
		}
	}
	run(t, "skopeo", "inspect", "--tls-verify=false", "--authfile", authFile(t, login), "docker://"+remote)
	run(t, "env", "DOCKER_CONFIG="+login, "crane", "validate", "--fast", "--remote", remote) // it can't read layers but gzip

	t.Run("containerd", func(t *testing.T) {
		t.Parallel()
		engine := containerdStore(t)
		run(t, "env", engine, "docker", "--config", login, "pull", "--quiet", remote) // which unpacks it
	})
	t.Run("podman", func(t *testing.T) {
		t.Parallel()
		p := newPodman(t)
		p.run(t, "pull", "--quiet", "--tls-verify=false", "--authfile", authFile(t, login), remote)
		if out, err := p.container(t, remote); err != nil {
			t.Errorf("podman can't run it: %v: %s", err, out)
		}
	})
	t.Run("found", func(t *testing.T) {
		for _, compression := range []string{"zstd", "gzip"} {
			rerun(t, sandbox, first, "digest="+id, "compression="+compression)
		}
	})
}

// TestZstdOfGzipped: an image that the repository has with gzip isn't sent again.
func TestZstdOfGzipped(t *testing.T) {
	t.Parallel()
	need(t, "docker")
	id := buildImage(t, "scratch")
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, "resource="+imageResource, "digest="+id)
	first.succeeded(t)
	rerun(t, sandbox, first, "digest="+id, "compression=zstd")
}

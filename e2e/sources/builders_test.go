package sources

import (
	"archive/tar"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// builder makes an image with one tool, and returns what the input image names
// it by.
type builder struct {
	make          func(t *testing.T) string
	architectures []string // the machine's by default
}

var builders = map[string]builder{
	"buildah, OCI archive": {make: func(t *testing.T) string {
		t.Helper()
		return buildahBuild(t, "oci", "oci-archive")
	}},
	"buildah, OCI layout": {make: func(t *testing.T) string { t.Helper(); return buildahBuild(t, "oci", "oci") }},
	"buildah, docker archive": {make: func(t *testing.T) string {
		t.Helper()
		return buildahBuild(t, "docker", "docker-archive")
	}},
	"buildah, zstd": {make: func(t *testing.T) string {
		t.Helper()
		return buildahBuild(t, "oci", "oci", "--compression-format", "zstd")
	}},
	"buildah, manifest list": {
		make: func(t *testing.T) string {
			t.Helper()
			harness.Need(t, "buildah")
			p, dir := harness.NewPodman(t), buildContext(t)
			layout := filepath.Join(t.TempDir(), "layout")
			buildah(t, p, "build", "--quiet", "--manifest", "list", "--platform", "linux/amd64,linux/arm64", dir)
			buildah(t, p, "manifest", "push", "--quiet", "--all", "list", "oci:"+layout)
			return layout
		},
		architectures: []string{"amd64", "arm64"},
	},
	"podman, OCI archive": {make: func(t *testing.T) string {
		t.Helper()
		return podmanBuild(t, "oci", "oci-archive")
	}},
	"podman, docker archive": {make: func(t *testing.T) string {
		t.Helper()
		return podmanBuild(t, "docker", "docker-archive")
	}},
	"umoci": {make: func(t *testing.T) string {
		t.Helper()
		harness.Need(t, "umoci")
		layout := filepath.Join(t.TempDir(), "layout")
		harness.Tool(t, "umoci", "init", "--layout", layout)
		harness.Tool(t, "umoci", "new", "--image", layout+":v1")
		harness.Tool(t, "umoci", "insert", "--rootless", "--image", layout+":v1",
			filepath.Join(buildContext(t), "file"), "/file")
		harness.Tool(t, "umoci", "config", "--image", layout+":v1", "--config.cmd", "/file")
		harness.Tool(t, "umoci", "gc", "--layout", layout)
		return layout
	}},
	"umoci, without a layer": {make: func(t *testing.T) string {
		t.Helper()
		harness.Need(t, "umoci")
		layout := filepath.Join(t.TempDir(), "layout")
		harness.Tool(t, "umoci", "init", "--layout", layout)
		harness.Tool(t, "umoci", "new", "--image", layout+":v1")
		return layout
	}},
	"crane append from nothing": {
		make:          func(t *testing.T) string { t.Helper(); return craneAppend(t) },
		architectures: []string{"all"},
	},
	"crane append from nothing as OCI": {
		make:          func(t *testing.T) string { t.Helper(); return craneAppend(t, "--oci-empty-base") },
		architectures: []string{"all"},
	},
	"crane append from nothing to a registry": {
		make: func(t *testing.T) string {
			t.Helper()
			harness.Need(t, "crane")
			return harness.Tool(t, "crane", "append", "--new_layer", layerFile(t), "--new_tag",
				harness.StartRegistry(t)+"/image:v1")
		},
		architectures: []string{"all"},
	},
}

// TestBuilders: what other tools build is published, and comes back with the
// reported digest.
func TestBuilders(t *testing.T) {
	t.Parallel()
	for name, build := range builders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.Need(t, "skopeo", "crane")
			image := build.make(t)
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
			first.Succeeded(t)
			digest := first.Outputs["remote-digest"]
			harness.IsComplete(t, sandbox, digest)
			copiesWithDigest(t, sandbox, digest)
			if build.architectures == nil {
				build.architectures = []string{runtime.GOARCH}
			}
			harness.RecordedFor(t, sandbox, build.architectures...)
			harness.Rerun(t, sandbox, first, "image="+image)
		})
	}
}

// copiesWithDigest lets skopeo copy an image out of the charm's repository, with
// all its platforms and without changing a byte of a manifest.
func copiesWithDigest(t *testing.T, sandbox *server.Server, digest string) {
	t.Helper()
	harness.Need(t, "skopeo")
	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	harness.Tool(t, "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--src-authfile",
		harness.AuthFile(t, login),
		"docker://"+repository+"@"+digest, "dir:"+t.TempDir())
}

// buildContext is a folder that any builder can build without a base.
func buildContext(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	harness.WriteFile(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\nCOPY file /file\nCMD [\"/file\"]\n")
	harness.WriteFile(t, filepath.Join(dir, "file"), "content")
	return dir
}

// buildah runs buildah with the storage of p, and returns its output.
func buildah(t *testing.T, p harness.Podman, args ...string) string {
	t.Helper()
	return harness.Tool(t, "env", append([]string{p.Variable(), "BUILDAH_ISOLATION=chroot", "buildah"}, args...)...)
}

// buildahBuild builds an image with buildah and pushes it to a new path by the transport, such as "oci". It returns
// the path.
func buildahBuild(t *testing.T, format, transport string, options ...string) string {
	t.Helper()
	harness.Need(t, "buildah")
	p := harness.NewPodman(t)
	id := buildah(t, p, "build", "--quiet", "--format", format, buildContext(t))
	path := filepath.Join(t.TempDir(), "image")
	buildah(t, p, append(append([]string{"push", "--quiet"}, options...), id, transport+":"+path)...)
	return path
}

// podmanBuild builds an image with podman and saves it as an archive of the format saved. It returns the archive's
// path.
func podmanBuild(t *testing.T, format, saved string) string {
	t.Helper()
	p := harness.NewPodman(t)
	p.Run(t, "build", "--quiet", "--isolation", "chroot", "--format", format, "--tag", "built", buildContext(t))
	path := filepath.Join(t.TempDir(), "image.tar")
	p.Run(t, "save", "--quiet", "--format", saved, "--output", path, "built")
	return path
}

// craneAppend makes an image of one layer with crane, and returns the path of its archive.
func craneAppend(t *testing.T, options ...string) string {
	t.Helper()
	harness.Need(t, "crane")
	path := filepath.Join(t.TempDir(), "image.tar")
	harness.Tool(t, "crane",
		append([]string{"append", "--new_layer", layerFile(t), "--new_tag", "made:v1", "--output", path}, options...)...)
	return path
}

// layerFile is a layer as a file.
func layerFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layer.tar")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(file)
	f := harness.Archive{Writer: w, T: t}
	f.Add("file", []byte("content"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEngineImagesWithoutLayersOrPlatform: an image without layers, and one whose config
// has no platform, are packed from the engine like others.
func TestEngineImagesWithoutLayersOrPlatform(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker", "crane")
	for name, test := range map[string]struct {
		make         func(t *testing.T) string
		architecture string
	}{
		"no layers": {func(t *testing.T) string {
			t.Helper()
			dir := t.TempDir()
			harness.WriteFile(t, filepath.Join(dir, "Dockerfile"),
				"FROM scratch\nLABEL test="+filepath.Base(dir)+"\nCMD [\"/file\"]\n")
			id := filepath.Join(dir, "id")
			harness.Tool(t, "docker", "build", "--no-cache", "--quiet", "--iidfile", id, dir)
			harness.RemoveImage(t, strings.TrimSpace(harness.ReadFile(t, id)))
			return strings.TrimSpace(harness.ReadFile(t, id))
		}, runtime.GOARCH},
		"no platform": {func(t *testing.T) string {
			t.Helper()
			loaded := harness.Tool(t, "docker", "load", "--quiet", "--input", craneAppend(t))
			name := strings.TrimPrefix(loaded, "Loaded image: ")
			harness.RemoveImage(t, name)
			return harness.Tool(t, "docker", "inspect", "--format", "{{.Id}}", name)
		}, "all"},
	} {
		t.Run(name, func(t *testing.T) {
			id := test.make(t)
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id)
			first.Succeeded(t)
			first.HasOutputs(t, map[string]string{"source-digest": id, "uploaded": "true"})
			harness.IsComplete(t, sandbox, first.Outputs["remote-digest"])
			harness.RecordedFor(t, sandbox, test.architecture)
			harness.Rerun(t, sandbox, first, "digest="+id)
		})
	}
}

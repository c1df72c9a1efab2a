package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// platformImage makes an OCI image that runs on a platform.
func platformImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	return runsOn(t, img, types.OCILayer, platform)
}

// dockerImage makes one of Docker's media types.
func dockerImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	return runsOn(t, empty.Image, types.DockerLayer, platform)
}

func runsOn(t *testing.T, img v1.Image, layerType types.MediaType, platform string) v1.Image {
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
	p := parsePlatform(t, platform)
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant, config.OSVersion = p.OS, p.Architecture, p.Variant, p.OSVersion
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func parsePlatform(t *testing.T, text string) *v1.Platform {
	t.Helper()
	p, err := v1.ParsePlatform(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// platformIndex makes an index with an image for each of the platforms.
func platformIndex(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, platform := range platforms {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: platformImage(t, platform), Descriptor: v1.Descriptor{Platform: parsePlatform(t, platform)},
		})
	}
	return mutate.IndexMediaType(index, types.OCIImageIndex)
}

// childDigest returns the digest of an index's nth child.
func childDigest(t *testing.T, index v1.ImageIndex, n int) string {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Manifests[n].Digest.String()
}

// anonymousRegistry starts a registry that asks nobody who they are, and
// returns its host.
func anonymousRegistry(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(serveHTTP(t, registry.New(registry.Logger(log.New(io.Discard, "", 0)))), "http://")
}

func serveHTTP(t *testing.T, handler http.Handler) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// push puts an image or index under the tag latest of a repository, with all
// that is in it, and returns its digest.
func push(t *testing.T, repository string, what remote.Taggable) string {
	t.Helper()
	ref, err := name.ParseReference(repository + ":latest")
	if err != nil {
		t.Fatal(err)
	}
	switch what := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what)
	case v1.Image:
		err = remote.Write(ref, what)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := what.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(raw)
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// writeLayout writes images and indexes into a new OCI image layout and
// returns its folder.
func writeLayout(t *testing.T, all ...any) string {
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

// writeRock writes a layout as rockcraft does, in a tar file.
func writeRock(t *testing.T, all ...any) string {
	t.Helper()
	return tarOf(t, writeLayout(t, all...))
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
	if _, err := io.WriteString(w, readFile(t, file)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []io.Closer{w, out} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// raw returns the manifest of an image wherever it is, as skopeo reads it.
func raw(t *testing.T, login, image string) string {
	t.Helper()
	need(t, "skopeo")
	args := []string{"inspect", "--raw"}
	if strings.HasPrefix(image, "docker://") {
		args = append(args, "--tls-verify=false", "--authfile", authFile(t, login))
	}
	return output(t, "skopeo", append(args, image)...)
}

// authFile is the config.json in a folder, or one that holds nothing.
func authFile(t *testing.T, login string) string {
	t.Helper()
	if login == "" {
		login = t.TempDir()
		writeFile(t, filepath.Join(login, "config.json"), "{}")
	}
	return filepath.Join(login, "config.json")
}

// remoteRaw returns what the charm's repository has under a digest.
func remoteRaw(t *testing.T, sandbox *server.Server, digest string) string {
	t.Helper()
	login, repository := registryLogin(t, sandbox, imageResource)
	return raw(t, login, "docker://"+repository+"@"+digest)
}

// isComplete lets crane pull an image with all its platforms out of the charm's
// repository, and verify every manifest and blob of it on the way.
func isComplete(t *testing.T, sandbox *server.Server, digest string) {
	t.Helper()
	need(t, "crane")
	login, repository := registryLogin(t, sandbox, imageResource)
	run(t, "env", "DOCKER_CONFIG="+login, "crane", "pull", "--format", "oci", repository+"@"+digest, t.TempDir())
}

// recordedFor fails the test unless the newest revision is for these
// architectures.
func recordedFor(t *testing.T, sandbox *server.Server, architectures ...string) {
	t.Helper()
	made := sandbox.Revisions(charm, imageResource)
	if len(made) == 0 {
		t.Fatal("there is no revision")
	}
	if diff := cmp.Diff(architectures, made[len(made)-1].Architectures()); diff != "" {
		t.Errorf("architectures of the revision (-want +got):\n%s", diff)
	}
}

// sentNoManifest fails the test if the registry was given a manifest.
func sentNoManifest(t *testing.T, sandbox *server.Server) {
	t.Helper()
	for _, r := range sandbox.Requests() {
		if r.Server == "registry" && r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/") {
			t.Errorf("a manifest was sent: %s", r)
		}
	}
}

// platforms returns what is in an index that the charm's repository has, one
// `digest platform` each.
func platforms(t *testing.T, manifest string) (all []string) {
	t.Helper()
	var index v1.IndexManifest
	if err := json.Unmarshal([]byte(manifest), &index); err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		if d.MediaType.IsIndex() {
			t.Errorf("%s is an index in an index", d.Digest)
		}
		all = append(all, fmt.Sprintf("%s %s", d.Digest, d.Platform))
	}
	return slices.Clip(all)
}

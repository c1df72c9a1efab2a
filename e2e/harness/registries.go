package harness

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// PushToResource puts an image into a resource's repository as other tools do:
// under the tag latest.
func PushToResource(t *testing.T, sandbox *server.Server, what remote.Taggable) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(Charm, ImageResource)
	ref, err := name.ParseReference(repository+":latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	auth := remote.WithAuth(&authn.Basic{Username: username, Password: password})
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(ref, what, auth)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what, auth)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ForgeRecord writes a locations record of source as imgpkg does.
func ForgeRecord(t *testing.T, sandbox *server.Server, source string, images ...string) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(Charm, ImageResource)
	content := "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImageLocations\nimages:\n"
	for _, image := range images {
		content += "- image: " + repository + "@" + image + "\n  isBundle: false\n"
	}
	record, err := mutate.AppendLayers(empty.Image,
		static.NewLayer(Gzip(t, TarLayer(t, "image-locations.yml", content)), types.DockerLayer))
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(repository+":"+strings.Replace(source, ":", "-", 1)+".image-locations.imgpkg",
		name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, record,
		remote.WithAuth(&authn.Basic{Username: username, Password: password})); err != nil {
		t.Fatal(err)
	}
}

// LayersMatchDiffIDs fails the test unless every layer of an image in the charm's
// repository has the diff ID that its config says.
func LayersMatchDiffIDs(t *testing.T, sandbox *server.Server, digest string) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(Charm, ImageResource)
	ref, err := name.NewDigest(repository+"@"+digest, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithAuth(&authn.Basic{Username: username, Password: password}))
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		t.Errorf("%s in the charm's repository: %v", digest, err)
	}
}

// IsValid lets others judge what is in the charm's repository.
func IsValid(t *testing.T, sandbox *server.Server, id, digest string) {
	t.Helper()
	Need(t, "skopeo", "crane")
	login, repository := RegistryLogin(t, sandbox, ImageResource)
	remote := repository + "@" + digest

	raw := Tool(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", filepath.Join(login, "config.json"),
		"docker://"+remote)
	var manifest struct{ Config struct{ Digest string } }
	if err := json.Unmarshal([]byte(raw), &manifest); err != nil || manifest.Config.Digest != id && digest != id {
		t.Errorf("manifest %s of image %s: %v", raw, id, err)
	}
	config := ToolOutput(t, "skopeo", "inspect", "--raw", "--config", "--tls-verify=false", "--authfile",
		filepath.Join(login, "config.json"), "docker://"+remote)
	if sum := sha256.Sum256([]byte(config)); "sha256:"+hex.EncodeToString(sum[:]) != manifest.Config.Digest {
		t.Errorf("config %s is not of digest %s", config, manifest.Config.Digest)
	}
	// crane checks every layer against its digest, its diff ID and its size.
	Tool(t, "env", "DOCKER_CONFIG="+login, "crane", "validate", "--remote", remote)

	Tool(t, "docker", "rmi", "--force", id) // or the engine would look no further than the ID
	Tool(t, "docker", "--config", login, "pull", "--quiet", remote)
	if pulled := Tool(t, "docker", "inspect", "--format", "{{.Id}}", remote); pulled != id {
		t.Errorf("pulled image %s, want %s", pulled, id)
	}
}

// RegistryLogin returns a folder with a config.json, as docker, crane and
// skopeo read it, that opens the repository of a resource; and that
// repository's name.
func RegistryLogin(t *testing.T, sandbox *server.Server, resource string) (dir, repository string) {
	t.Helper()
	return RegistryLoginTo(t, sandbox, Charm, resource)
}

// RegistryLoginTo is RegistryLogin for any charm.
func RegistryLoginTo(t *testing.T, sandbox *server.Server, charm, resource string) (dir, repository string) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(charm, resource)
	host, _, _ := strings.Cut(repository, "/")
	auth := base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	dir = t.TempDir()
	WriteFile(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, auth))
	return dir, repository
}

// StartRegistry starts a registry that asks nobody who they are, and
// returns its host.
func StartRegistry(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(Serve(t, registry.New(registry.Logger(log.New(io.Discard, "", 0)))), "http://")
}

// Serve serves HTTP on loopback until the test ends, and returns the URL.
func Serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s.URL
}

// Push puts an image or index under the tag latest of a repository, with all
// that is in it, and returns its digest.
func Push(t *testing.T, repository string, what remote.Taggable) string {
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
	return DigestOf(raw)
}

// RawManifest returns the manifest of an image wherever it is, as skopeo reads it.
func RawManifest(t *testing.T, login, image string) string {
	t.Helper()
	Need(t, "skopeo")
	args := []string{"inspect", "--raw"}
	if strings.HasPrefix(image, "docker://") {
		args = append(args, "--tls-verify=false", "--authfile", AuthFile(t, login))
	}
	return ToolOutput(t, "skopeo", append(args, image)...)
}

// AuthFile is the config.json in a folder, or one that holds nothing.
func AuthFile(t *testing.T, login string) string {
	t.Helper()
	if login == "" {
		login = t.TempDir()
		WriteFile(t, filepath.Join(login, "config.json"), "{}")
	}
	return filepath.Join(login, "config.json")
}

// RemoteManifest returns what the charm's repository has under a digest.
func RemoteManifest(t *testing.T, sandbox *server.Server, digest string) string {
	t.Helper()
	login, repository := RegistryLogin(t, sandbox, ImageResource)
	return RawManifest(t, login, "docker://"+repository+"@"+digest)
}

// IsComplete lets crane pull an image with all its platforms out of the charm's
// repository, and verify every manifest and blob of it on the way.
func IsComplete(t *testing.T, sandbox *server.Server, digest string) {
	t.Helper()
	Need(t, "crane")
	login, repository := RegistryLogin(t, sandbox, ImageResource)
	Tool(t, "env", "DOCKER_CONFIG="+login, "crane", "pull", "--format", "oci", repository+"@"+digest, t.TempDir())
}

// RecordedFor fails the test unless the newest revision is for these
// architectures.
func RecordedFor(t *testing.T, sandbox *server.Server, architectures ...string) {
	t.Helper()
	made := sandbox.Revisions(Charm, ImageResource)
	if len(made) == 0 {
		t.Fatal("there is no revision")
	}
	if diff := cmp.Diff(architectures, made[len(made)-1].Architectures()); diff != "" {
		t.Errorf("architectures of the revision (-want +got):\n%s", diff)
	}
}

// HostOf returns the host and port of an http URL without a path.
func HostOf(url string) string { return strings.TrimPrefix(url, "http://") }

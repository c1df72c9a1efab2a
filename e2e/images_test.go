package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// buildImage builds an image in the engine and returns its ID. It has a layer
// that no other image has, for tests that run at the same time, on top of
// base: an ID, or scratch.
func buildImage(t *testing.T, base string) string {
	t.Helper()
	need(t, "docker")
	dir := t.TempDir()
	dockerfile := "FROM " + base + "\nCOPY unique /" + rand.Text() + "\n"
	if base == "scratch" {
		dockerfile += "COPY sh /bin/sh\nENTRYPOINT [\"/bin/sh\"]\n"
	}
	writeFile(t, filepath.Join(dir, "Dockerfile"), dockerfile)
	writeFile(t, filepath.Join(dir, "unique"), rand.Text())
	writeFile(t, filepath.Join(dir, "sh"), readFile(t, shell))
	iid := filepath.Join(dir, "iid")
	// The cache looks at images that other tests are about to remove.
	run(t, "docker", "build", "--no-cache", "--quiet", "--iidfile", iid, dir)
	id := strings.TrimSpace(readFile(t, iid))
	removeImage(t, id)
	return id
}

// removeImage removes an image at the test's end, if it is still there.
func removeImage(t *testing.T, id string) {
	t.Helper()
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", id).Run() })
}

// writeArchive makes an image of layers with so many random bytes each, and
// returns the file that has it as other tools than Docker save it: with layers
// that are compressed already.
func writeArchive(t *testing.T, size, layers int64) string {
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
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(path, name.MustParseReference("saved:image"), img); err != nil {
		t.Fatal(err)
	}
	return path
}

// registryLogin returns a folder with a config.json, as docker, crane and
// skopeo read it, that opens the repository of a resource; and that
// repository's name.
func registryLogin(t *testing.T, sandbox *server.Server, resource string) (dir, repository string) {
	t.Helper()
	return loginTo(t, sandbox, charm, resource)
}

// loginTo is registryLogin for any charm.
func loginTo(t *testing.T, sandbox *server.Server, charm, resource string) (dir, repository string) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(charm, resource)
	host, _, _ := strings.Cut(repository, "/")
	auth := base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	dir = t.TempDir()
	writeFile(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, auth))
	return dir, repository
}

// fakeEngine serves what is asked of a container engine to find an image, and
// returns its DOCKER_HOST. It has images of these IDs, in no more than name.
func fakeEngine(t *testing.T, ids ...string) string {
	t.Helper()
	images := make([]map[string]any, len(ids))
	for i, id := range ids {
		images[i] = map[string]any{"Id": id, "RepoTags": nil, "RepoDigests": nil}
	}
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/images/json"):
			_ = json.NewEncoder(w).Encode(images)
		default:
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "No such image"})
		}
	}))
	t.Cleanup(engine.Close)
	return "DOCKER_HOST=tcp://" + engine.Listener.Addr().String()
}

// noEngine is a DOCKER_HOST where nobody answers.
func noEngine(t *testing.T) string {
	t.Helper()
	return "DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "no.sock")
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
}

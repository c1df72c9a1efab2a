package sources

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// engineWith is a DOCKER_HOST where an engine has one image, under a name.
func engineWith(t *testing.T, name, id string) string {
	t.Helper()
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/images/json"):
			_, _ = w.Write([]byte("[]"))
		case strings.HasSuffix(r.URL.Path, "/images/"+name+"/json"):
			_ = json.NewEncoder(w).Encode(map[string]any{"Id": id, "RepoTags": []string{name}})
		default:
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": "No such image"})
		}
	}))
	t.Cleanup(engine.Close)
	return "DOCKER_HOST=tcp://" + engine.Listener.Addr().String()
}

// TestMistakenImages: the advice fits the mistake.
func TestMistakenImages(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	rock, err := os.ReadFile(harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64")))
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(workspace, "cup.rock"), string(rock))
	const hasIt = "the container engine has an image of that name: give its ID, " + harness.OtherID +
		", as the input digest"
	for name, test := range map[string]struct {
		input  string
		want   string
		before bool // anything is asked of Charmhub
	}{
		"local name":                {"image=my-image:tag", hasIt, true},
		"local name for the digest": {"digest=my-image:tag", hasIt, true},
		"pattern": {"image=*.rock",
			"cannot find *.rock: the workspace has no such file; patterns aren't expanded; there are: cup.rock", false},
		"pattern of a file": {"filepath=*.rock",
			"cannot find *.rock: the workspace has no such file; patterns aren't expanded; there are: cup.rock", false},
		"missing": {"image=mug.rock", "check the path, and that an earlier step of this job wrote the file; " +
			"there are: cup.rock", false},
		"63 digits":              {"digest=" + harness.SomeDigest[:70], "has 63 of 64 digits", true},
		"63 digits in an image":  {"image=" + harness.SomeDigest[:70], "has 63 of 64 digits", true},
		"63 digits after a name": {"image=ghcr.io/a@" + harness.SomeDigest[:70], "has 63 of 64 digits", true},
		"a letter":               {"digest=" + harness.SomeDigest[:70] + "g", "has a 'g' in it", true},
		"16 digits":              {"digest=" + harness.SomeDigest[:23], "has 16 of 64 digits", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			resource := harness.ImageResource
			if strings.HasPrefix(test.input, "filepath") {
				resource = harness.FileResource
			}
			r := harness.Upload(t, sandbox, "resource="+resource, test.input, "GITHUB_WORKSPACE="+workspace,
				engineWith(t, "my-image:tag", harness.OtherID))
			r.Failed(t, sandbox, test.want)
			for _, wrong := range []string{"runner.temp", "docker.io", "Docker Hub"} {
				if strings.Contains(harness.ErrorText(r), wrong) {
					t.Errorf("the error speaks of %s:\n%s", wrong, harness.ErrorText(r))
				}
			}
			if asked := sandbox.Requests(); test.before && len(asked) > 0 {
				t.Errorf("requests for inputs that are wrong: %v", asked)
			}
		})
	}
}

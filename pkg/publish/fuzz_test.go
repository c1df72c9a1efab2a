package publish

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// FuzzInputs: whatever a workflow hands in, inputs that pass are safe to put into a URL, and complaints don't show the
// token.
func FuzzInputs(f *testing.F) {
	f.Add("my-charm", "my-image", "sha256:"+strings.Repeat("0", 64), "", "", "linux/arm64", "", "https://store.test")
	f.Add("3a-b", "a.b_c-d", "", "one@sha256:0\r\n\n two", "", "", "all", "http://127.0.0.1:1/")
	f.Add("a", "b", "", "", "a/file", "", "arm64, amd64", "http://store.test")
	f.Add("..", "a/b", "name:tag", "", "x", "linux", "x86_64", "https://user:password@store.test/?q#f")
	f.Fuzz(func(t *testing.T, charm, resource, digest, image, file, platform, architectures, url string) {
		r, out := newRunner(env{
			"INPUT_STORE-TOKEN": aToken,
			"INPUT_CHARM":       charm, "INPUT_RESOURCE": resource, "INPUT_DIGEST": digest, "INPUT_IMAGE": image,
			"INPUT_FILEPATH": file,
			"INPUT_PLATFORM": platform, "INPUT_ARCHITECTURES": architectures, "INPUT_STORE-URL": url, "INPUT_REGISTRY-URL": url,
		})
		in, err := read(t, r)
		if err != nil {
			if r.Fail(err); strings.Contains(out.String(), aToken) {
				t.Errorf("the complaint shows the token: %q", out)
			}
			return
		}
		for _, name := range []string{in.Charm, in.Resource} {
			if strings.ContainsAny(name, "/?#%\\ \t\r\n") || name == "." || name == ".." {
				t.Errorf("the name %q passes", name)
			}
		}
		if store := in.Endpoints.Store; store.User != nil || store.Scheme != "https" &&
			!transport.IsLoopback(store.Hostname()) {
			t.Errorf("the address %s passes", store)
		}
	})
}

package action

import (
	"strings"
	"testing"
)

// FuzzInputs: whatever a workflow hands in, inputs that pass are safe to put
// into a URL, and complaints don't show the token or act on the runner.
func FuzzInputs(f *testing.F) {
	const token = "a token that nobody sees"
	f.Add("my-charm", "my-image", "sha256:"+strings.Repeat("0", 64), "", "", "linux/arm64", "", "https://store.test")
	f.Add("3a-b", "a.b_c-d", "", "one@sha256:0\r\n\n two", "", "", "all", "http://127.0.0.1:1/")
	f.Add("a", "b", "", "", "a/file", "", "arm64, amd64", "http://store.test")
	f.Add("..", "a/b", "name:tag", "", "x", "linux", "x86_64", "https://user:password@store.test/?q#f")
	f.Fuzz(func(t *testing.T, charm, resource, digest, image, file, platform, architectures, url string) {
		r, out := newRunner(t, env{
			"GITHUB_ACTIONS": "true", "INPUT_STORE-TOKEN": token,
			"INPUT_CHARM": charm, "INPUT_RESOURCE": resource, "INPUT_DIGEST": digest, "INPUT_IMAGE": image, "INPUT_FILEPATH": file,
			"INPUT_PLATFORM": platform, "INPUT_ARCHITECTURES": architectures, "INPUT_STORE-URL": url, "INPUT_REGISTRY-URL": url,
		})
		in, err := r.Inputs()
		out.Reset() // the mask's own line
		if err != nil {
			r.Fail(err)
			if lines := asRead(out.String()); len(lines) != 1 || commandIn(lines[0]) != "error" || strings.Contains(lines[0], token) {
				t.Errorf("the complaint became %q", lines)
			}
			return
		}
		for _, name := range []string{in.Charm, in.Resource} {
			if strings.ContainsAny(name, "/?#%\\ \t\r\n") || name == "." || name == ".." {
				t.Errorf("the name %q passes", name)
			}
		}
		if store := in.Endpoints.Store; store.User != nil || store.Scheme != "https" && !isLoopback(store.Hostname()) {
			t.Errorf("the address %s passes", store)
		}
	})
}

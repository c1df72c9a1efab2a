package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestSourceLogin: the credentials for where an image comes from are inputs, or
// what docker login left.
func TestSourceLogin(t *testing.T) {
	t.Parallel()
	other := startSandbox(t, server.Options{InMemory: true})
	uploaded := action(t, other, "resource="+imageResource, "image="+writeRock(t, platformImage(t, "linux/amd64")))
	uploaded.succeeded(t)
	image := "image=" + uploaded.outputs["remote-image"]
	login, _ := registryLogin(t, other, imageResource)
	_, username, password := other.RegistryAuth(charm, imageResource)
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(home, ".docker", "config.json"), readFile(t, authFile(t, login)))
	given := []string{"source-username=" + username, "source-password=" + password}
	for name, inputs := range map[string][]string{
		"inputs":                    given,
		"inputs before docker's":    append([]string{"DOCKER_CONFIG=" + filepath.Dir(authFile(t, ""))}, given...),
		"DOCKER_CONFIG":             {"DOCKER_CONFIG=" + login},
		"config below HOME":         {"HOME=" + home},
		"inputs and a foreign HOME": append([]string{"HOME=" + t.TempDir()}, given...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, append(inputs, image, "resource="+imageResource)...)
			r.succeeded(t)
			r.has(t, map[string]string{"remote-digest": uploaded.outputs["remote-digest"], "uploaded": "true"})
			checkSecrets(t, other, r)
			if strings.HasPrefix(name, "inputs") && !strings.Contains(r.log, maskCommand+password+"\n") {
				t.Error("the runner was not asked to hide the source's password")
			}
		})
	}
	for name, test := range map[string]struct{ inputs, want []string }{
		"no credentials":    {nil, []string{"give source-username and source-password", uploaded.outputs["remote-image"]}},
		"wrong credentials": {[]string{"source-username=somebody", "source-password=wrong-password"}, []string{"check that the credentials"}},
		"password alone":    {[]string{"source-password=" + password}, []string{"without source-username", "give both"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, append(test.inputs, image, "resource="+imageResource, noEngine(t))...)
			r.failed(t, sandbox, test.want...)
			checkSecrets(t, other, r)
		})
	}
}

package sources

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestSourceLogin: the credentials for where an image comes from are inputs, or
// what docker login left.
func TestSourceLogin(t *testing.T) {
	t.Parallel()
	other := harness.StartSandbox(t, server.Options{InMemory: true})
	uploaded := harness.Upload(t, other, "resource="+harness.ImageResource,
		"image="+harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64")))
	uploaded.Succeeded(t)
	image := "image=" + uploaded.Outputs["remote-image"]
	login, _ := harness.RegistryLogin(t, other, harness.ImageResource)
	_, username, password := other.RegistryAuth(harness.Charm, harness.ImageResource)
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(home, ".docker", "config.json"), harness.ReadFile(t, harness.AuthFile(t, login)))
	given := []string{"source-username=" + username, "source-password=" + password}
	for name, inputs := range map[string][]string{
		"inputs":                    given,
		"inputs before docker's":    append([]string{"DOCKER_CONFIG=" + filepath.Dir(harness.AuthFile(t, ""))}, given...),
		"DOCKER_CONFIG":             {"DOCKER_CONFIG=" + login},
		"config below HOME":         {"HOME=" + home},
		"inputs and a foreign HOME": append([]string{"HOME=" + t.TempDir()}, given...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, append(inputs, image, "resource="+harness.ImageResource)...)
			r.Succeeded(t)
			r.HasOutputs(t, map[string]string{"remote-digest": uploaded.Outputs["remote-digest"], "uploaded": "true"})
			harness.CheckSecrets(t, other, r)
			if strings.HasPrefix(name, "inputs") && !strings.Contains(r.Log, harness.MaskCommand+password+"\n") {
				t.Error("the runner was not asked to hide the source's password")
			}
		})
	}
	for name, test := range map[string]struct{ inputs, want []string }{
		"no credentials": {nil, []string{"give source-username and source-password", uploaded.Outputs["remote-image"]}},
		"wrong credentials": {[]string{"source-username=somebody", "source-password=wrong-password"},
			[]string{"check that the credentials"}},
		"password alone": {[]string{"source-password=" + password}, []string{"without source-username", "give both"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, append(test.inputs, image, "resource="+harness.ImageResource,
				harness.NoEngine(t))...)
			r.Failed(t, sandbox, test.want...)
			harness.CheckSecrets(t, other, r)
		})
	}
}

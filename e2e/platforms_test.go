package e2e

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestPlatformSelectsOne: of an image for several platforms, the input
// platform takes one, wherever the image is.
func TestPlatformSelectsOne(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testPlatformSelectsOne)
}

func testPlatformSelectsOne(t *testing.T, options server.Options) {
	t.Helper()
	index := platformIndex(t, "linux/amd64", "linux/arm/v7", "windows/amd64:10.0.14393", "linux/arm64")
	repository := anonymousRegistry(t) + "/index"
	image := "image=" + repository + "@" + push(t, repository, index)
	rock := "image=" + writeRock(t, index)
	tests := map[string]struct {
		image, platform, architecture string
		child                         int
	}{
		"registry":     {image, "linux/amd64", "amd64", 0},
		"rock":         {rock, "linux/amd64", "amd64", 0},
		"variant":      {rock, "linux/arm/v7", "armhf", 1},
		"architecture": {image, "linux/arm", "armhf", 1},
		"all variants": {rock, "linux/arm64/v8", "arm64", 3},
		"other name":   {rock, "linux/x86_64", "amd64", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, options)
			inputs := []string{test.image, "platform=" + test.platform}
			first := action(t, sandbox, append(inputs, "resource="+imageResource)...)
			first.succeeded(t)
			first.has(t, map[string]string{"remote-digest": childDigest(t, index, test.child), "uploaded": "true"})
			recordedFor(t, sandbox, test.architecture)
			isComplete(t, sandbox, first.outputs["remote-digest"])
			rerun(t, sandbox, first, inputs...)
		})
	}
	t.Run("in the charm's repository", func(t *testing.T) {
		t.Parallel()
		sandbox := startSandbox(t, options)
		first := action(t, sandbox, "resource="+imageResource, rock)
		first.succeeded(t)
		selected := action(t, sandbox, "resource="+imageResource, "digest="+first.outputs["remote-digest"], "platform=linux/arm/v7", noEngine(t))
		selected.succeeded(t)
		selected.has(t, map[string]string{
			"remote-digest": childDigest(t, index, 1), "uploaded": "false", "revision": "2", "revision-created": "true",
		})
		recordedFor(t, sandbox, "armhf")
	})
}

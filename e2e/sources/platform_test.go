package sources

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestPlatformSelectsOne: of an image for several platforms, the input
// platform takes one, wherever the image is.
func TestPlatformSelectsOne(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testPlatformSelectsOne)
}

// testPlatformSelectsOne uploads one image of an index for each way to name a platform, and checks that it is the
// right one.
func testPlatformSelectsOne(t *testing.T, options server.Options) {
	t.Helper()
	index := harness.PlatformIndex(t, "linux/amd64", "linux/arm/v7", "windows/amd64:10.0.14393", "linux/arm64")
	repository := harness.StartRegistry(t) + "/index"
	image := "image=" + repository + "@" + harness.Push(t, repository, index)
	rock := "image=" + harness.WriteRock(t, index)
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
			sandbox := harness.StartSandbox(t, options)
			inputs := []string{test.image, "platform=" + test.platform}
			first := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
			first.Succeeded(t)
			first.HasOutputs(t, map[string]string{"remote-digest": childDigest(t, index, test.child), "uploaded": "true"})
			harness.RecordedFor(t, sandbox, test.architecture)
			harness.IsComplete(t, sandbox, first.Outputs["remote-digest"])
			harness.Rerun(t, sandbox, first, inputs...)
		})
	}
	t.Run("in the charm's repository", func(t *testing.T) {
		t.Parallel()
		sandbox := harness.StartSandbox(t, options)
		first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, rock)
		first.Succeeded(t)
		selected := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+first.Outputs["remote-digest"],
			"platform=linux/arm/v7", harness.NoEngine(t))
		selected.Succeeded(t)
		selected.HasOutputs(t, map[string]string{
			"remote-digest": childDigest(t, index, 1), "uploaded": "false", "revision": "2", "revision-created": "true",
		})
		harness.RecordedFor(t, sandbox, "armhf")
	})
}

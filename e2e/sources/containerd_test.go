package sources

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestContainerdStore: an engine that keeps manifests has images with digests,
// which they keep.
func TestContainerdStore(t *testing.T) {
	t.Parallel()
	engine := harness.StartContainerdStore(t)
	host := harness.StartRegistry(t)
	image := host + "/image@" + harness.Push(t, host+"/image", harness.PlatformImage(t, "linux/amd64"))
	whole := harness.Push(t, host+"/whole", harness.PlatformIndex(t, "linux/amd64", "linux/arm64"))
	partial := harness.PlatformIndex(t, "linux/amd64", "linux/arm64", "linux/s390x")
	incomplete := harness.Push(t, host+"/incomplete", partial)
	docker := func(args ...string) string {
		return harness.Tool(t, "env", append([]string{engine, "docker"}, args...)...)
	}
	docker("pull", "--quiet", image)
	docker("pull", "--quiet", "--platform", "linux/amd64", host+"/whole@"+whole)
	docker("pull", "--quiet", "--platform", "linux/arm64", host+"/whole@"+whole)
	docker("pull", "--quiet", "--platform", "linux/amd64", host+"/incomplete@"+incomplete)

	id := docker("inspect", "--format", "{{.Id}}", image)
	tests := map[string]struct {
		inputs        []string
		digest        string
		source        string
		architectures []string
	}{
		"image": {
			inputs: []string{"digest=" + id},
			digest: id, source: id, architectures: []string{"amd64"},
		},
		"image by short ID": {
			inputs: []string{"digest=" + id[len("sha256:"):][:12]},
			digest: id, source: id, architectures: []string{"amd64"},
		},
		"image as an input of that name": {
			inputs: []string{"image=docker-daemon:" + id},
			digest: id, source: id, architectures: []string{"amd64"},
		},
		"index": {
			inputs: []string{"digest=" + whole},
			digest: whole, source: whole, architectures: []string{"amd64", "arm64"},
		},
		"platform of an incomplete index": {
			inputs: []string{"digest=" + incomplete, "platform=linux/amd64"},
			digest: childDigest(t, partial, 0), source: incomplete, architectures: []string{"amd64"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			inputs := append([]string{engine}, test.inputs...)
			first := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
			first.Succeeded(t)
			first.HasOutputs(t, map[string]string{
				"source-digest": test.source, "remote-digest": test.digest, "uploaded": "true", "revision": "1",
			})
			harness.RecordedFor(t, sandbox, test.architectures...)
			harness.IsComplete(t, sandbox, first.Outputs["remote-digest"])
			harness.Rerun(t, sandbox, first, inputs...)
		})
	}
	t.Run("incomplete index", func(t *testing.T) {
		t.Parallel()
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		r := harness.Upload(t, sandbox, engine, "resource="+harness.ImageResource, "digest="+incomplete)
		r.Failed(t, sandbox, incomplete, "linux/arm64, linux/s390x", "pull what is missing", "input platform")
		harness.SentNoManifest(t, sandbox)
	})
	t.Run("platform that an index lacks here", func(t *testing.T) {
		t.Parallel()
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		r := harness.Upload(t, sandbox, engine, "resource="+harness.ImageResource, "digest="+incomplete,
			"platform=linux/arm64")
		r.Failed(t, sandbox, incomplete, "linux/arm64")
		harness.SentNoManifest(t, sandbox)
	})
}

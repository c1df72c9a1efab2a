package uploads

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestTagThatMoved: next to a digest a tag decides nothing, but a run says when
// it names another image.
func TestTagThatMoved(t *testing.T) {
	t.Parallel()
	repository := harness.StartRegistry(t) + "/image"
	old := harness.Push(t, repository, harness.PlatformImage(t, "linux/amd64"))
	image := "image=" + repository + ":latest@" + old
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	still := harness.Upload(t, sandbox, "resource="+harness.ImageResource, image)
	still.Succeeded(t) // without a warning

	now := harness.Push(t, repository, harness.PlatformImage(t, "linux/amd64"))
	moved := harness.Upload(t, sandbox, "resource="+harness.ImageResource, image)
	moved.HasOutputs(t, map[string]string{"remote-digest": old, "revision": "1"})
	warning := harness.AnnotationOf(moved, "warning")
	for _, part := range []string{repository + ":latest@" + old, "the tag has moved on; the digest decides",
		"now=" + now} {
		if !strings.Contains(warning, part) {
			t.Errorf("the warning doesn't say %q: %q", part, warning)
		}
	}
}

// TestTagThatIsGone: where the tag can't be looked up, the run says so and goes
// on.
func TestTagThatIsGone(t *testing.T) {
	t.Parallel()
	repository := harness.StartRegistry(t) + "/image"
	digest := harness.Push(t, repository, harness.PlatformImage(t, "linux/amd64"))
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+repository+":v1@"+digest)
	r.HasOutputs(t, map[string]string{"remote-digest": digest, "revision": "1"})
	if warning := harness.AnnotationOf(r, "warning"); !strings.Contains(warning, "the tag could not be checked") {
		t.Errorf("the warning is %q", warning)
	}
}

// TestTagAlone: a tag isn't taken for an image, and the complaint has what to
// write instead.
func TestTagAlone(t *testing.T) {
	t.Parallel()
	repository := harness.StartRegistry(t) + "/image"
	digest := harness.Push(t, repository, harness.PlatformImage(t, "linux/amd64"))
	other := harness.StartSandbox(t, server.Options{InMemory: true})
	login, closed := harness.RegistryLogin(t, other, harness.ImageResource)
	_, username, password := other.RegistryAuth(harness.Charm, harness.ImageResource)
	uploaded := harness.Upload(t, other, "resource="+harness.ImageResource,
		"image="+harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64")))
	uploaded.Succeeded(t)
	there := closed + ":latest@" + uploaded.Outputs["remote-digest"]
	tests := map[string]struct {
		inputs []string
		paste  string
	}{
		"tag":       {[]string{"image=" + repository + ":latest"}, repository + ":latest@" + digest},
		"no tag":    {[]string{"image=" + repository}, repository + ":latest@" + digest},
		"transport": {[]string{"image=docker://" + repository + ":latest"}, repository + ":latest@" + digest},
		"one line": {[]string{harness.ImageLines(repository+"@"+digest, repository+":latest platform=linux/arm64")},
			repository + ":latest@" + digest},
		"login": {[]string{"image=" + closed + ":latest", "DOCKER_CONFIG=" + login}, there},
		"inputs": {[]string{"image=" + closed + ":latest", "source-username=" + username, "source-password=" + password},
			there},
		"unknown": {[]string{"image=" + repository + ":v9"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, append(test.inputs, "resource="+harness.ImageResource)...)
			r.Failed(t, sandbox, "has no digest", "a tag may name another image tomorrow", "@sha256:…")
			if asked := sandbox.Requests(); len(asked) > 0 {
				t.Errorf("requests to Charmhub for inputs that are wrong: %v", asked)
			}
			if test.paste == "" {
				if strings.Contains(harness.ErrorText(r), "right now") {
					t.Errorf("the error tells a digest of a tag that doesn't exist: %s", harness.ErrorText(r))
				}
				return
			}
			if !strings.Contains(harness.ErrorText(r), " "+test.paste) {
				t.Fatalf("the error doesn't have %s to paste:\n%s", test.paste, harness.ErrorText(r))
			}
			pasted := harness.Upload(t, sandbox, append(test.inputs[1:], "resource="+harness.ImageResource,
				"image="+test.paste)...)
			pasted.Succeeded(t)
		})
	}
}

package e2e

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestTagThatMoved: next to a digest a tag decides nothing, but a run says when
// it names another image.
func TestTagThatMoved(t *testing.T) {
	t.Parallel()
	repository := anonymousRegistry(t) + "/image"
	old := push(t, repository, platformImage(t, "linux/amd64"))
	image := "image=" + repository + ":latest@" + old
	sandbox := startSandbox(t, server.Options{InMemory: true})
	still := action(t, sandbox, "resource="+imageResource, image)
	still.succeeded(t) // without a warning

	now := push(t, repository, platformImage(t, "linux/amd64"))
	moved := action(t, sandbox, "resource="+imageResource, image)
	moved.has(t, map[string]string{"remote-digest": old, "revision": "1"})
	warning := annotation(moved, "warning")
	for _, part := range []string{repository + ":latest@" + old, "the tag has moved on; the digest decides", "now=" + now} {
		if !strings.Contains(warning, part) {
			t.Errorf("the warning doesn't say %q: %q", part, warning)
		}
	}
}

// TestTagThatIsGone: where the tag can't be looked up, the run says so and goes
// on.
func TestTagThatIsGone(t *testing.T) {
	t.Parallel()
	repository := anonymousRegistry(t) + "/image"
	digest := push(t, repository, platformImage(t, "linux/amd64"))
	sandbox := startSandbox(t, server.Options{InMemory: true})
	r := action(t, sandbox, "resource="+imageResource, "image="+repository+":v1@"+digest)
	r.has(t, map[string]string{"remote-digest": digest, "revision": "1"})
	if warning := annotation(r, "warning"); !strings.Contains(warning, "the tag could not be checked") {
		t.Errorf("the warning is %q", warning)
	}
}

// annotation returns the text of the first annotation of a kind.
func annotation(r result, kind string) string {
	_, text, _ := strings.Cut("\n"+r.log, "\n::"+kind)
	_, text, _ = strings.Cut(text, "::")
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// TestTagAlone: a tag isn't taken for an image, and the complaint has what to
// write instead.
func TestTagAlone(t *testing.T) {
	t.Parallel()
	repository := anonymousRegistry(t) + "/image"
	digest := push(t, repository, platformImage(t, "linux/amd64"))
	other := startSandbox(t, server.Options{InMemory: true})
	login, closed := registryLogin(t, other, imageResource)
	_, username, password := other.RegistryAuth(charm, imageResource)
	uploaded := action(t, other, "resource="+imageResource, "image="+writeRock(t, platformImage(t, "linux/amd64")))
	uploaded.succeeded(t)
	there := closed + ":latest@" + uploaded.outputs["remote-digest"]
	tests := map[string]struct {
		inputs []string
		paste  string
	}{
		"tag":       {[]string{"image=" + repository + ":latest"}, repository + ":latest@" + digest},
		"no tag":    {[]string{"image=" + repository}, repository + ":latest@" + digest},
		"transport": {[]string{"image=docker://" + repository + ":latest"}, repository + ":latest@" + digest},
		"one line":  {[]string{imageLines(repository+"@"+digest, repository+":latest platform=linux/arm64")}, repository + ":latest@" + digest},
		"login":     {[]string{"image=" + closed + ":latest", "DOCKER_CONFIG=" + login}, there},
		"inputs":    {[]string{"image=" + closed + ":latest", "source-username=" + username, "source-password=" + password}, there},
		"unknown":   {[]string{"image=" + repository + ":v9"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, append(test.inputs, "resource="+imageResource)...)
			r.failed(t, sandbox, "has no digest", "a tag may name another image tomorrow", "@sha256:…")
			if asked := sandbox.Requests(); len(asked) > 0 {
				t.Errorf("requests to Charmhub for inputs that are wrong: %v", asked)
			}
			if test.paste == "" {
				if strings.Contains(theError(r), "right now") {
					t.Errorf("the error tells a digest of a tag that doesn't exist: %s", theError(r))
				}
				return
			}
			if !strings.Contains(theError(r), " "+test.paste) {
				t.Fatalf("the error doesn't have %s to paste:\n%s", test.paste, theError(r))
			}
			pasted := action(t, sandbox, append(test.inputs[1:], "resource="+imageResource, "image="+test.paste)...)
			pasted.succeeded(t)
		})
	}
}

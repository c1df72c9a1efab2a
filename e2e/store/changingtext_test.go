package store

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const textPeriod = 720 * time.Hour

// privately makes the charm of most tests private.
func privately(options server.Options) server.Options {
	options.Charms = []server.Charm{{Name: harness.Charm, Private: true,
		Resources: []server.Resource{{Name: harness.ImageResource, Type: server.TypeImage}}}}
	return options
}

// TestTextThatChanges: a password in the text about an image is replaced by another one, which makes no revision. Only
// where the texts of before can't be read, it does, and the log says why.
func TestTextThatChanges(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options  server.Options
		revision string // after the text has changed
		log      string
	}{
		"by the clock": {server.Options{TextPeriod: textPeriod}, "1",
			"Revision 1 describes the same image; only Charmhub's text about it differs"},
		"each time": {server.Options{UnstableBlobs: true}, "1",
			"Revision 1 describes the same image; only Charmhub's text about it differs"},
		"of a private charm": {privately(server.Options{TextPeriod: textPeriod}), "2",
			"No revision has this text; a new revision is made, since it can't be seen whether an earlier one describes this " +
				"image: cannot read the public revisions of resource 'my-image' of charm 'my-charm': "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.options.InMemory = true
			sandbox := harness.StartSandbox(t, test.options)
			image := "image=" + harness.WriteLayout(t, harness.PlatformImage(t, "linux/amd64"))
			first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, image)
			first.Succeeded(t)
			first.HasOutputs(t, map[string]string{"revision": "1", "revision-created": "true"})

			sandbox.AdvanceClock(textPeriod)
			sandbox.ResetRequests()
			second := harness.Upload(t, sandbox, "resource="+harness.ImageResource, image)
			second.Succeeded(t)
			second.HasOutputs(t, map[string]string{"revision": test.revision,
				"revision-created": fmt.Sprint(test.revision != "1"), "uploaded": "false"})
			if !strings.Contains(second.Log, test.log) {
				t.Errorf("the log doesn't say %q:\n%s", test.log, second.Log)
			}
			for _, r := range public(sandbox) {
				if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
					t.Errorf("credentials or an address go to %s", r)
				}
			}
			dry := harness.Upload(t, sandbox, "resource="+harness.ImageResource, image, "dry-run=true")
			dry.Succeeded(t)
			dry.HasOutputs(t, map[string]string{"revision": test.revision})
		})
	}
}

// public are the requests that Juju makes, too.
func public(sandbox *server.Server) []server.Request {
	return slices.DeleteFunc(sandbox.Requests(), func(r server.Request) bool {
		return !strings.HasPrefix(r.Path, "/v2/charms/") && !strings.HasPrefix(r.Path, "/api/v1/") &&
			!strings.HasPrefix(r.Path, "/content/")
	})
}

// TestTextOfAnotherImage: a revision with a text of the same size that describes another image is never taken.
func TestTextOfAnotherImage(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, TextPeriod: textPeriod})
	one, other := harness.WriteLayout(t, harness.PlatformImage(t, "linux/amd64")),
		harness.WriteLayout(t, harness.PlatformImage(t, "linux/amd64"))
	harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+other).Succeeded(t)
	harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+one, "push-only=true").Succeeded(t)
	sandbox.AdvanceClock(textPeriod)
	sandbox.ResetRequests()
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+one)
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"revision": "2", "revision-created": "true", "uploaded": "false"})
	if len(public(sandbox)) != 3 {
		t.Errorf("the text of the other image wasn't read: %v", public(sandbox))
	}
}

// TestTextThatIsWrittenAnew: a client that reads the text and writes it again publishes other bytes about the same
// image.
func TestTextThatIsWrittenAnew(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	img := harness.PlatformImage(t, "linux/amd64")
	harness.PushToResource(t, sandbox, img)
	text := textOf(t, sandbox, harness.DigestOfImage(t, img))
	var fields map[string]string
	var anew bytes.Buffer
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		t.Fatal(err)
	}
	encoder := json.NewEncoder(&anew)
	encoder.SetIndent("", "    ")
	if err := encoder.Encode(fields); err != nil || anew.String() == text {
		t.Fatalf("%v: %s", err, &anew)
	}
	sandbox.PutResource(harness.Charm, harness.ImageResource, &anew)
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteLayout(t, img))
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"revision": "1", "revision-created": "false", "uploaded": "false"})
}

// TestStableTextsAreNotRead: without a text that changes, nothing is asked about the texts of before: neither by an
// unchanged run, nor by one whose image is new.
func TestStableTextsAreNotRead(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	for _, img := range []v1.Image{harness.PlatformImage(t, "linux/amd64"), harness.PlatformImage(t, "linux/amd64")} {
		image := "image=" + harness.WriteLayout(t, img)
		for range 2 {
			harness.Upload(t, sandbox, "resource="+harness.ImageResource, image).Succeeded(t)
		}
	}
	if asked := public(sandbox); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}

// textOf asks the store for the text that describes an image.
func textOf(t *testing.T, sandbox *server.Server, digest string) string {
	t.Helper()
	token, err := base64.StdEncoding.DecodeString(sandbox.Token())
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		sandbox.StoreURL+"/v1/charm/"+harness.Charm+"/resources/"+harness.ImageResource+"/oci-image/blob",
		strings.NewReader(`{"image-digest":"`+digest+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Macaroon "+string(token))
	request.Header.Set("User-Agent", "another client")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v: %s", response.Status, err, text)
	}
	return string(text)
}

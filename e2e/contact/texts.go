package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// aboutTexts lists the assumptions about the text that describes an image to Juju.
var aboutTexts = []assumption{
	{"The text about an image", "the store describes an image that the registry has, by its digest, with a user and a " +
		"password", "no revision can be made", tryText},
	{"The text about an image", "the text is the same when it is asked for again", sameImage, tryTextAgain},
	{"The text about an image", "the text is compact JSON",
		"a client that writes it anew makes other bytes of it; the action finds its revision by the image's digest",
		tryTextForm},
	{"The text about an image", "an index is described, too", "an index, and several lines of image, fail; give one image",
		tryTextOfIndex},
	{"The text about an image", "an image that the registry doesn't have isn't described",
		"the action asks for the text only of images that it has seen there or sent", tryTextOfNothing},
}

// sameImage says what follows if the text about an image changes.
const sameImage = "the action reads the texts of the newest revisions, and takes one that names the same image by " +
	"digest; a private charm gets a new revision"

// askText asks for the text about an image.
func (c *contact) askText(ctx context.Context, digest string) (answer, error) {
	a, err := c.ofCharm(ctx, http.MethodPost, "/resources/"+url.PathEscape(c.image)+"/oci-image/blob",
		map[string]string{"image-digest": digest})
	var secret struct{ Username, Password string }
	if json.Unmarshal(a.body, &secret) == nil {
		c.recorder.Hide(secret.Password, secret.Username+":"+secret.Password)
	}
	return a, err
}

// tryText asks for the text about the run's image, and reads it as Juju does.
func tryText(ctx context.Context, c *contact) (finding, error) {
	digest := c.images["gzip"]
	if digest == "" {
		return untried("the registry has no image of this run")
	}
	a, err := c.askText(ctx, digest)
	if err != nil {
		return finding{}, err
	}
	if err := a.ok(); err != nil {
		return refuted("%v", err)
	}
	var text struct{ ImageName, Username, Password string }
	c.text = a.body
	note := fmt.Sprintf("%d bytes, as %s", len(a.body), a.header.Get("Content-Type"))
	if json.Unmarshal(a.body, &text) != nil || !strings.HasSuffix(text.ImageName, "@"+digest) || text.Password == "" {
		return refuted("%s, without one of these", note)
	}
	same := "the user of the upload"
	if text.Username != c.login.Username {
		same = "another user than for the upload"
	}
	return confirmed("%s, for %s", note, same)
}

// tryTextAgain asks for the same text after a pause, and compares.
func tryTextAgain(ctx context.Context, c *contact) (finding, error) {
	if c.text == nil {
		return untried("there is no text")
	}
	if err := c.wait(ctx, pause); err != nil {
		return finding{}, err
	}
	a, err := c.askText(ctx, c.images["gzip"])
	if err != nil {
		return finding{}, err
	}
	if !bytes.Equal(a.body, c.text) {
		return refuted("it differs after %s, with %d bytes instead of %d", pause, len(a.body), len(c.text))
	}
	return confirmed("after %s; run this again later with -again %s", pause, c.date)
}

// tryTextForm compares the text with itself as compact JSON.
func tryTextForm(_ context.Context, c *contact) (finding, error) {
	if c.text == nil {
		return untried("there is no text")
	}
	var anew bytes.Buffer
	if err := json.Compact(&anew, c.text); err != nil {
		return refuted("%v", err)
	}
	switch {
	case bytes.Equal(anew.Bytes(), c.text):
		return confirmed("compact, without a line break at its end")
	case bytes.Equal(append(anew.Bytes(), '\n'), c.text):
		return confirmed("compact, with a line break at its end")
	}
	return refuted("%d bytes, of which %d are blanks", len(c.text), len(c.text)-anew.Len())
}

// tryTextOfIndex asks for the text about an index.
func tryTextOfIndex(ctx context.Context, c *contact) (finding, error) {
	if c.images["index"] == "" {
		return untried("the registry took no index")
	}
	a, err := c.askText(ctx, c.images["index"])
	if err != nil {
		return finding{}, err
	}
	if err := a.ok(); err != nil {
		return refuted("%v", err)
	}
	return finding{strings.HasSuffix(charmhub.ImageName(a.body), "@"+c.images["index"]), ""}, nil
}

// tryTextOfNothing asks for the text about a digest that the registry doesn't have.
func tryTextOfNothing(ctx context.Context, c *contact) (finding, error) {
	if c.text == nil {
		return untried("there is no text")
	}
	a, err := c.askText(ctx, fmt.Sprintf("sha256:%x", sha256.Sum256(c.content("nothing", 32))))
	if err != nil {
		return finding{}, err
	}
	return finding{a.status/100 == 4, a.problemOrText()}, nil
}

// problemOrText is problem for an answer that may be a success.
func (a answer) problemOrText() string {
	if a.status/100 == 2 {
		return fmt.Sprintf("%d, with %d bytes", a.status, len(a.body))
	}
	return a.problem()
}

// comparison returns the assumptions that a run with -again tries.
func comparison() []assumption {
	return []assumption{
		aboutToken[0],
		{"The text about an image", "the text is the same as in the earlier run", sameImage, tryTextLater},
	}
}

// tryTextLater compares the text about an earlier run's image with that run's.
func tryTextLater(ctx context.Context, c *contact) (finding, error) {
	c.image = c.earlier.Resource
	a, err := c.askText(ctx, c.earlier.Image)
	if err != nil {
		return finding{}, err
	}
	if err := a.ok(); err != nil {
		return finding{}, err
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(a.body))
	if digest != c.earlier.Text {
		return refuted("on %s it had %d bytes and the SHA-256 %s, on %s it has %d and %s",
			c.earlier.Date, c.earlier.Size, c.earlier.Text, c.date, len(a.body), digest)
	}
	return confirmed("on %s and on %s", c.earlier.Date, c.date)
}

// memory is what a run stores in a file for a later run with -again.
type memory struct {
	Date     string `json:"date"`
	Resource string `json:"resource"`
	Image    string `json:"image"`
	Text     string `json:"text-sha256"`
	Size     int    `json:"text-size"`
}

// memory returns what a later run with -again needs.
func (c *contact) memory() memory {
	return memory{c.date, c.image, c.images["gzip"], fmt.Sprintf("%x", sha256.Sum256(c.text)), len(c.text)}
}

// memoryPath returns the path of the file in which a run stores its memory.
func memoryPath(charm, date string) string { return filepath.Join(folderOf(charm, date), "text.json") }

// readMemory reads what an earlier run kept.
func readMemory(path string) (m memory, err error) {
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &m)
	}
	if err != nil {
		return m, fmt.Errorf("reading what the earlier run kept: %w; run this where its folder is", err)
	}
	return m, nil
}

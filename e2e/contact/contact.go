package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/charmhub-actions/upload-resource/e2e/contact/traffic"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
)

// contact holds the findings of a run so far. An assumption may use those of the assumptions before it.
type contact struct {
	command
	recorder *traffic.Recorder
	noise    *noise
	client   *charmhub.Client
	at       inputs.Endpoints
	earlier  memory // of the run to compare with

	token         charmhub.Token
	authorization string // the header that the client made of the credentials

	charmRevision int                 // the newest that declares an image; -1 for none
	declared      map[string]resource // by this charm revision
	image, file   string              // resources to try things on; "" for none
	base          *base               // of the charm revision

	login      charmhub.RegistryCredentials
	repository name.Repository
	images     map[string]string // digests of what the registry took, by kind: gzip, zstd, index
	text       []byte            // about the image of kind gzip

	imageRevision, indexRevision, fileRevision int // that were made here; -1 for none

	listed   []listedRevision // of the image resource, as they are listed
	released map[string]*int  // resources on the branch
	before   string           // what the other channels had before the release
}

// resource is a resource that a charm declares, as the store lists it.
type resource struct {
	Name, Type string
	Optional   bool
}

// base is a base, as the store lists it.
type base struct {
	Name         string `json:"name"`
	Channel      string `json:"channel"`
	Architecture string `json:"architecture"`
}

// assumption is something that the project takes for granted without having seen it.
type assumption struct {
	about     string // the section of the report
	says      string // what is assumed
	otherwise string // what the action does if it isn't so
	try       func(context.Context, *contact) (finding, error)
}

// finding is the outcome of trying an assumption. If the try itself wasn't possible, there is an error instead.
type finding struct {
	confirmed bool
	note      string // what was seen; may be empty
}

// confirmed returns the finding that an assumption held, with a note in the form of [fmt.Sprintf].
func confirmed(format string, args ...any) (finding, error) {
	return finding{true, fmt.Sprintf(format, args...)}, nil
}

// refuted returns the finding that an assumption didn't hold, with what was seen instead.
func refuted(format string, args ...any) (finding, error) {
	return finding{false, fmt.Sprintf(format, args...)}, nil
}

// untried says why an assumption couldn't be tried.
func untried(format string, args ...any) (finding, error) {
	return finding{}, fmt.Errorf(format, args...)
}

// tried is an assumption with what came of it.
type tried struct {
	assumption
	finding
	err  error // why it couldn't be tried
	took time.Duration
}

// result returns the outcome in a few words: held, didn't hold, or not tried.
func (t tried) result() string {
	switch {
	case t.err != nil:
		return "not tried"
	case t.confirmed:
		return "held"
	default:
		return "didn't hold"
	}
}

// tryAll tries one assumption after the other, and prints a line for each. It ends when ctx does.
func (c *contact) tryAll(ctx context.Context, all []assumption) (done []tried) {
	c.charmRevision, c.imageRevision, c.indexRevision, c.fileRevision = -1, -1, -1, -1
	c.images, c.declared, c.released = map[string]string{}, map[string]resource{}, map[string]*int{}
	for _, a := range all {
		if ctx.Err() != nil {
			return done
		}
		began := time.Now()
		t := tried{assumption: a}
		t.finding, t.err = a.try(ctx, c)
		t.took = time.Since(began)
		if ctx.Err() != nil && t.err != nil {
			return done
		}
		done = append(done, t)
		_, _ = fmt.Fprintln(c.out, c.recorder.Clean(t.line()))
	}
	return done
}

// line returns the outcome as a line of the terminal.
func (t tried) line() string {
	line := fmt.Sprintf("%-12s %s", t.result(), t.says)
	switch {
	case t.err != nil:
		line += ": " + t.err.Error()
	case t.note != "":
		line += ": " + t.note
	}
	if t.err == nil && !t.confirmed {
		line += "; " + t.otherwise
	}
	return line
}

// count returns how many assumptions had each outcome, as text.
func count(all []tried) string {
	counts := map[string]int{}
	for _, t := range all {
		counts[t.result()]++
	}
	return fmt.Sprintf("%d held, %d didn't, %d couldn't be tried", counts["held"], counts["didn't hold"],
		counts["not tried"])
}

// leaves says what a run leaves behind.
func (c *contact) leaves() string {
	if c.again != "" {
		return fmt.Sprintf("This asks %s for the text about the image of %s, and leaves nothing behind.\n",
			c.at.Store.Host, c.again)
	}
	return fmt.Sprintf(`This tries things on the charm %s at %s, and leaves behind:
- in the registry, in the repository of one image resource: two images of some kilobytes, an index of them, and the
  tag of a record
- up to three revisions of this resource, and one of a resource of type file, if the charm declares one
- the branch %s with a revision that the charm has, which no other channel leads to; Charmhub closes branches
  after 30 days
- the folder %s with the report
No other channel is changed, and no charm file is uploaded.
`, c.charm, c.at.Store.Host, c.branch(), c.folder)
}

// branch returns the name of the channel that this run releases to.
func (c *contact) branch() string { return "latest/edge/contact-" + c.date }

// answer is the store's response to a request, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is the store's first reason for a refusal.
func (a answer) problem() string {
	var list struct {
		Errors []struct{ Code, Message string } `json:"error-list"`
	}
	if json.Unmarshal(a.body, &list) != nil || len(list.Errors) == 0 {
		return fmt.Sprintf("%d without a list of errors", a.status)
	}
	return fmt.Sprintf("%d %s: %s", a.status, list.Errors[0].Code, strings.TrimSuffix(list.Errors[0].Message, "."))
}

// ok is nil for a success.
func (a answer) ok() error {
	if a.status/100 == 2 {
		return nil
	}
	return errors.New(a.problem())
}

// store sends a request to the store as the client does. A nil body is none.
func (c *contact) store(ctx context.Context, method, path string, body any) (answer, error) {
	if c.authorization == "" {
		return answer{}, errors.New("the token doesn't work")
	}
	return c.send(ctx, method, c.at.Store.String()+path, body, "Authorization", c.authorization)
}

// ofCharm is store for a path below the charm's.
func (c *contact) ofCharm(ctx context.Context, method, path string, body any) (answer, error) {
	return c.store(ctx, method, "/v1/charm/"+url.PathEscape(c.charm)+path, body)
}

// list reads a list of the charm's.
func (c *contact) list(ctx context.Context, path string, into any) error {
	a, err := c.ofCharm(ctx, http.MethodGet, path, nil)
	if err == nil {
		err = a.ok()
	}
	if err == nil {
		err = json.Unmarshal(a.body, into)
	}
	return err
}

// send sends a request; header is in pairs. It follows no redirect.
func (c *contact) send(ctx context.Context, method, address string, body any, header ...string) (answer, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("User-Agent", userAgent)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return c.sendRequest(request)
}

// sendRequest sends one request through the recorder, follows no redirect, and reads the whole answer.
func (c *contact) sendRequest(request *http.Request) (answer, error) {
	client := http.Client{Transport: c.recorder,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, text}, err
}

// until asks until what was asked for is seen, for two minutes at most, and returns how long that took. A false seen
// without an error means that it wasn't.
func (c *contact) until(
	ctx context.Context, ask func() (seen bool, err error),
) (took time.Duration, seen bool, err error) {
	for pause := 100 * time.Millisecond; ; pause = min(pause*3/2, 10*time.Second) {
		if seen, err = ask(); seen || err != nil || took > 2*time.Minute {
			return took, seen, err
		}
		if err = c.wait(ctx, pause); err != nil {
			return took, false, err
		}
		took += pause
	}
}

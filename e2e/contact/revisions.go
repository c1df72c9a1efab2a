package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// pause is the time between two requests whose answers should be equal.
const pause = 5 * time.Second

// aboutRevisions lists the assumptions about revisions of resources.
var aboutRevisions = []assumption{
	{"Revisions", "a text becomes a revision of the image resource within a minute", "the action waits for half an hour",
		tryRevision},
	{"Revisions", "the list has the revision when it is approved",
		"the action waits for it for two minutes where that matters", tryListed},
	{"Revisions", "each revision is listed with its SHA-256, its size, the time it was made, and bases that aren't null",
		"a revision without a SHA-256 isn't found, and what is in it is published again", tryFields},
	{"Revisions", "the listed SHA-256 is that of the text",
		"each run makes a revision, unless the store finds the text by itself", trySHA256},
	{"Revisions", "the same text again makes no revision",
		"the action looks for the SHA-256 first, so this happens only where lists lag", tryDuplicate},
	{"Revisions", "architectures are replaced by those of a PATCH",
		"the action sets them again for some minutes, and then fails", tryArchitectures},
	{"Revisions", "an index becomes a revision for two architectures",
		"an index, and several lines of image, fail; give one image", tryIndexRevision},
	{"Revisions", "the list is newest first", "the action sorts it", tryOrder},
	{"Revisions", "a file becomes a revision, and the same file again makes no other",
		"the action looks for the SHA-256 first, so this happens only where lists lag", tryFile},
	{"Revisions", "Juju's public list leads to the text, without credentials", sameImageUnread, tryPublic},
}

// sameImageUnread says what follows if the texts of revisions can't be read.
const sameImageUnread = "if the text about an image changes, a new revision is made, and the log says why"

// made is the outcome of a request to create a revision.
type made struct {
	number   int
	existed  bool // the review says so
	statuses []string
	early    bool // the number was there before the approval
	took     time.Duration
}

// String describes the revision and its review as a note of the report.
func (m made) String() string {
	text := fmt.Sprintf("revision %d after %s, by way of %s", m.number, m.took.Round(100*time.Millisecond),
		strings.Join(m.statuses, ", "))
	if m.early {
		text += "; the number was there before the approval"
	}
	return text
}

// existing finds the number in the store's message that the content has a revision already.
var existing = regexp.MustCompile(`Revision of the existing package is: (\d+)`)

// make makes content a revision.
func (c *contact) make(
	ctx context.Context, resource, kind string, content []byte, architectures ...string,
) (m made, err error) {
	began := time.Now()
	var id, status string
	err = upload.Repeat(ctx, c.wait, upload.Attempts, func() (pause time.Duration, again bool, err error) {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		if id, err = c.client.Upload(ctx, resource, int64(len(content)), open); err != nil {
			return 0, false, err
		}
		status, err = c.client.CreateRevision(ctx, c.charm, resource,
			charmhub.NewRevision{UploadID: id, Type: kind, Architectures: architectures})
		pause, again = upload.RetryAfter(err)
		return pause, err != nil && again, err
	})
	if err != nil {
		return m, err
	}
	_, _, err = c.until(ctx, func() (bool, error) { return c.readReview(ctx, status, id, &m) })
	m.took = time.Since(began)
	if err == nil && m.number < 0 {
		err = fmt.Errorf("the review isn't over after %s, by way of %s", m.took.Round(time.Second),
			strings.Join(m.statuses, ", "))
	}
	return m, err
}

// readReview asks the store for the state of a review and keeps it in m. The review is over when it has a revision's
// number or an error.
func (c *contact) readReview(ctx context.Context, status, id string, m *made) (over bool, err error) {
	m.number = -1
	a, err := c.store(ctx, http.MethodGet, status, nil)
	if err != nil || a.ok() != nil {
		return false, errors.Join(err, a.ok())
	}
	var answer struct {
		Revisions []struct {
			ID       string `json:"upload-id"`
			Status   string
			Revision *int
			Errors   []struct{ Code, Message string }
		}
	}
	if err := json.Unmarshal(a.body, &answer); err != nil {
		return false, err
	}
	for _, r := range answer.Revisions {
		if r.ID != id {
			continue
		}
		if !slices.Contains(m.statuses, r.Status) {
			m.statuses = append(m.statuses, r.Status)
		}
		switch {
		case r.Status == "approved" && r.Revision != nil:
			m.number = *r.Revision
			return true, nil
		case r.Status == "rejected":
			return true, m.rejected(r.Errors)
		}
		m.early = m.early || r.Revision != nil
	}
	return false, nil
}

// rejected finds the revision that a rejection names.
func (m *made) rejected(problems []struct{ Code, Message string }) error {
	for _, problem := range problems {
		if found := existing.FindStringSubmatch(problem.Message); found != nil {
			m.existed = true
			m.number, _ = strconv.Atoi(found[1]) // digits
			return nil
		}
	}
	return fmt.Errorf("rejected: %v", problems)
}

// tryRevision makes the text about the image a revision.
func tryRevision(ctx context.Context, c *contact) (finding, error) {
	if c.text == nil {
		return untried("there is no text")
	}
	m, err := c.make(ctx, c.image, "oci-image", c.text, "amd64")
	if err != nil {
		return refuted("%v", err)
	}
	c.imageRevision = m.number
	return finding{m.took < time.Minute, m.String()}, nil
}

// listedRevision is a revision as the list has it.
type listedRevision struct {
	Revision *int
	SHA256   string
	Size     *int64
	Created  string `json:"created-at"`
	Bases    []*struct{ Architectures []string }
	Download struct {
		SHA256 string `json:"hash-sha-256"`
		Size   *int64
	}
}

// revisions lists the revisions of a resource, and keeps the list of the image's.
func (c *contact) revisions(ctx context.Context, of string) ([]listedRevision, error) {
	var list struct{ Revisions []listedRevision }
	err := c.list(ctx, "/resources/"+url.PathEscape(of)+"/revisions", &list)
	if of == c.image && err == nil {
		c.listed = list.Revisions
	}
	return list.Revisions, err
}

// find returns a revision of a list.
func find(list []listedRevision, number int) *listedRevision {
	at := slices.IndexFunc(list, func(r listedRevision) bool { return r.Revision != nil && *r.Revision == number })
	if at < 0 {
		return nil
	}
	return &list[at]
}

// tryListed waits until the list has the new revision.
func tryListed(ctx context.Context, c *contact) (finding, error) {
	if c.imageRevision < 0 {
		return untried("no revision was made")
	}
	took, seen, err := c.until(ctx, func() (bool, error) {
		list, err := c.revisions(ctx, c.image)
		return find(list, c.imageRevision) != nil, err
	})
	switch {
	case err != nil:
		return finding{}, err
	case !seen:
		return refuted("it isn't there after %s", took.Round(time.Second))
	}
	return finding{took == 0, fmt.Sprintf("after %s", took.Round(100*time.Millisecond))}, nil
}

// tryOrder looks whether revisions are listed from the newest on.
func tryOrder(ctx context.Context, c *contact) (finding, error) {
	if c.image == "" {
		return finding{}, errNoImage
	}
	_, _, err := c.until(ctx, func() (bool, error) {
		list, err := c.revisions(ctx, c.image)
		return c.indexRevision < 0 || find(list, c.indexRevision) != nil, err
	})
	if err != nil {
		return finding{}, err
	}
	var numbers []int
	for _, r := range c.listed {
		if r.Revision != nil {
			numbers = append(numbers, *r.Revision)
		}
	}
	up, down := slices.IsSorted(numbers), slices.IsSortedFunc(numbers, func(a, b int) int { return b - a })
	switch {
	case len(numbers) < 2:
		return untried("the list has %d revisions", len(numbers))
	case down:
		return confirmed("%d revisions", len(numbers))
	case up:
		return refuted("it is oldest first")
	}
	return refuted("it is in no order")
}

// tryFields looks whether each listed revision has its digest, size, time and bases.
func tryFields(_ context.Context, c *contact) (finding, error) {
	if len(c.listed) == 0 {
		return untried("the list is empty")
	}
	top, nested, wrong := 0, 0, 0
	for _, r := range c.listed {
		switch {
		case len(r.SHA256) == 64 && r.Size != nil:
			top++
		case len(r.Download.SHA256) == 64 && r.Download.Size != nil:
			nested++
		}
		if r.Created == "" || len(r.Bases) == 0 || slices.Contains(r.Bases, nil) {
			wrong++
		}
	}
	note := fmt.Sprintf("%d of %d have both at the top, %d under download, %d lack the time or a base", top, len(c.listed),
		nested, wrong)
	return finding{top+nested == len(c.listed) && wrong == 0, note}, nil
}

// trySHA256 compares the listed digest with that of the text.
func trySHA256(_ context.Context, c *contact) (finding, error) {
	r := find(c.listed, c.imageRevision)
	if r == nil {
		return untried("the revision isn't listed")
	}
	want, got := fmt.Sprintf("%x", sha256.Sum256(c.text)), r.SHA256
	if got == "" {
		got = r.Download.SHA256
	}
	if got != want {
		return refuted("%q is listed for %s", got, want)
	}
	return confirmed("")
}

// tryDuplicate uploads the same text again.
func tryDuplicate(ctx context.Context, c *contact) (finding, error) {
	if c.imageRevision < 0 {
		return untried("no revision was made")
	}
	return c.duplicate(ctx, c.image, "oci-image", c.text, c.imageRevision)
}

// duplicate publishes what is there already.
func (c *contact) duplicate(ctx context.Context, resource, kind string, content []byte, number int) (finding, error) {
	m, err := c.make(ctx, resource, kind, content, "amd64")
	switch {
	case err != nil:
		return refuted("%v", err)
	case m.number != number:
		return refuted("it made revision %d beside %d", m.number, number)
	case m.existed:
		return confirmed("it is rejected, with the revision's number")
	}
	return confirmed("it is approved, with the number of before")
}

// tryArchitectures changes the architectures of the revision twice, and reads them back.
func tryArchitectures(ctx context.Context, c *contact) (finding, error) {
	if c.imageRevision < 0 {
		return untried("no revision was made")
	}
	var seen []string
	for _, want := range [][]string{{"arm64", "amd64"}, {"amd64"}} {
		if err := c.client.SetArchitectures(ctx, c.charm, c.image, c.imageRevision, want); err != nil {
			return refuted("%v", err)
		}
		var got []string
		took, set, err := c.until(ctx, func() (bool, error) {
			list, err := c.revisions(ctx, c.image)
			got = nil
			if r := find(list, c.imageRevision); r != nil {
				for _, b := range r.Bases {
					got = append(got, b.Architectures...)
				}
			}
			return len(got) == len(want) && !slices.ContainsFunc(want, func(a string) bool { return !slices.Contains(got, a) }),
				err
		})
		switch {
		case err != nil:
			return finding{}, err
		case !set:
			return refuted("%v were set, and after %s the list has %v", want, took.Round(time.Second), got)
		}
		seen = append(seen, fmt.Sprintf("%v were listed as %v after %s", want, got, took.Round(100*time.Millisecond)))
	}
	return confirmed("%s", strings.Join(seen, "; "))
}

// tryIndexRevision makes the text about the index a revision.
func tryIndexRevision(ctx context.Context, c *contact) (finding, error) {
	if c.images["index"] == "" || c.text == nil {
		return untried("the registry took no index")
	}
	a, err := c.askText(ctx, c.images["index"])
	if err != nil || a.ok() != nil {
		return finding{}, errors.Join(err, a.ok())
	}
	m, err := c.make(ctx, c.image, "oci-image", a.body, "amd64", "arm64")
	if err != nil {
		return refuted("%v", err)
	}
	c.indexRevision = m.number
	return confirmed("%s", m)
}

// tryFile uploads a resource of type file, and uploads it again.
func tryFile(ctx context.Context, c *contact) (finding, error) {
	if c.file == "" {
		return untried("the charm declares no resource of type file")
	}
	content := c.content("file", 2000)
	m, err := c.make(ctx, c.file, "file", content, "amd64")
	if err != nil {
		return refuted("%v", err)
	}
	c.fileRevision = m.number
	again, err := c.duplicate(ctx, c.file, "file", content, m.number)
	again.note = m.String() + "; " + again.note
	return again, err
}

// tryPublic reads the text of the revision without credentials, as Juju does.
func tryPublic(ctx context.Context, c *contact) (finding, error) {
	r := find(c.listed, c.imageRevision)
	if r == nil {
		return untried("the revision isn't listed")
	}
	revision := charmhub.Revision{Revision: c.imageRevision, Size: int64(len(c.text)),
		SHA256: fmt.Sprintf("%x", sha256.Sum256(c.text))}
	var names map[int]string
	var why error
	took, seen, err := c.until(ctx, func() (bool, error) {
		names, why = c.client.ImageNames(ctx, c.charm, c.image, []charmhub.Revision{revision})
		return len(names) > 0 || isRefused(why), ctx.Err()
	})
	if err != nil {
		return finding{}, err
	}
	if !seen || len(names) == 0 {
		return refuted("%v", why)
	}
	hosts := map[string]bool{}
	for _, e := range c.recorder.Exchanges() {
		if at, err := url.Parse(e.URL); err == nil && e.Request.Header.Get("Authorization") == "" &&
			e.Method == http.MethodGet && at.Host != c.repository.RegistryStr() {
			hosts[at.Host] = true
		}
	}
	return finding{names[c.imageRevision] == charmhub.ImageName(c.text),
		fmt.Sprintf("after %s, from %s", took.Round(100*time.Millisecond),
			strings.Join(slices.Sorted(maps.Keys(hosts)), ", "))}, nil
}

// isRefused reports whether an answer won't change soon.
func isRefused(err error) bool {
	refused, ok := errors.AsType[*charmhub.Error](err)
	return ok && refused.Status < http.StatusInternalServerError
}

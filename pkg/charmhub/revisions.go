package charmhub

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Revision is content that a resource has had.
type Revision struct {
	Revision      int
	Type          string   // charm.TypeImage or charm.TypeFile; "" if the store doesn't say
	SHA256        string   // of the content, lower-case hex; "" if the store doesn't say
	Size          int64    // of the content, in bytes; 0 if the store doesn't say
	Architectures []string // Charmhub's names, sorted
	// Age is the time from its creation to the list that has it, by the store's clock; 0 if the store doesn't say.
	Age time.Duration
}

// NewRevision is content that was uploaded, to become a revision.
type NewRevision struct {
	UploadID      string
	Type          string   // charm.TypeImage or charm.TypeFile
	Architectures []string // Charmhub's names; none means "all"
}

// Revisions lists the revisions of a resource, newest first: GET …/revisions. One that was approved seconds ago may
// still be missing.
func (c *Client) Revisions(ctx context.Context, charm, resource string) ([]Revision, error) {
	var answer struct{ Revisions []listedRevision }
	var date time.Time
	err := c.ask(ctx, request{
		doing: "list the revisions of " + resourceOf(charm, resource), date: &date,
		charm: charm, resource: resource, path: "/revisions", permission: viewRevisions,
	}, &answer)
	return revisions(answer.Revisions, date), err
}

// base is what a revision runs on. Charmhub asks for a name and a channel too, but a resource is for "all" of them.
type base struct {
	Name          string   `json:"name"`
	Channel       string   `json:"channel"`
	Architectures []string `json:"architectures"`
}

// allBases returns the one base for these architectures, as a request names it; for all architectures if none is given.
func allBases(architectures []string) []base {
	if len(architectures) == 0 {
		architectures = []string{"all"}
	}
	return []base{{Name: "all", Channel: "all", Architectures: architectures}}
}

// listedRevision is a revision on the wire. The publisher API has the hash beside the number, Juju's API and those made
// after it have it under download.
type listedRevision struct {
	Revision *int // null while it has none
	Type     string
	SHA256   string
	Size     int64
	Created  any     `json:"created-at"` // a time in the form of RFC 3339, perhaps without its zone
	Bases    []*base // a base may be null
	Download struct {
		URL    string
		Size   int64
		SHA256 string `json:"hash-sha-256"`
	}
}

// revisions reads a list that was answered at a date, which is zero if unknown.
func revisions(listed []listedRevision, date time.Time) []Revision {
	var list []Revision
	for _, l := range listed {
		if l.Revision == nil {
			continue
		}
		list = append(list, Revision{
			Revision:      *l.Revision,
			Type:          l.Type,
			SHA256:        sha256Hex(cmp.Or(l.SHA256, l.Download.SHA256)),
			Size:          max(0, l.Size, l.Download.Size),
			Architectures: l.architectures(),
			Age:           l.age(date),
		})
	}
	slices.SortStableFunc(list, func(a, b Revision) int { return cmp.Compare(b.Revision, a.Revision) })
	return list
}

// architectures returns the architectures of all bases, sorted, each once.
func (l listedRevision) architectures() []string {
	var all []string
	for _, b := range l.Bases {
		if b != nil {
			all = append(all, b.Architectures...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// age returns how long before date the revision was created; 0 if either time is unknown.
func (l listedRevision) age(date time.Time) time.Duration {
	text, _ := l.Created.(string)
	created := parseTime(text)
	if created.IsZero() || date.IsZero() {
		return 0
	}
	return max(0, date.Sub(created))
}

// sha256Hex returns hash in lower case, or "" if it is not a SHA-256: a hash that can't be one must match nothing.
func sha256Hex(hash string) string {
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != 32 {
		return ""
	}
	return strings.ToLower(hash)
}

// CreateRevision asks the store to make a revision of uploaded content, and returns the address for [Client.Await]:
// POST …/revisions. After an error that is [ErrUnclear] the revision may exist all the same.
func (c *Client) CreateRevision(
	ctx context.Context, charm, resource string, n NewRevision,
) (statusURL string, err error) {
	return c.create(ctx, request{
		doing: "create a revision of " + resourceOf(charm, resource),
		charm: charm, resource: resource, path: "/revisions", permission: manageRevisions,
		method: http.MethodPost, creates: true, body: jsonBody(map[string]any{
			"upload-id": n.UploadID, "type": n.Type, "bases": allBases(n.Architectures),
		}),
	})
}

// create sends a request whose answer says where to ask for the review.
func (c *Client) create(ctx context.Context, r request) (statusURL string, err error) {
	var answer struct {
		StatusURL string `json:"status-url"`
	}
	if err := c.ask(ctx, r, &answer); err != nil {
		return "", err
	}
	if answer.StatusURL == "" {
		return "", fmt.Errorf("cannot %s: %w", r.doing, r.unclear(errors.New("the answer has no status-url")))
	}
	return answer.StatusURL, nil
}

// SetArchitectures replaces the architectures that a revision is recorded for, by Charmhub's names; none means "all":
// PATCH …/revisions. The request isn't repeated, since others may have changed the record before that; an error that
// may have changed it is [ErrUnclear].
func (c *Client) SetArchitectures(
	ctx context.Context, charm, resource string, revision int, architectures []string,
) error {
	r := request{
		doing: fmt.Sprintf("set the architectures of revision %d of %s", revision, resourceOf(charm, resource)),
		charm: charm, resource: resource, path: "/revisions", permission: manageRevisions,
		method: http.MethodPatch, creates: true, body: jsonBody(map[string]any{"resource-revision-updates": []any{
			map[string]any{"revision": revision, "bases": allBases(architectures)},
		}}),
	}
	var answer struct {
		Updated *int `json:"num-resource-revisions-updated"`
	}
	if err := c.ask(ctx, r, &answer); err != nil {
		return err
	}
	if answer.Updated != nil && *answer.Updated == 0 {
		return fmt.Errorf("cannot %s: the store changed no revision", r.doing)
	}
	return nil
}

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
)

// Revision is content that a resource has had.
type Revision struct {
	Revision      int
	Size          int64    // in bytes
	SHA256        string   // of the content, lower-case hex; "" if the store doesn't tell
	Architectures []string // Charmhub's names, sorted
}

// NewRevision is content that was uploaded, to become a revision.
type NewRevision struct {
	UploadID      string
	Type          string   // TypeImage or TypeFile
	Architectures []string // Charmhub's names; none means "all"
}

// Revisions lists the revisions of a resource, newest first: GET …/revisions. One
// that was approved seconds ago may still be missing.
func (c *Client) Revisions(ctx context.Context, charm, resource string) ([]Revision, error) {
	r := request{
		doing:  "list the revisions of " + resourceOf(charm, resource),
		method: http.MethodGet, base: c.store, path: resourcePath(charm, resource) + "/revisions", limit: listLimit,
		charm: charm, resource: resource, permission: viewRevisions,
	}
	text, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	list, err := parseRevisions(text)
	if err != nil {
		return nil, fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	return list, nil
}

// base is what a revision runs on. Charmhub asks for a name and a channel too, but
// a resource is for "all" of them.
type base struct {
	Name          string   `json:"name"`
	Channel       string   `json:"channel"`
	Architectures []string `json:"architectures"`
}

func allBases(architectures []string) []base {
	if len(architectures) == 0 {
		architectures = []string{"all"}
	}
	return []base{{Name: "all", Channel: "all", Architectures: architectures}}
}

// listedRevision is a revision on the wire. The publisher API has size and hash
// beside the number, Juju's API and those made after it have them under download.
type listedRevision struct {
	Revision *int // null while it has none
	Size     int64
	SHA256   string
	Bases    []*base // a base may be null
	Download struct {
		Size   int64
		SHA256 string `json:"hash-sha-256"`
	}
}

func parseRevisions(text []byte) ([]Revision, error) {
	var answer struct{ Revisions []listedRevision }
	if err := decode(text, &answer); err != nil {
		return nil, err
	}
	list := []Revision{}
	for _, l := range answer.Revisions {
		if l.Revision == nil {
			continue
		}
		list = append(list, Revision{
			Revision:      *l.Revision,
			Size:          cmp.Or(l.Size, l.Download.Size),
			SHA256:        sha256Hex(cmp.Or(l.SHA256, l.Download.SHA256)),
			Architectures: l.architectures(),
		})
	}
	slices.SortStableFunc(list, func(a, b Revision) int { return cmp.Compare(b.Revision, a.Revision) })
	return list, nil
}

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

// sha256Hex returns hash in lower case, or "" if it is not a SHA-256: a hash that
// can't be one must match nothing.
func sha256Hex(hash string) string {
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != 32 {
		return ""
	}
	return strings.ToLower(hash)
}

// CreateRevision asks the store to make a revision of uploaded content, and
// returns the address for [Client.Await]: POST …/revisions. After an error that
// is [ErrUnclear] the revision may exist all the same.
func (c *Client) CreateRevision(ctx context.Context, charm, resource string, n NewRevision) (statusURL string, err error) {
	r := request{
		doing:  "create a revision of " + resourceOf(charm, resource),
		method: http.MethodPost, base: c.store, path: resourcePath(charm, resource) + "/revisions",
		body: jsonBody(map[string]any{
			"upload-id": n.UploadID, "type": n.Type, "bases": allBases(n.Architectures),
		}),
		charm: charm, resource: resource, permission: manageRevisions, creates: true,
	}
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

// SetArchitectures replaces the architectures that a revision is recorded for:
// PATCH …/revisions.
func (c *Client) SetArchitectures(ctx context.Context, charm, resource string, revision int, architectures []string) error {
	r := request{
		doing:  fmt.Sprintf("set the architectures of revision %d of %s", revision, resourceOf(charm, resource)),
		method: http.MethodPatch, base: c.store, path: resourcePath(charm, resource) + "/revisions",
		body: jsonBody(map[string]any{"resource-revision-updates": []any{
			map[string]any{"revision": revision, "bases": allBases(architectures)},
		}}),
		charm: charm, resource: resource, permission: manageRevisions,
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

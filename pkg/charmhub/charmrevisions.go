package charmhub

import (
	"cmp"
	"context"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

// CharmRevision is a revision of a charm.
type CharmRevision struct {
	Revision int
	SHA3     string // SHA3-384 of the charm file, lower-case hex; "" if the store doesn't say
	Bases    []charm.Base
}

// CharmRevisions lists the revisions of charm that can be released, newest first: GET …/revisions. One that was
// approved seconds ago may still be missing.
func (c *Client) CharmRevisions(ctx context.Context, charm string) ([]CharmRevision, error) {
	var answer struct{ Revisions []listedCharmRevision }
	r := request{doing: "list the revisions of charm " + quoted(charm), charm: charm, path: "/revisions",
		permission: viewRevisions}
	err := c.ask(ctx, r, &answer)
	return charmRevisions(answer.Revisions), err
}

// listedCharmRevision is a revision of a charm on the wire.
type listedCharmRevision struct {
	Revision *int // null while it has none
	Status   string
	SHA3     string `json:"sha3-384"`
	Bases    []*charm.Base
}

// unreleasable are the statuses of revisions that the store rejected or still reviews. The other statuses are not
// documented.
var unreleasable = []string{"rejected", "new", "scanned"}

// charmRevisions returns the releasable ones of the listed revisions, newest first.
func charmRevisions(listed []listedCharmRevision) []CharmRevision {
	var list []CharmRevision
	for _, l := range listed {
		if l.Revision == nil || slices.Contains(unreleasable, l.Status) {
			continue
		}
		r := CharmRevision{Revision: *l.Revision, Bases: bases(l.Bases)}
		if sum, err := hex.DecodeString(l.SHA3); err == nil && len(sum) == 48 {
			r.SHA3 = strings.ToLower(l.SHA3)
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b CharmRevision) int { return cmp.Compare(b.Revision, a.Revision) })
	return list
}

// CreateCharmRevision asks the store to make a revision of an uploaded charm file, and returns the address for
// [Client.Await]: POST …/revisions. After an error that is [ErrUnclear] the revision may exist all the same.
func (c *Client) CreateCharmRevision(ctx context.Context, charm, uploadID string) (statusURL string, err error) {
	return c.create(ctx, request{
		doing: "create a revision of charm " + quoted(charm),
		charm: charm, path: "/revisions", permission: manageRevisions,
		method: http.MethodPost, body: jsonBody(map[string]string{"upload-id": uploadID}), creates: true,
	})
}

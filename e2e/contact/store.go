package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// assumptions are all that the project makes, in the order in which they are tried.
func assumptions() []assumption {
	return slices.Concat(aboutToken, aboutCharm, aboutRegistry, aboutTexts, aboutRevisions, aboutReleases,
		aboutPermissions)
}

// aboutToken lists the assumptions about the store token.
var aboutToken = []assumption{
	{"The token", "the token works, and the store says whose it is",
		"the action stops at its first request, and says how to make a token", tryToken},
	{"The token", "answers have an ID, x-request-id", "errors don't name the request", tryRequestID},
	{"The token", "an unknown charm is answered with 404, and an error list with a code",
		"the error's advice is less precise", tryUnknownCharm},
	{"The token", "the account's tokens are listed with their end",
		"check-token can't say when a token ends, if the token doesn't", tryTokens},
}

// tryToken asks the store whose token this is, and what it may do.
func tryToken(ctx context.Context, c *contact) (finding, error) {
	token, err := c.client.Token(ctx)
	if err != nil {
		return refuted("%v", err)
	}
	c.token = token
	c.authorization = c.recorder.Authorization(c.at.Store.Host)
	return confirmed("it is that of %s, with %s", token.Account, listOr(token.Permissions, "every permission"))
}

// tryRequestID looks for the ID of a request in an answer.
func tryRequestID(ctx context.Context, c *contact) (finding, error) {
	a, err := c.store(ctx, http.MethodGet, "/v1/tokens/whoami", nil)
	if err != nil {
		return finding{}, err
	}
	view := a.header.Get("X-View-Name")
	if a.header.Get("X-Request-Id") == "" {
		return refuted("there is none; x-view-name is %q", view)
	}
	return confirmed("and x-view-name, %q", view)
}

// tryUnknownCharm asks for a charm that doesn't exist.
func tryUnknownCharm(ctx context.Context, c *contact) (finding, error) {
	a, err := c.store(ctx, http.MethodGet, "/v1/charm/no-charm-has-this-name-"+strings.ReplaceAll(c.date, "-", "")+
		"/resources", nil)
	if err != nil {
		return finding{}, err
	}
	if a.status != http.StatusNotFound || !strings.Contains(a.problem(), " resource-not-found: ") {
		return refuted("%s", a.problem())
	}
	return confirmed("%s", a.problem())
}

// tryTokens reads the list of the account's tokens.
func tryTokens(ctx context.Context, c *contact) (finding, error) {
	a, err := c.store(ctx, http.MethodGet, "/v1/tokens", nil)
	if err != nil {
		return finding{}, err
	}
	var list struct {
		Macaroons []struct {
			Until string `json:"valid-until"`
		}
	}
	if a.ok() != nil || json.Unmarshal(a.body, &list) != nil || list.Macaroons == nil {
		return refuted("%s", a.problem())
	}
	if c.token.Expires.IsZero() {
		return refuted("%d are listed, and none is recognised as this one", len(list.Macaroons))
	}
	return confirmed("%d are listed; this one ends on %s", len(list.Macaroons), c.token.Expires.Format(time.DateOnly))
}

// aboutCharm lists the assumptions about what the store says of a charm.
var aboutCharm = []assumption{
	{"The charm", "its revisions are listed with status, SHA3-384 and bases",
		"a charm file may be uploaded again, or a release refused", tryCharmRevisions},
	{"The charm", "its resources are listed with name, type and the charm revision that declares them",
		"the newest charm revision doesn't decide about a resource's type", tryResources},
	{"The charm", "the resources of one charm revision are listed by ?revision=N",
		"the action goes by the charm file, and by what is released with the charm revision", tryResourcesOf},
	{"The charm", "the channel map lists channels with their track, and each entry with base, revision and resources",
		"a release fails before it sends anything", tryChannelMap},
	{"The charm", "its default track is known", "a channel without a track, such as edge, is refused", tryDefaultTrack},
}

// tryCharmRevisions reads the charm's revisions, and chooses the one for the release.
func tryCharmRevisions(ctx context.Context, c *contact) (finding, error) {
	var list struct {
		Revisions []struct {
			Revision *int
			Status   string
			SHA3     string `json:"sha3-384"`
			Bases    []*base
		}
	}
	if err := c.list(ctx, "/revisions", &list); err != nil {
		return finding{}, err
	}
	statuses, nulls, sums := map[string]bool{}, 0, 0
	for _, r := range list.Revisions {
		statuses[r.Status] = true
		if r.Revision != nil && r.Status != "rejected" {
			c.charmRevision = max(c.charmRevision, *r.Revision)
		}
		if len(r.SHA3) == 96 {
			sums++
		}
		if len(r.Bases) == 0 || slices.Contains(r.Bases, nil) {
			nulls++
		}
	}
	note := fmt.Sprintf("%d revisions of the statuses %s, %d with a SHA3-384, %d without a base", len(list.Revisions),
		strings.Join(slices.Sorted(maps.Keys(statuses)), ", "), sums, nulls)
	if len(list.Revisions) == 0 {
		return untried("the charm has no revision")
	}
	return finding{sums == len(list.Revisions) && !statuses[""], note}, nil
}

// tryResources reads the charm's resources, and chooses those for uploads.
func tryResources(ctx context.Context, c *contact) (finding, error) {
	var list struct {
		Resources []struct {
			resource
			Revision *int
		}
	}
	if err := c.list(ctx, "/resources", &list); err != nil {
		return finding{}, err
	}
	revisions, err := c.client.CharmRevisions(ctx, c.charm)
	if err != nil {
		return finding{}, err
	}
	var wrong []string
	for _, r := range list.Resources {
		known := func(one charmhub.CharmRevision) bool { return r.Revision != nil && one.Revision == *r.Revision }
		if !slices.ContainsFunc(revisions, known) {
			wrong = append(wrong, r.Name)
		}
		c.declared[r.Name] = r.resource
	}
	c.chooseResources()
	if len(list.Resources) == 0 {
		return untried("the charm declares none")
	}
	if len(wrong) > 0 {
		return refuted("the number beside %s is no charm revision", strings.Join(wrong, ", "))
	}
	return confirmed("%s", describe(c.declared))
}

// chooseResources chooses those to try things on: the first by name of each type.
func (c *contact) chooseResources() {
	for _, name := range slices.Sorted(maps.Keys(c.declared)) {
		switch c.declared[name].Type {
		case "oci-image":
			if c.image == "" {
				c.image = name
			}
		case "file":
			if c.file == "" {
				c.file = name
			}
		}
	}
}

// describe returns the declared resources with their types, sorted, as text.
func describe(declared map[string]resource) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		text := name + " (" + declared[name].Type
		if declared[name].Optional {
			text += ", optional"
		}
		all = append(all, text+")")
	}
	return listOr(all, "none")
}

// tryResourcesOf reads the resources of one charm revision.
func tryResourcesOf(ctx context.Context, c *contact) (finding, error) {
	if c.charmRevision < 0 {
		return untried("no charm revision is known")
	}
	var list struct{ Resources []resource }
	if err := c.list(ctx, fmt.Sprintf("/resources?revision=%d", c.charmRevision), &list); err != nil {
		return refuted("%v", err)
	}
	revisions, err := c.client.CharmRevisions(ctx, c.charm)
	if err != nil {
		return finding{}, err
	}
	of := map[string]resource{}
	for _, r := range list.Resources {
		of[r.Name] = r
	}
	note := fmt.Sprintf("revision %d declares %s", c.charmRevision, describe(of))
	if len(of) == 0 {
		return refuted("%s", note)
	}
	c.declared = of
	if len(revisions) < 2 {
		return confirmed("%s; whether the parameter is ignored can't be seen with one charm revision", note)
	}
	var other struct{ Resources []resource }
	oldest := revisions[len(revisions)-1].Revision
	if err := c.list(ctx, fmt.Sprintf("/resources?revision=%d", oldest), &other); err != nil {
		return refuted("%s; revision %d: %v", note, oldest, err)
	}
	return confirmed("%s; revision %d declares %d", note, oldest, len(other.Resources))
}

// tryChannelMap reads the channel map, and keeps it to be compared later.
func tryChannelMap(ctx context.Context, c *contact) (finding, error) {
	var list struct {
		Map []struct {
			Base      *base
			Channel   string
			Revision  *int
			Resources []struct {
				Name     string
				Revision *int
			}
		} `json:"channel-map"`
		Package struct{ Channels []struct{ Track string } }
	}
	if err := c.list(ctx, "/releases", &list); err != nil {
		return finding{}, err
	}
	bare, noBase, empty := 0, 0, 0
	for _, entry := range list.Map {
		if strings.Count(entry.Channel, "/") == 0 {
			bare++
		}
		if entry.Base == nil {
			noBase++
		}
		for _, r := range entry.Resources {
			if r.Revision == nil {
				empty++
			}
		}
	}
	note := fmt.Sprintf("%d entries, %d without a base, %d resources without a revision", len(list.Map), noBase, empty)
	if len(list.Map) == 0 {
		return untried("nothing of the charm is released")
	}
	if bare > 0 || len(list.Package.Channels) == 0 {
		return refuted("%s, %d channels without a track, %d channels of the package", note, bare, len(list.Package.Channels))
	}
	return confirmed("%s", note)
}

// tryDefaultTrack reads the charm's default track.
func tryDefaultTrack(ctx context.Context, c *contact) (finding, error) {
	tracks, err := c.client.Tracks(ctx, c.charm)
	if err != nil {
		return refuted("%v", err)
	}
	return confirmed("%s", tracks.Default)
}

// listOr returns the entries of a list, or none if it is empty.
func listOr(list []string, none string) string {
	if len(list) == 0 {
		return none
	}
	return strings.Join(list, ", ")
}

// errNoImage is the reason that what needs an image resource isn't tried.
var errNoImage = errors.New("the charm declares no resource of type oci-image")

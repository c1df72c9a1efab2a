package charmhub

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

// NoRevision is the revision of a resource that a release doesn't have.
const NoRevision = -1

// Release is one entry of a channel map: the revisions on a channel for a base.
type Release struct {
	Channel  Channel
	Base     charm.Base // zero in a request: every base of the revision
	Revision int        // the charm's

	// Resources are the revisions of the charm's resources by name, NoRevision for a declared one that has none. A missing
	// name means the same; in a request, it leaves open what Charmhub does with a resource that was released before.
	Resources map[string]int
}

// Releases holds a charm's channel map, with its tracks and the charm revisions on it.
type Releases struct {
	Map       []Release       // sorted by channel and base
	Tracks    []string        // that the charm has; none if the store doesn't say
	Revisions []CharmRevision // those on the map, newest first
}

// Releases reads the channel map of charm: GET …/releases. Empty for a charm that was never released.
func (c *Client) Releases(ctx context.Context, charm string) (Releases, error) {
	var answer releasesAnswer
	err := c.ask(ctx, request{
		doing: "read the channel map of charm " + quoted(charm),
		charm: charm, path: "/releases", permission: viewReleases,
	}, &answer)
	return answer.releases(), err
}

// attachedResource is a resource of a release in the store's API. A revision of null, or without one, means none.
type attachedResource struct {
	Name     string `json:"name"`
	Revision *int   `json:"revision"`
}

// releasesAnswer is the store's answer to GET …/releases.
type releasesAnswer struct {
	Map     []channelMapEntry `json:"channel-map"`
	Package struct {
		Channels []struct{ Track string }
	}
	Revisions []listedCharmRevision
}

// releases returns the answer, sorted and without closed channels.
func (a releasesAnswer) releases() Releases {
	releases := Releases{Revisions: charmRevisions(a.Revisions)}
	for _, entry := range a.Map {
		channel, err := listedChannel(entry.Channel)
		if err != nil || entry.Revision == nil {
			continue // a channel without a valid name, or a closed one
		}
		releases.Map = append(releases.Map, Release{
			Channel: channel, Base: bases([]*charm.Base{entry.Base})[0], Revision: *entry.Revision,
			Resources: revisionsOf(entry.Resources),
		})
	}
	slices.SortStableFunc(releases.Map, func(a, b Release) int {
		return cmp.Or(a.Channel.Compare(b.Channel), a.Base.Compare(b.Base))
	})
	for _, channel := range a.Package.Channels {
		if channel.Track != "" && !slices.Contains(releases.Tracks, channel.Track) {
			releases.Tracks = append(releases.Tracks, channel.Track)
		}
	}
	return releases
}

// revisionsOf returns the revisions of resources by name, NoRevision for a resource that has none.
func revisionsOf(list []attachedResource) map[string]int {
	resources := map[string]int{}
	for _, resource := range list {
		resources[resource.Name] = NoRevision
		if resource.Revision != nil {
			resources[resource.Name] = *resource.Revision
		}
	}
	return resources
}

// Release puts revisions of charm on channels, all of them or none: POST …/releases. The answer repeats the request, so
// the channel map is what shows that it happened, also after an error that is [ErrUnclear].
//
// Every resource that a revision declares should be in its entry, as NoRevision where there is none: what a store does
// with those that are left out differs. charmcraft never names a base, and a store may refuse entries that do, or
// ignore it.
func (c *Client) Release(ctx context.Context, charm string, entries []Release) error {
	body := []channelMapEntry{}
	for _, entry := range entries {
		body = append(body, entry.toEntry())
	}
	var answer struct{}
	return c.ask(ctx, request{
		doing: "release charm " + quoted(charm),
		charm: charm, path: "/releases", permission: manageReleases,
		method: http.MethodPost, body: jsonBody(body), creates: true,
	}, &answer)
}

// channelMapEntry is an entry of a channel map in the store's API, and of a request to release.
type channelMapEntry struct {
	Channel   string             `json:"channel"`
	Revision  *int               `json:"revision"`
	Base      *charm.Base        `json:"base,omitempty"`
	Resources []attachedResource `json:"resources"`
}

// toEntry returns the release in the form of the store's API, with its resources sorted by name.
func (r Release) toEntry() channelMapEntry {
	entry := channelMapEntry{Channel: r.Channel.String(), Revision: &r.Revision, Resources: []attachedResource{}}
	if r.Base != (charm.Base{}) {
		entry.Base = &r.Base
	}
	for _, name := range slices.Sorted(maps.Keys(r.Resources)) {
		resource := attachedResource{Name: name}
		if number := r.Resources[name]; number != NoRevision {
			resource.Revision = &number
		}
		entry.Resources = append(entry.Resources, resource)
	}
	return entry
}

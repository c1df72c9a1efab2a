package charmhub

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
)

// Tracks are those of a charm, and which ones its publishers may add.
type Tracks struct {
	Default    string   // of a channel that names none, as Juju takes it
	Names      []string // empty if the store doesn't say
	Guardrails []string // regular expressions, of which one must match a new track's name
}

// Tracks returns the tracks of charm: GET /v1/charm/{charm}. Of the calls that a release makes, only this one needs the
// permission package-view-metadata.
func (c *Client) Tracks(ctx context.Context, charm string) (Tracks, error) {
	var answer struct {
		Metadata struct {
			DefaultTrack string `json:"default-track"` // null: latest
			Tracks       []struct{ Name string }
			Guardrails   []struct{ Pattern text } `json:"track-guardrails"`
		}
	}
	err := c.ask(ctx, request{doing: "ask for the tracks of charm " + quoted(charm), charm: charm,
		permission: viewMetadata}, &answer)
	tracks := Tracks{Default: cmp.Or(answer.Metadata.DefaultTrack, Latest)}
	for _, track := range answer.Metadata.Tracks {
		tracks.Names = append(tracks.Names, track.Name)
	}
	for _, guardrail := range answer.Metadata.Guardrails {
		if guardrail.Pattern != "" {
			tracks.Guardrails = append(tracks.Guardrails, string(guardrail.Pattern))
		}
	}
	return tracks, err
}

// Allow reports whether a guardrail allows a new track of this name. Guardrails are regular expressions of Python; one
// that Go can't compile allows every name, and leaves the decision to the store.
func (t Tracks) Allow(name string) bool {
	for _, pattern := range t.Guardrails {
		if form, err := regexp.Compile("^(?:" + pattern + ")$"); err != nil || form.MatchString(name) {
			return true
		}
	}
	return false
}

// trackForm matches what can be a track's name, apart from its length.
var trackForm = regexp.MustCompile(`^[A-Za-z0-9](?:[_.-]?[A-Za-z0-9])*$`)

// CheckTrackName returns an error if name can't be the name of a new track. The error is the rule.
func CheckTrackName(name string) error {
	if len(name) <= 28 && trackForm.MatchString(name) {
		return nil
	}
	return errors.New("a track's name has letters and digits, with single dots, hyphens or underscores between them, " +
		"and 28 characters at most")
}

// WhoCreatesTracks ends errors about tracks that the charm's publishers may not make.
const WhoCreatesTracks = "ask Charmhub's administrators for the track, or for a guardrail that allows it, at " +
	"https://discourse.charmhub.io/c/charmhub-requests"

// CreateTracks makes tracks of charm: POST …/tracks. A track can't be removed. One that exists already is an error.
// After an error that is [ErrUnclear] they may exist all the same.
func (c *Client) CreateTracks(ctx context.Context, charm string, names []string) error {
	body := []map[string]string{}
	for _, name := range names {
		body = append(body, map[string]string{"name": name})
	}
	what := "the track "
	if len(names) > 1 {
		what = "the tracks "
	}
	var answer struct{}
	return c.ask(ctx, request{
		doing: "create " + what + harmless(strings.Join(names, ", "), 200) + " of charm " + quoted(charm),
		charm: charm, path: tracksPath, permission: manage, // which one it takes isn't documented
		method: http.MethodPost, body: jsonBody(body), creates: true,
	}, &answer)
}

// tracksPath is the path of a charm's tracks, below that of the charm.
const tracksPath = "/tracks"

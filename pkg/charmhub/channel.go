package charmhub

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

// Channel is a place that charms are released to and installed from: track/risk,
// or a branch of that.
type Channel struct {
	Track  string
	Risk   string // one of Risks
	Branch string // empty for the channel itself
}

// Risks are the risks of a track, from the safest.
var Risks = []string{"stable", "candidate", "beta", "edge"}

// defaultTrack is the track of a channel that names none.
const defaultTrack = "latest"

// partForm is Charmhub's rule for the name of a track; branches
// are taken to follow it as well.
var partForm = regexp.MustCompile(`^[A-Za-z0-9](?:[_.-]?[A-Za-z0-9])*$`)

// ParseChannel reads [track/]risk[/branch]. Without a track it is of the track
// latest, whatever the charm's default track is.
func ParseChannel(text string) (Channel, error) {
	parts := strings.Split(text, "/")
	if slices.Contains(Risks, parts[0]) {
		parts = append([]string{defaultTrack}, parts...)
	}
	ok := len(parts) == 2 || len(parts) == 3
	for n, part := range parts {
		ok = ok && (n != 1 || slices.Contains(Risks, part)) && len(part) <= 128 && partForm.MatchString(part)
	}
	if !ok {
		return Channel{}, fmt.Errorf("%.80q is not a channel; give track/risk or track/risk/branch, with a risk of %s",
			text, strings.Join(Risks, ", "))
	}
	return Channel{Track: parts[0], Risk: parts[1], Branch: strings.Join(parts[2:], "")}, nil
}

// String returns the channel with its track, as Charmhub lists it.
func (c Channel) String() string {
	name := c.Track + "/" + c.Risk
	if c.Branch != "" {
		name += "/" + c.Branch
	}
	return name
}

// Compare orders channels by track, then from the safest risk, then by branch.
func (c Channel) Compare(other Channel) int {
	return cmp.Or(cmp.Compare(c.Track, other.Track),
		cmp.Compare(slices.Index(Risks, c.Risk), slices.Index(Risks, other.Risk)),
		cmp.Compare(c.Branch, other.Branch))
}

// bases returns a list as values; null becomes the zero base.
func bases(listed []*charm.Base) []charm.Base {
	var all []charm.Base
	for _, b := range listed {
		if b == nil {
			b = &charm.Base{}
		}
		all = append(all, *b)
	}
	return all
}

package charmhub

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

// Channel is a place that charms are released to and installed from: track/risk, or a branch of that.
type Channel struct {
	Track  string // empty in an input that names none
	Risk   string // one of Risks
	Branch string // empty for the channel itself
}

// Risks are the risks of a track, from the safest.
var Risks = []string{"stable", "candidate", "beta", "edge"}

// Latest is the track that every charm has. It is the default track of a charm that sets no other.
const Latest = "latest"

// partForm is what the name of a track or a branch may be. It is wider than Charmhub's rule for tracks, fix--1 is a
// branch: Charmhub knows which ones there are.
var partForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*$`)

// ParseChannel reads [track/]risk[/branch].
func ParseChannel(text string) (Channel, error) {
	track, rest, _ := strings.Cut(text, "/")
	ok := validPart(track)
	if slices.Contains(Risks, track) {
		track, rest = "", text
	}
	risk, branch, branched := strings.Cut(rest, "/")
	if !ok || !slices.Contains(Risks, risk) || branched && !validPart(branch) {
		return Channel{}, fmt.Errorf("%.80q is not a channel; give track/risk or track/risk/branch, with a risk of %s",
			text, strings.Join(Risks, ", "))
	}
	return Channel{Track: track, Risk: risk, Branch: branch}, nil
}

// validPart reports whether name can be a track or a branch.
func validPart(name string) bool { return len(name) <= 128 && partForm.MatchString(name) }

// listedChannel reads a channel as Charmhub lists it, with its track. Compatible servers leave out the track latest.
func listedChannel(text string) (Channel, error) {
	channel, err := ParseChannel(text)
	channel.Track = cmp.Or(channel.Track, Latest)
	return channel, err
}

// String returns the channel as Charmhub lists it.
func (c Channel) String() string {
	name := c.Risk
	if c.Track != "" {
		name = c.Track + "/" + c.Risk
	}
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

package charm

import (
	"cmp"
	"fmt"
	"regexp"
)

// Base is what a revision of a charm runs on. The zero value means none.
type Base struct {
	Name         string `json:"name"`         // ubuntu
	Channel      string `json:"channel"`      // 24.04
	Architecture string `json:"architecture"` // Charmhub's name
}

// String returns the base as charmcraft shows it: ubuntu 24.04 (amd64).
func (b Base) String() string {
	if b == (Base{}) {
		return "any base"
	}
	return fmt.Sprintf("%s %s (%s)", b.Name, b.Channel, b.Architecture)
}

// Compare orders bases by name, channel and architecture.
func (b Base) Compare(other Base) int {
	return cmp.Or(cmp.Compare(b.Name, other.Name), cmp.Compare(b.Channel, other.Channel),
		cmp.Compare(b.Architecture, other.Architecture))
}

// Platform returns the base as charmcraft.yaml has it, and as [ParseBaseFilter] reads it: ubuntu@24.04:amd64.
func (b Base) Platform() string {
	if b == (Base{}) {
		return b.String()
	}
	return BaseFilter(b).String()
}

// BaseFilter chooses bases: those whose parts are equal to each part that isn't empty.
type BaseFilter struct{ Name, Channel, Architecture string }

// baseFilterForm matches [name@]channel[:architecture].
var baseFilterForm = regexp.MustCompile(`^(?:([A-Za-z0-9._-]+)@)?([A-Za-z0-9._-]+)(?::([A-Za-z0-9._-]+))?$`)

// ParseBaseFilter reads [name@]channel[:architecture], with Charmhub's name for the architecture. The error says what
// to write instead.
func ParseBaseFilter(text string) (BaseFilter, error) {
	parts := baseFilterForm.FindStringSubmatch(text)
	if parts == nil {
		return BaseFilter{}, fmt.Errorf("%.80q is no base; write its channel, or name@channel, or either with "+
			":architecture, "+
			"for example 24.04 or ubuntu@22.04:arm64", text)
	}
	filter := BaseFilter{Name: parts[1], Channel: parts[2], Architecture: parts[3]}
	if filter.Architecture != "" {
		if err := CheckArchitecture(filter.Architecture); err != nil {
			return BaseFilter{}, fmt.Errorf("the architecture of %.80q is wrong: %w", text, err)
		}
	}
	return filter, nil
}

// Matches reports whether the filter chooses the base.
func (f BaseFilter) Matches(b Base) bool {
	return (f.Name == "" || f.Name == b.Name) && (f.Channel == "" || f.Channel == b.Channel) &&
		(f.Architecture == "" || f.Architecture == b.Architecture)
}

// String returns the filter in the form that [ParseBaseFilter] reads.
func (f BaseFilter) String() string {
	text := f.Channel
	if f.Name != "" {
		text = f.Name + "@" + text
	}
	if f.Architecture != "" {
		text += ":" + f.Architecture
	}
	return text
}

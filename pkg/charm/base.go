package charm

import (
	"cmp"
	"fmt"
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

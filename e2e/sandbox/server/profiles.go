package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The profiles of a sandbox.
const (
	Production = "production" // as public evidence says that Charmhub behaves
	Strict     = "strict"     // refuses and drops what it may, and looks like compatible servers
	Rude       = "rude"       // answers late, in part, with errors in passing, and does what nobody asked for
)

// profiles holds the options of each profile, by its name.
var profiles = map[string]Options{
	Production: {},
	Strict: {
		SeparateTokenService: true, SameRegistryUser: true, NestedHashes: true, NewestFirst: true, SortedBases: true,
		RejectDuplicates: true, Rows: RowsOfNewest, NoReleaseBase: true, DropOmitted: true, FromZero: true,
	},
	Rude: {
		SpacedJSON: true, TokenLife: time.Minute, Statuses: []string{"new", "needs_review", "scanned"}, Lag: 10 * time.Second,
		UnnumberedDuplicates: true, Rows: RowsOfAll, Timeouts: true, Outages: true, NullAnswers: true,
		IgnoreReleaseBase: true,
	},
}

// Profiles returns the names of the profiles, sorted.
func Profiles() []string { return slices.Sorted(maps.Keys(profiles)) }

// Profile returns the options of a profile, for others to be added to.
func Profile(name string) (Options, error) {
	options, ok := profiles[name]
	if !ok {
		return options, fmt.Errorf("there is no profile %q, but %s", name, strings.Join(Profiles(), ", "))
	}
	options.Statuses = slices.Clone(options.Statuses)
	return options, nil
}

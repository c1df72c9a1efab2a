// Package channelmap plans releases: from what is on a charm's channels, and what is wanted there, it computes the
// requests that lead from one to the other. It makes no call, so a dry run can show a plan without carrying it out.
//
// Resources belong to a channel's entry for a base, not to the charm revision on it, and Charmhub may drop what a
// request leaves out. So a plan says everything about an entry that it changes: the resources that were given, else
// those of the entry now, or of the entry that is promoted.
package channelmap

import (
	"fmt"
	"maps"
	"slices"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// Wanted describes what the channels should have after the release. At most one of Revisions and From is set. Without
// both, each channel keeps its charm revisions.
type Wanted struct {
	Channels  []charmhub.Channel
	Revisions []int              // of the charm; see [Planned]
	From      charmhub.Channel   // whose charm revisions and resources are promoted; zero for none
	Resources map[string]int     // revisions by name, or ToUpload, for every charm revision that declares the name
	Bases     []charm.BaseFilter // that are released for; none for all

	CreateTracks bool // those that the charm lacks
	HasLines     bool // Resources are written as lines name = source, not as name:revision
}

// adviceFor says how to write a revision of a resource that is missing.
func (w Wanted) adviceFor(declared charmhub.Resource) string {
	switch {
	case !w.HasLines:
		return fmt.Sprintf("give one with the input resources, as %s:REVISION", declared.Name)
	case declared.Type == charm.TypeFile:
		return fmt.Sprintf("in the input resources, write %[1]s = PATH, or %[1]s = revision NUMBER", declared.Name)
	default:
		return fmt.Sprintf("in the input resources, write %[1]s = IMAGE, or %[1]s = revision NUMBER", declared.Name)
	}
}

// Includes reports whether the release is for the base.
func (w Wanted) Includes(base charm.Base) bool {
	return len(w.Bases) == 0 || slices.ContainsFunc(w.Bases,
		func(filter charm.BaseFilter) bool { return filter.Matches(base) })
}

// Planned returns the placeholder for the revision of the nth charm file, until the file is uploaded. It is negative,
// so that no revision has it.
func Planned(n int) int { return -1 - n }

// ToUpload is the placeholder for the revision of a resource until the resource is uploaded.
const ToUpload = charmhub.NoRevision - 1

// IsPlanned reports whether a charm revision is a placeholder that [Planned] returned.
func IsPlanned(revision int) bool { return revision < 0 }

// Describe names a revision of the charm in a sentence.
func Describe(revision int) string {
	if IsPlanned(revision) {
		return "a new charm revision"
	}
	return fmt.Sprintf("charm revision %d", revision)
}

// Known holds what the store says about the charm: its channel map, revisions, tracks and resources.
type Known struct {
	Releases  charmhub.Releases
	Revisions []charmhub.CharmRevision // those that can be released
	Tracks    charmhub.Tracks          // if one may have to be created

	// Declared are the resources of charm revisions, as the store lists them. A list may be incomplete: what a revision
	// has on the map is declared by it, too.
	Declared map[int][]charmhub.Resource
	// Files are charm files by the revision that each of them is. A file's metadata says what its revision declares,
	// whatever the store lists.
	Files map[int]charm.Archive

	// Resources are the revisions of the resources in [Wanted], and of those that a charm revision may keep from another
	// one.
	Resources map[string][]charmhub.Revision
}

// Plan describes a release: the channel map before and after it, and the entries to send.
type Plan struct {
	Rows []Row // sorted by channel and base; those that stay as they are, too

	// Entries are to be sent in one request; none if all is so already. One without a base is for all bases of its charm
	// revision. A base is named only where they differ in what they get. Entries that name one are first: what a store
	// that ignores it puts in the wrong place is replaced by the entries after them.
	Entries []charmhub.Release

	NewTracks []string // that the charm lacks, and that are to be created first

	LeftOut []Row // of the bases that weren't asked for, sorted; what they have stays there

	// Others are the entries of the channels that the release isn't about.
	Others []charmhub.Release
}

// Row is a channel map entry: a channel and a base.
type Row struct {
	Before *charmhub.Release // nil if nothing is there
	After  charmhub.Release  // with every resource that its charm revision declares

	NewChannel bool // nothing was on the channel, for any base

	// What the entry has of what was on the channel before, since nothing else was asked for.
	KeepsRevision bool
	KeptResources []string // sorted
}

// Changed reports whether the release changes the entry.
func (r Row) Changed() bool { return r.Before == nil || !sameContent(*r.Before, r.After) }

// Missing returns the names of the resources that the entry goes without, though its charm revision declares them.
func (r Row) Missing() []string {
	return namesOf(r.After.Resources, func(_ string, revision int) bool { return revision == charmhub.NoRevision })
}

// Dropped returns the names of the resources that are there now and won't be, since the new charm revision doesn't
// declare them.
func (r Row) Dropped() []string {
	if r.Before == nil {
		return nil
	}
	return namesOf(r.Before.Resources, func(name string, revision int) bool {
		_, declared := r.After.Resources[name]
		return revision != charmhub.NoRevision && !declared
	})
}

// namesOf returns the sorted names of the resources that chosen returns true for.
func namesOf(resources map[string]int, chosen func(name string, revision int) bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		if chosen(name, resources[name]) {
			names = append(names, name)
		}
	}
	return names
}

// Unmet returns the rows whose release isn't on the channel map now. Before of each is replaced by what is on the map
// now.
func (p Plan) Unmet(now charmhub.Releases) []Row {
	var unmet []Row
	for _, row := range p.Rows {
		row.Before = releaseFor(now, row.After.Channel, row.After.Base)
		if row.Changed() {
			unmet = append(unmet, row)
		}
	}
	return unmet
}

// Outdated returns the rows whose entry changed since the plan was made. Before of each is replaced by what is on the
// map now.
func (p Plan) Outdated(now charmhub.Releases) []Row {
	var outdated []Row
	for _, row := range p.Rows {
		there := releaseFor(now, row.After.Channel, row.After.Base)
		if !sameOrNothing(there, row.Before) {
			row.Before = there
			outdated = append(outdated, row)
		}
	}
	return outdated
}

// Conflict is an entry that is neither as it was when a plan was made, nor as the plan makes it.
type Conflict struct {
	Channel charmhub.Channel
	Base    charm.Base
	Want    *charmhub.Release // nil for nothing
	Now     *charmhub.Release // nil for nothing
}

// Conflicts returns what is on the plan's channels now and should not be: after the release somebody else released
// there, or the store released for other bases than it was asked to.
func (p Plan) Conflicts(now charmhub.Releases) []Conflict {
	var conflicts []Conflict
	for _, row := range p.Outdated(now) {
		if row.Changed() {
			conflicts = append(conflicts, Conflict{row.After.Channel, row.After.Base, &row.After, row.Before})
		}
	}
	for _, other := range p.Others {
		if there := releaseFor(now, other.Channel, other.Base); !sameOrNothing(there, &other) {
			conflicts = append(conflicts, Conflict{other.Channel, other.Base, &other, there})
		}
	}
	for _, release := range now.Map {
		if p.namesBase(release.Channel) && !p.expects(release) {
			conflicts = append(conflicts, Conflict{release.Channel, release.Base, nil, &release})
		}
	}
	return conflicts
}

// namesBase reports whether a request to release to the channel names a base.
func (p Plan) namesBase(channel charmhub.Channel) bool {
	return slices.ContainsFunc(p.Entries, func(entry charmhub.Release) bool {
		return entry.Channel == channel && entry.Base != charm.Base{}
	})
}

// expects reports whether there may be an entry for the channel and base of release.
func (p Plan) expects(release charmhub.Release) bool {
	here := func(other charmhub.Release) bool {
		return other.Channel == release.Channel && other.Base == release.Base
	}
	return release.Base == charm.Base{} || slices.ContainsFunc(p.Others, here) ||
		slices.ContainsFunc(p.Rows, func(row Row) bool { return here(row.After) })
}

// sameContent reports whether two entries have the same content. A resource that one goes without may be missing in the
// other.
func sameContent(a, b charmhub.Release) bool {
	return a.Revision == b.Revision && maps.Equal(attached(a.Resources), attached(b.Resources))
}

// sameOrNothing reports whether two entries have the same content, or are both nil.
func sameOrNothing(a, b *charmhub.Release) bool {
	return a == nil && b == nil || a != nil && b != nil && sameContent(*a, *b)
}

// attached returns the resources that have a revision. The given map stays as it is.
func attached(resources map[string]int) map[string]int {
	clone := maps.Clone(resources)
	maps.DeleteFunc(clone, func(_ string, revision int) bool { return revision == charmhub.NoRevision })
	return clone
}

// releaseFor returns the entry of a channel for a base, or nil. An entry without a base is used for every base that has
// no entry of its own.
func releaseFor(releases charmhub.Releases, channel charmhub.Channel, base charm.Base) *charmhub.Release {
	var found *charmhub.Release
	for _, release := range releasesOn(releases, channel) {
		if release.Base == base || release.Base == (charm.Base{}) && found == nil {
			found = &release
		}
	}
	return found
}

// releasesOn returns the entries of a channel, in their order.
func releasesOn(releases charmhub.Releases, channel charmhub.Channel) []charmhub.Release {
	var entries []charmhub.Release
	for _, release := range releases.Map {
		if release.Channel == channel {
			entries = append(entries, release)
		}
	}
	return entries
}

// bases are those of a charm revision; none if they aren't known.
func (k Known) bases(revision int) []charm.Base {
	for _, r := range k.Revisions {
		if r.Revision == revision && len(r.Bases) > 0 {
			return r.Bases
		}
	}
	return k.Files[revision].Bases
}

// DeclaredBy returns the resources that a charm revision declares, sorted by name.
func (k Known) DeclaredBy(revision int) []charmhub.Resource {
	byName := map[string]charmhub.Resource{}
	if file, ok := k.Files[revision]; ok {
		for name, r := range file.Resources {
			byName[name] = charmhub.Resource{Name: name, Type: r.Type, Optional: r.Optional}
		}
	} else {
		for _, release := range k.Releases.Map {
			if release.Revision != revision {
				continue
			}
			for name := range release.Resources { // the store knows whether it's optional
				byName[name] = charmhub.Resource{Name: name, Optional: true}
			}
		}
		for _, r := range k.Declared[revision] {
			byName[r.Name] = r
		}
	}
	var declared []charmhub.Resource
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		declared = append(declared, byName[name])
	}
	return declared
}

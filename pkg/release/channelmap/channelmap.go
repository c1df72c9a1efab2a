// Package channelmap plans releases: from what is on a charm's channels, and what is
// wanted there, it computes the requests that lead from one to the other. It makes
// no call, so a dry run can show a plan without carrying it out.
//
// Resources belong to a channel's entry for a base, not to the charm revision on it,
// and Charmhub may drop what a request leaves out. So a plan says everything
// about an entry that it changes: the resources that were given, else those of the
// entry now, or of the entry that is promoted.
package channelmap

import (
	"maps"
	"slices"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// Wanted is what is to be on channels. Of Revisions and From at most one is set;
// without both, the charm revisions that are on each channel now stay there.
type Wanted struct {
	Channels  []charmhub.Channel
	Revisions []int            // of the charm
	From      charmhub.Channel // whose charm revisions and resources are promoted; zero for none
	Resources map[string]int   // revisions by name, for every charm revision that declares the name
}

// Known is what the store has of the charm.
type Known struct {
	Releases  charmhub.Releases
	Revisions []charmhub.CharmRevision // those that can be released
	Declared  []charmhub.Resource      // by each of these

	// Resources are the revisions of the resources in [Wanted].
	Resources map[string][]charmhub.Revision
}

// Plan is what a release does.
type Plan struct {
	Rows []Row // sorted by channel and base; those that stay as they are, too

	// Entries are to be sent in one request; none if all is so already. One
	// without a base is for all bases of its charm revision. A base is named only
	// where they differ in what they get.
	Entries []charmhub.Release
}

// Row is a channel map entry: a channel and a base.
type Row struct {
	Before *charmhub.Release // nil if nothing is there
	After  charmhub.Release  // with every resource that its charm revision declares
}

// Changed reports whether the row becomes something else.
func (r Row) Changed() bool { return r.Before == nil || !same(*r.Before, r.After) }

// Unmet returns the rows of the plan that are not on the map, with what is there in
// the place of what was there when the plan was made.
func (p Plan) Unmet(now charmhub.Releases) []Row {
	var unmet []Row
	for _, row := range p.Rows {
		row.Before = at(now, row.After.Channel, row.After.Base)
		if row.Changed() {
			unmet = append(unmet, row)
		}
	}
	return unmet
}

// Outdated returns the rows that somebody changed since the plan was made, with what
// is there now in the place of what was there then.
func (p Plan) Outdated(now charmhub.Releases) []Row {
	var outdated []Row
	for _, row := range p.Rows {
		there := at(now, row.After.Channel, row.After.Base)
		if (there == nil) != (row.Before == nil) || there != nil && !same(*there, *row.Before) {
			row.Before = there
			outdated = append(outdated, row)
		}
	}
	return outdated
}

// same reports whether two entries have the same content. A resource that one goes without
// may be missing in the other.
func same(a, b charmhub.Release) bool {
	return a.Revision == b.Revision && maps.Equal(attached(a.Resources), attached(b.Resources))
}

func attached(resources map[string]int) map[string]int {
	clone := maps.Clone(resources)
	maps.DeleteFunc(clone, func(_ string, revision int) bool { return revision == charmhub.NoRevision })
	return clone
}

// at returns what is on a channel for a base; nil for nothing. An entry without a
// base is for those that have none of their own.
func at(releases charmhub.Releases, channel charmhub.Channel, base charm.Base) *charmhub.Release {
	var found *charmhub.Release
	for _, release := range on(releases, channel) {
		if release.Base == base || release.Base == (charm.Base{}) && found == nil {
			found = &release
		}
	}
	return found
}

func on(releases charmhub.Releases, channel charmhub.Channel) []charmhub.Release {
	var entries []charmhub.Release
	for _, release := range releases.Map {
		if release.Channel == channel {
			entries = append(entries, release)
		}
	}
	return entries
}

// entries returns what has to be sent for the rows.
func entries(rows []Row, known Known) []charmhub.Release {
	type place struct {
		channel  charmhub.Channel
		revision int
	}
	together := map[place][]Row{}
	var places []place
	for _, row := range rows {
		p := place{row.After.Channel, row.After.Revision}
		if together[p] == nil {
			places = append(places, p)
		}
		together[p] = append(together[p], row)
	}
	var send []charmhub.Release
	for _, p := range places {
		rows := together[p]
		if !slices.ContainsFunc(rows, Row.Changed) {
			continue
		}
		if alike(rows, known.bases(p.revision)) {
			all := rows[0].After
			all.Base = charm.Base{}
			send = append(send, all)
			continue
		}
		for _, row := range rows {
			if row.Changed() {
				send = append(send, row.After)
			}
		}
	}
	return send
}

// alike reports whether the rows of a charm revision are for all of its bases, and get
// the same.
func alike(rows []Row, bases []charm.Base) bool {
	covered := map[charm.Base]bool{}
	for _, row := range rows {
		if !same(row.After, rows[0].After) {
			return false
		}
		covered[row.After.Base] = true
	}
	return covered[charm.Base{}] || !slices.ContainsFunc(bases, func(b charm.Base) bool { return !covered[b] })
}

// bases are those of a charm revision.
func (k Known) bases(revision int) []charm.Base {
	for _, r := range k.Revisions {
		if r.Revision == revision && len(r.Bases) > 0 {
			return r.Bases
		}
	}
	return nil
}

// With returns k with a revision of the charm that a charm file is: its bases, and
// the resources that it declares, unless the store lists them already.
func (k Known) With(revision int, file charm.Archive) Known {
	if !slices.ContainsFunc(k.Revisions, func(r charmhub.CharmRevision) bool { return r.Revision == revision && len(r.Bases) > 0 }) {
		k.Revisions = append(slices.Clone(k.Revisions), charmhub.CharmRevision{Revision: revision, SHA3: file.SHA3, Bases: file.Bases})
	}
	if slices.ContainsFunc(k.Declared, func(r charmhub.Resource) bool { return r.CharmRevision == revision }) {
		return k
	}
	k.Declared = slices.Clone(k.Declared)
	for _, name := range slices.Sorted(maps.Keys(file.Resources)) {
		r := file.Resources[name]
		k.Declared = append(k.Declared, charmhub.Resource{Name: name, Type: r.Type, CharmRevision: revision, Optional: r.Optional})
	}
	return k
}

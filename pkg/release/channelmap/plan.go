package channelmap

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// NotListedError is about a revision that is wanted and that the store doesn't list.
// Its list lags behind: a revision that was approved seconds ago can be missing.
type NotListedError struct {
	Resource string // empty for a revision of the charm
	Revision int
	newest   int // that is listed; -1 if there is none
}

func (e *NotListedError) Error() string {
	subject, command := "the charm", "`charmcraft revisions`"
	if e.Resource != "" {
		subject, command = "resource '"+e.Resource+"'", "`charmcraft resource-revisions`"
	}
	if e.newest < 0 {
		return fmt.Sprintf("release revision %d of %s: there is none on Charmhub; upload it first", e.Revision, subject)
	}
	return fmt.Sprintf("release revision %d of %s: there is no such revision, the newest is %d; give one that %s lists",
		e.Revision, subject, e.newest, command)
}

// New plans the release that makes the channels of the charm as wanted. The error
// names every reason that makes this impossible; the plan is empty then.
func New(wanted Wanted, known Known) (Plan, error) {
	if err := errors.Join(checkChannels(wanted, known), checkRevisions(wanted, known)); err != nil {
		return Plan{}, err
	}
	var rows []Row
	var complaints []error
	for _, channel := range unique(wanted.Channels) {
		placed, err := place(channel, wanted, known)
		complaints = append(complaints, err)
		for _, after := range placed {
			rows = append(rows, Row{Before: at(known.Releases, channel, after.Base), After: after})
		}
	}
	if err := errors.Join(complaints...); err != nil {
		return Plan{}, err
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(a.After.Channel.Compare(b.After.Channel), a.After.Base.Compare(b.After.Base))
	})
	if err := bind(rows, wanted, known); err != nil {
		return Plan{}, err
	}
	return Plan{Rows: rows, Entries: entries(rows, known)}, nil
}

// checkChannels complains about channels that can't be released to or from.
func checkChannels(wanted Wanted, known Known) error {
	var complaints []error
	tracks := known.Releases.Tracks
	for _, channel := range unique(wanted.Channels) {
		if len(tracks) > 0 && !slices.Contains(tracks, channel.Track) {
			complaints = append(complaints, fmt.Errorf("release to %s: the charm has no track %s, but %s; create it with `charmcraft create-track`, or give another channel",
				channel, channel.Track, strings.Join(tracks, ", ")))
		}
		if channel == wanted.From {
			complaints = append(complaints, fmt.Errorf("promote from %s: the channel is the target as well; give another channel", channel))
		}
	}
	return errors.Join(complaints...)
}

// checkRevisions complains about revisions that aren't there.
func checkRevisions(wanted Wanted, known Known) error {
	var complaints []error
	for _, number := range unique(wanted.Revisions) {
		newest, found := -1, false
		for _, r := range known.Revisions {
			newest, found = max(newest, r.Revision), found || r.Revision == number
		}
		if !found {
			complaints = append(complaints, &NotListedError{Revision: number, newest: newest})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted.Resources)) {
		newest, found := -1, false
		for _, r := range known.Resources[name] {
			newest, found = max(newest, r.Revision), found || r.Revision == wanted.Resources[name]
		}
		declared := slices.ContainsFunc(known.Declared, func(r charmhub.Resource) bool { return r.Name == name })
		if !found && declared { // else it has the wrong name
			complaints = append(complaints, &NotListedError{Resource: name, Revision: wanted.Resources[name], newest: newest})
		}
	}
	return errors.Join(complaints...)
}

// place returns the charm revisions that are to be on a channel, with the resources
// that they would have there if none was given.
func place(channel charmhub.Channel, wanted Wanted, known Known) ([]charmhub.Release, error) {
	switch {
	case len(wanted.Revisions) > 0:
		return placeRevisions(channel, wanted, known)
	case wanted.From != charmhub.Channel{}:
		promoted := on(known.Releases, wanted.From)
		if len(promoted) == 0 {
			return nil, fmt.Errorf("promote from %s to %s: nothing is released on %s; give another channel, or release there first",
				wanted.From, channel, wanted.From)
		}
		for n := range promoted {
			promoted[n].Channel = channel
		}
		return promoted, nil
	default:
		there := on(known.Releases, channel)
		if len(there) == 0 {
			return nil, fmt.Errorf("release to %s: no charm revision is there yet; give one with the input charms, charm-revision or from-channel", channel)
		}
		return there, nil
	}
}

// placeRevisions puts each charm revision on all of its bases.
func placeRevisions(channel charmhub.Channel, wanted Wanted, known Known) ([]charmhub.Release, error) {
	var placed []charmhub.Release
	taken := map[charm.Base]int{}
	for _, number := range unique(wanted.Revisions) {
		bases := known.bases(number)
		if len(bases) == 0 {
			bases = []charm.Base{{}}
		}
		for _, base := range unique(bases) {
			if other, ok := taken[base]; ok {
				return nil, fmt.Errorf("release to %s: %s and %s are both for %s, where there is place for one; give only one of them",
					channel, Describe(other), Describe(number), base)
			}
			taken[base] = number
			release := charmhub.Release{Channel: channel, Base: base, Revision: number}
			if now := at(known.Releases, channel, base); now != nil {
				release.Resources = now.Resources
			}
			placed = append(placed, release)
		}
	}
	return placed, nil
}

// Describe names a revision of the charm in a sentence. A negative number is in the
// place of one that is still to be created.
func Describe(revision int) string {
	if revision < 0 {
		return "a new charm revision"
	}
	return fmt.Sprintf("charm revision %d", revision)
}

// bind gives each row the resources that its charm revision declares.
func bind(rows []Row, wanted Wanted, known Known) error {
	var complaints []error
	used, complained := map[string]bool{}, map[string]bool{}
	for n := range rows {
		after := &rows[n].After
		from := after.Resources
		after.Resources = map[string]int{}
		for _, declared := range known.declared(after.Revision) {
			number, given := wanted.Resources[declared.Name]
			there, isThere := from[declared.Name]
			used[declared.Name] = true
			var err error
			switch {
			case given:
				err = known.checkType(declared, number)
			case isThere:
				number = there
			case declared.Optional:
				number = charmhub.NoRevision
			default:
				err = fmt.Errorf("release %s to %s for %s: this charm revision needs resource '%s', of which no revision is there; "+
					"give one with the input resources, as %s:REVISION", Describe(after.Revision), after.Channel, after.Base, declared.Name, declared.Name)
			}
			after.Resources[declared.Name] = number
			// Bases that lack the same are not worth a line each.
			if key := fmt.Sprint(after.Revision, declared.Name); err != nil && !complained[key] {
				complained[key] = true
				complaints = append(complaints, err)
			}
		}
	}
	declared := "or any other; leave it out"
	if len(used) > 0 {
		declared = "but " + strings.Join(slices.Sorted(maps.Keys(used)), ", ") + "; correct its name, or leave it out"
	}
	for _, name := range slices.Sorted(maps.Keys(wanted.Resources)) {
		if !used[name] {
			complaints = append(complaints, fmt.Errorf("release resource '%s': no charm revision of this release declares it, %s", name, declared))
		}
	}
	return errors.Join(complaints...)
}

// declared are the resources that a charm revision declares. Where the store lists
// none, they are those that were released with it, each of which it needs.
func (k Known) declared(revision int) []charmhub.Resource {
	var declared []charmhub.Resource
	for _, r := range k.Declared {
		if r.CharmRevision == revision || r.CharmRevision == 0 {
			declared = append(declared, r)
		}
	}
	if len(declared) > 0 {
		return declared
	}
	names := map[string]bool{}
	for _, release := range k.Releases.Map {
		if release.Revision == revision {
			for name := range release.Resources {
				names[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		declared = append(declared, charmhub.Resource{Name: name})
	}
	return declared
}

// checkType complains about a revision that was uploaded when the charm declared the
// resource as something else.
func (k Known) checkType(declared charmhub.Resource, number int) error {
	for _, r := range k.Resources[declared.Name] {
		if r.Revision == number && r.Type != "" && declared.Type != "" && r.Type != declared.Type {
			return fmt.Errorf("release revision %d of resource '%s': that revision is of type %s, but %s declares %s; give a revision of that type",
				number, declared.Name, r.Type, Describe(declared.CharmRevision), declared.Type)
		}
	}
	return nil
}

// unique returns the values in their order, each once.
func unique[T comparable](values []T) []T {
	var once []T
	for _, value := range values {
		if !slices.Contains(once, value) {
			once = append(once, value)
		}
	}
	return once
}

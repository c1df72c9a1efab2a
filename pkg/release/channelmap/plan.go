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

// NotListedError says that the store doesn't list a revision that should be released. A revision that was approved
// seconds ago can be missing from the list.
type NotListedError struct {
	Resource string // empty for a revision of the charm
	Revision int
	newest   int // that is listed; -1 if there is none
}

// Error says which revision is missing, and what to do.
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

// MayBeNew reports whether the revision may have been made since the store made the list.
func (e *NotListedError) MayBeNew() bool {
	const atOnce = 10 // revisions that a job can make before its release
	return e.Revision > e.newest && e.Revision <= e.newest+atOnce
}

// New computes the plan that makes the channels as wanted. If that is impossible, the error names every reason, and the
// plan is empty.
func New(wanted Wanted, known Known) (Plan, error) {
	if err := errors.Join(checkChannels(wanted, known), checkRevisions(wanted, known)); err != nil {
		return Plan{}, err
	}
	plan := Plan{NewTracks: newTracks(wanted, known)}
	var complaints []error
	for _, channel := range unique(wanted.Channels) {
		releases, err := charmsFor(channel, wanted, known)
		if err == nil {
			err = checkBases(channel, releases, wanted)
		}
		complaints = append(complaints, err)
		for _, after := range releases {
			row := Row{
				Before: releaseFor(known.Releases, channel, after.Base), After: after,
				NewChannel:    len(releasesOn(known.Releases, channel)) == 0,
				KeepsRevision: len(wanted.Revisions) == 0 && wanted.From == charmhub.Channel{},
			}
			if wanted.Includes(after.Base) {
				plan.Rows = append(plan.Rows, row)
			} else {
				plan.LeftOut = append(plan.LeftOut, row)
			}
		}
	}
	if err := errors.Join(complaints...); err != nil {
		return Plan{}, err
	}
	inOrder := func(a, b Row) int {
		return cmp.Or(a.After.Channel.Compare(b.After.Channel), a.After.Base.Compare(b.After.Base))
	}
	slices.SortStableFunc(plan.Rows, inOrder)
	slices.SortStableFunc(plan.LeftOut, inOrder)
	if err := assignResources(plan.Rows, wanted, known); err != nil {
		return Plan{}, err
	}
	plan.Entries = entriesFor(plan.Rows, known)
	for _, channel := range unique(wanted.Channels) {
		for _, release := range releasesOn(known.Releases, channel) {
			if !plan.expects(release) {
				plan.Others = append(plan.Others, release)
			}
		}
	}
	return plan, nil
}

// checkChannels complains about channels that can't be released to or from.
func checkChannels(wanted Wanted, known Known) error {
	var complaints []error
	missing := newTracks(wanted, known)
	for _, channel := range unique(wanted.Channels) {
		if slices.Contains(missing, channel.Track) {
			complaints = append(complaints, checkNewTrack(channel, wanted, known))
		}
		if channel == wanted.From {
			complaints = append(complaints,
				fmt.Errorf("promote from %s: the channel is the target as well; give another channel", channel))
		}
		complaints = append(complaints, checkProgressive("release to", channel, releasesOn(known.Releases, channel)))
	}
	if !slices.Contains(wanted.Channels, wanted.From) {
		promoted := slices.DeleteFunc(releasesOn(known.Releases, wanted.From),
			func(r charmhub.Release) bool { return !wanted.Includes(r.Base) })
		complaints = append(complaints, checkProgressive("promote from", wanted.From, promoted))
	}
	return errors.Join(complaints...)
}

// newTracks returns the tracks that the charm lacks.
func newTracks(wanted Wanted, known Known) []string {
	tracks := slices.Concat(known.Releases.Tracks, known.Tracks.Names)
	var missing []string
	for _, channel := range wanted.Channels {
		if len(tracks) > 0 && !slices.Contains(tracks, channel.Track) {
			missing = append(missing, channel.Track)
		}
	}
	return unique(missing)
}

// checkNewTrack complains about a track that isn't there if it isn't to be created, or can't be.
func checkNewTrack(channel charmhub.Channel, wanted Wanted, known Known) error {
	lacks := fmt.Sprintf("release to %s: the charm has no track %s", channel, channel.Track)
	if !wanted.CreateTracks {
		return fmt.Errorf("%s, but %s; give another channel, or let the action release create it, with create-track: true",
			lacks, strings.Join(known.Releases.Tracks, ", "))
	}
	switch err := charmhub.CheckTrackName(channel.Track); {
	case err != nil:
		return fmt.Errorf("%s, and none of that name can be created; %w", lacks, err)
	case len(known.Tracks.Guardrails) == 0:
		return fmt.Errorf("%s, and no track guardrails, which say what tracks its publishers may create; %s", lacks,
			charmhub.WhoCreatesTracks)
	case !known.Tracks.Allow(channel.Track):
		return fmt.Errorf("%s, and its track guardrails allow only new ones that match %s; correct the channel, or %s",
			lacks, strings.Join(known.Tracks.Guardrails, " or "), charmhub.WhoCreatesTracks)
	}
	return nil
}

// checkProgressive complains about a channel that has two entries for one base.
func checkProgressive(doing string, channel charmhub.Channel, releases []charmhub.Release) error {
	seen := map[charm.Base]charmhub.Release{}
	var complaints []error
	for _, release := range releases {
		if first, twice := seen[release.Base]; twice {
			complaints = append(complaints,
				fmt.Errorf("%s %s: the channel has two entries for %s, with %s and %s, as during a progressive release; "+
					"end that first, so that there is one", doing, channel, release.Base, Describe(first.Revision),
					Describe(release.Revision)))
		}
		seen[release.Base] = release
	}
	return errors.Join(complaints...)
}

// checkRevisions returns an error for each wanted revision that the store doesn't list.
func checkRevisions(wanted Wanted, known Known) error {
	var complaints []error
	for _, number := range unique(wanted.Revisions) {
		newest := -1
		_, found := known.Files[number]
		for _, r := range known.Revisions {
			newest, found = max(newest, r.Revision), found || r.Revision == number
		}
		if !found {
			complaints = append(complaints, &NotListedError{Revision: number, newest: newest})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted.Resources)) {
		newest, found := -1, wanted.Resources[name] == ToUpload
		for _, r := range known.Resources[name] {
			newest, found = max(newest, r.Revision), found || r.Revision == wanted.Resources[name]
		}
		if !found && known.someDeclare(name) { // else it has the wrong name
			complaints = append(complaints, &NotListedError{Resource: name, Revision: wanted.Resources[name], newest: newest})
		}
	}
	return errors.Join(complaints...)
}

// someDeclare reports whether a charm revision declares the resource.
func (k Known) someDeclare(name string) bool {
	revisions := slices.AppendSeq(slices.Collect(maps.Keys(k.Declared)), maps.Keys(k.Files))
	for _, release := range k.Releases.Map {
		revisions = append(revisions, release.Revision)
	}
	return slices.ContainsFunc(revisions, func(revision int) bool {
		return slices.ContainsFunc(k.DeclaredBy(revision), func(r charmhub.Resource) bool { return r.Name == name })
	})
}

// charmsFor returns the charm revisions that the channel should have, with the resources that they get unless the
// inputs give others.
func charmsFor(channel charmhub.Channel, wanted Wanted, known Known) ([]charmhub.Release, error) {
	switch {
	case len(wanted.Revisions) > 0:
		return givenCharms(channel, wanted, known), nil
	case wanted.From != charmhub.Channel{}:
		promoted := releasesOn(known.Releases, wanted.From)
		if len(promoted) == 0 {
			return nil, fmt.Errorf("promote from %s to %s: nothing is released on %s; give another channel, or release there "+
				"first",
				wanted.From, channel, wanted.From)
		}
		for n := range promoted {
			promoted[n].Channel = channel
		}
		return promoted, nil
	default:
		there := releasesOn(known.Releases, channel)
		if len(there) == 0 {
			return nil, fmt.Errorf("release to %s: no charm revision is there yet; give one with the input charms, "+
				"charm-revision or from-channel", channel)
		}
		return there, nil
	}
}

// givenCharms puts each charm revision on all of its bases.
func givenCharms(channel charmhub.Channel, wanted Wanted, known Known) []charmhub.Release {
	var releases []charmhub.Release
	for _, number := range unique(wanted.Revisions) {
		bases := known.bases(number)
		if len(bases) == 0 {
			bases = []charm.Base{{}}
		}
		for _, base := range unique(bases) {
			release := charmhub.Release{Channel: channel, Base: base, Revision: number}
			if now := releaseFor(known.Releases, channel, base); now != nil {
				release.Resources = now.Resources
			}
			releases = append(releases, release)
		}
	}
	return releases
}

// checkBases returns an error for each filter that matches no release for the channel, and for each base that would
// get two charm revisions.
func checkBases(channel charmhub.Channel, releases []charmhub.Release, wanted Wanted) error {
	var complaints []error
	var bases []string
	taken := map[charm.Base]int{}
	for _, release := range releases {
		bases = append(bases, release.Base.Platform())
		if other, ok := taken[release.Base]; ok && wanted.Includes(release.Base) {
			return fmt.Errorf("release to %s: %s and %s are both for %s, where there is place for one; give only one of them",
				channel, Describe(other), Describe(release.Revision), release.Base)
		}
		taken[release.Base] = release.Revision
	}
	for _, filter := range unique(wanted.Bases) {
		if !slices.ContainsFunc(releases, func(r charmhub.Release) bool { return filter.Matches(r.Base) }) {
			complaints = append(complaints,
				fmt.Errorf("release to %s: nothing is for %s of the input bases, but for %s; correct it, or leave it out",
					channel, filter, strings.Join(unique(bases), ", ")))
		}
	}
	return errors.Join(complaints...)
}

// assignResources gives each row the resources that its charm revision declares.
func assignResources(rows []Row, wanted Wanted, known Known) error {
	var complaints []error
	used, complained := map[string]bool{}, map[string]bool{}
	for n := range rows {
		row := &rows[n]
		after, from := &row.After, row.After.Resources
		after.Resources = map[string]int{}
		for _, declared := range known.DeclaredBy(after.Revision) {
			used[declared.Name] = true
			number, given := wanted.Resources[declared.Name]
			there, isThere := from[declared.Name]
			var err error
			switch {
			case given:
				err = known.checkType(after.Revision, declared, number)
			case isThere && there != charmhub.NoRevision:
				number = there
				err = known.checkType(after.Revision, declared, number)
				if wanted.From == (charmhub.Channel{}) {
					row.KeptResources = append(row.KeptResources, declared.Name)
				}
			case declared.Optional:
				number = charmhub.NoRevision
			default:
				err = fmt.Errorf("release %s to %s for %s: this charm revision needs resource '%s', of which no revision is "+
					"there; %s", Describe(after.Revision), after.Channel, after.Base, declared.Name, wanted.adviceFor(declared))
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
			complaints = append(complaints,
				fmt.Errorf("release resource '%s': no charm revision of this release declares it, %s", name, declared))
		}
	}
	return errors.Join(complaints...)
}

// checkType complains about a revision that was uploaded when the charm declared the resource as something else.
func (k Known) checkType(charmRevision int, declared charmhub.Resource, number int) error {
	for _, r := range k.Resources[declared.Name] {
		if r.Revision == number && r.Type != "" && declared.Type != "" && r.Type != declared.Type {
			return fmt.Errorf("release revision %d of resource '%s': that revision is of type %s, but %s declares %s; "+
				"give a revision of that type with the input resources", number, declared.Name, r.Type, Describe(charmRevision),
				declared.Type)
		}
	}
	return nil
}

// entriesFor returns what has to be sent for the rows.
func entriesFor(rows []Row, known Known) []charmhub.Release {
	type group struct {
		channel  charmhub.Channel
		revision int
	}
	grouped := map[group][]Row{}
	var groups []group
	for _, row := range rows {
		g := group{row.After.Channel, row.After.Revision}
		if grouped[g] == nil {
			groups = append(groups, g)
		}
		grouped[g] = append(grouped[g], row)
	}
	var named, all []charmhub.Release
	for _, g := range groups {
		if coversBases(grouped[g], known.bases(g.revision)) {
			continue
		}
		for _, row := range grouped[g] {
			if row.Changed() {
				named = append(named, row.After)
			}
		}
	}
	for _, g := range groups {
		rows := grouped[g]
		if !coversBases(rows, known.bases(g.revision)) {
			continue
		}
		if slices.ContainsFunc(rows, Row.Changed) ||
			slices.ContainsFunc(rows, func(row Row) bool { return mayBeReplaced(row, named, known) }) {
			entry := rows[0].After
			entry.Base = charm.Base{}
			all = append(all, entry)
		}
	}
	return append(named, all...)
}

// coversBases reports whether the rows of a charm revision are for all of its bases, and get the same. If the bases
// aren't known, it returns false.
func coversBases(rows []Row, bases []charm.Base) bool {
	covered := map[charm.Base]bool{}
	for _, row := range rows {
		if !sameContent(row.After, rows[0].After) {
			return false
		}
		covered[row.After.Base] = true
	}
	return covered[charm.Base{}] || len(bases) > 0 &&
		!slices.ContainsFunc(bases, func(b charm.Base) bool { return !covered[b] })
}

// mayBeReplaced reports whether a store that ignores bases in a request would put something else in the place of the
// row.
func mayBeReplaced(row Row, named []charmhub.Release, known Known) bool {
	return slices.ContainsFunc(named, func(entry charmhub.Release) bool {
		bases := known.bases(entry.Revision)
		return entry.Channel == row.After.Channel && (len(bases) == 0 || slices.Contains(bases, row.After.Base))
	})
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

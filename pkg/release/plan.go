package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// releasePlan is a plan for the channel map, with the charm files and the store's lists from which it was computed.
type releasePlan struct {
	channelmap.Plan
	files []CharmFile
	known channelmap.Known
}

// plan looks at the store and makes the plan. A revision that the store doesn't know may have been made seconds ago, by
// the step before this one, so it looks again for that.
func (r *Releaser) plan(ctx context.Context, in Inputs, name string, files []CharmFile) (p releasePlan, err error) {
	err = upload.Repeat(ctx, r.Wait, upload.AttemptsForAMinute, func() (pause time.Duration, again bool, err error) {
		if p, err = r.readStore(ctx, in, name, files); err == nil {
			p, err = p.computeFor(in)
		}
		again = mayBeNew(err)
		if again {
			r.Runner.Logger().Info("Looking again, since Charmhub may not show yet what was made seconds ago", zap.Error(err))
		}
		return 0, again, err
	})
	return p, err
}

// wanted returns what the inputs ask of the channels. It lacks the charm files, which have no revisions yet.
func (in Inputs) wanted() channelmap.Wanted {
	return channelmap.Wanted{
		Channels: in.Channels, Revisions: in.Revisions, From: in.From, Resources: in.Resources, Bases: in.Bases,
		CreateTracks: in.CreateTracks, HasLines: in.HasLines,
	}
}

// computeFor returns p with the plan for the inputs, computed from the files and lists in p.
func (p releasePlan) computeFor(in Inputs) (releasePlan, error) {
	wanted := in.wanted()
	p.known.Files = map[int]charm.Archive{}
	for _, file := range p.files {
		wanted.Revisions = append(slices.Clip(wanted.Revisions), file.Revision)
		p.known.Files[file.Revision] = file.Archive
	}
	var declared []string
	for _, revision := range in.Revisions {
		for _, resource := range p.known.DeclaredBy(revision) {
			declared = append(declared, resource.Name)
		}
	}
	err := in.checkResources(declared)
	if err == nil && len(in.Channels) > 0 {
		p.Plan, err = channelmap.New(wanted, p.known)
	}
	return p, err
}

// withUploaded returns the inputs with the revisions of resources that were uploaded.
func (in Inputs) withUploaded(revisions map[string]charmhub.Revision) Inputs {
	in.Resources = maps.Clone(in.Resources)
	for name, revision := range revisions {
		in.Resources[name] = revision.Revision
	}
	return in
}

// withUploaded adds revisions that a list may lack yet.
func (p releasePlan) withUploaded(revisions map[string]charmhub.Revision) releasePlan {
	p.known.Resources = maps.Clone(p.known.Resources)
	for name, revision := range revisions {
		p.known.Resources[name] = append(slices.Clip(p.known.Resources[name]), revision)
	}
	return p
}

// mayBeNew reports whether every part of err can be explained by revisions that were created seconds ago.
func mayBeNew(err error) bool {
	switch err := err.(type) { //nolint:errorlint // all that was joined counts, not any
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(err.Unwrap(), func(one error) bool { return !mayBeNew(one) })
	case *channelmap.NotListedError:
		return err.MayBeNew()
	case *notFoundError:
		return true
	}
	return false
}

// notFoundError is about a revision that the store lists and, asked for it, doesn't find.
type notFoundError struct{ error }

// Unwrap returns the store's refusal.
func (e *notFoundError) Unwrap() error { return e.error }

// isNotFound reports whether the store answered 404.
func isNotFound(err error) bool {
	refused, ok := errors.AsType[*charmhub.Error](err)
	return ok && refused.Status == http.StatusNotFound
}

// readStore reads what a plan depends on from the store, with requests in parallel. The result has no plan yet.
func (r *Releaser) readStore(
	ctx context.Context, in Inputs, name string, files []CharmFile,
) (p releasePlan, err error) {
	given := slices.Sorted(maps.Keys(in.Resources))
	revisions := make([][]charmhub.Revision, len(given))
	steps := []func() error{func() (err error) {
		if len(in.Files)+len(in.Revisions) > 0 { // others are on the channel map
			p.known.Revisions, err = r.Store.CharmRevisions(ctx, name)
		}
		return err
	}}
	if len(in.Channels) > 0 {
		steps = append(steps, func() (err error) { p.known.Releases, err = r.Store.Releases(ctx, name); return err })
	}
	for n, resource := range given {
		if in.Resources[resource] != channelmap.ToUpload {
			steps = append(steps, func() (err error) {
				revisions[n], err = r.resourceRevisions(ctx, name, resource)
				return err
			})
		}
	}
	if err := parallel.All(steps...); err != nil {
		return p, err
	}
	p.known.Resources = map[string][]charmhub.Revision{}
	for n, resource := range given {
		p.known.Resources[resource] = revisions[n]
	}
	p.known.Revisions = mergeRevisions(p.known.Revisions, p.known.Releases.Revisions)
	p.files = withRevisions(files, p.known.Revisions)
	p.known, err = r.readDetails(ctx, in, name, p.known)
	return p, err
}

// readDetails adds to known what only the channel map shows to be needed: the resources that the charm revisions to
// release declare, their bases if the map lacks them, the types of the resources that they may keep from the revision
// before, and the tracks that may be created.
func (r *Releaser) readDetails(
	ctx context.Context, in Inputs, name string, known channelmap.Known,
) (channelmap.Known, error) {
	var steps []func() error
	listed := func(revision int) bool {
		return slices.ContainsFunc(known.Revisions,
			func(r charmhub.CharmRevision) bool { return r.Revision == revision && len(r.Bases) > 0 })
	}
	undeclared, attached := in.missingDetails(known)
	declared := make([][]charmhub.Resource, len(undeclared))
	for n, revision := range undeclared {
		steps = append(steps, func() (err error) { declared[n], err = r.declaredBy(ctx, name, revision); return err })
	}
	var all []charmhub.CharmRevision
	asked := len(in.Files)+len(in.Revisions) > 0
	if !asked && slices.ContainsFunc(undeclared, func(revision int) bool { return !listed(revision) }) {
		steps = append(steps, func() (err error) { all, err = r.Store.CharmRevisions(ctx, name); return err })
	}
	if in.CreateTracks && slices.ContainsFunc(in.Channels,
		func(c charmhub.Channel) bool { return !slices.Contains(known.Releases.Tracks, c.Track) }) {
		steps = append(steps, func() (err error) { known.Tracks, err = r.Store.Tracks(ctx, name); return err })
	}
	revisions := make([][]charmhub.Revision, len(attached))
	for n, resource := range attached {
		steps = append(steps, func() (err error) { revisions[n], err = r.resourceRevisions(ctx, name, resource); return err })
	}
	if err := parallel.All(steps...); err != nil {
		return known, err
	}
	known.Declared, known.Resources = maps.Clone(known.Declared), maps.Clone(known.Resources)
	if known.Declared == nil {
		known.Declared = map[int][]charmhub.Resource{}
	}
	for n, revision := range undeclared {
		known.Declared[revision] = declared[n]
	}
	for n, resource := range attached {
		known.Resources[resource] = revisions[n]
	}
	known.Revisions = mergeRevisions(all, known.Revisions)
	return known, nil
}

// missingDetails returns what readDetails has to read: the charm revisions whose declared resources are not in known,
// and the resources that a charm revision may keep from its channel and whose revisions are not in known.
func (in Inputs) missingDetails(known channelmap.Known) (undeclared []int, attached []string) {
	released, channels := in.Revisions, in.Channels
	if in.From != (charmhub.Channel{}) {
		channels = []charmhub.Channel{in.From}
	}
	var names []string
	for _, release := range known.Releases.Map {
		// An entry without a base may be what the channel has for any of them.
		if !slices.Contains(channels, release.Channel) || !in.wanted().Includes(release.Base) &&
			release.Base != (charm.Base{}) {
			continue
		}
		if len(in.Files)+len(in.Revisions) > 0 {
			names = slices.AppendSeq(names, maps.Keys(release.Resources))
		} else {
			released = append(slices.Clip(released), release.Revision)
		}
	}
	for _, revision := range released {
		isListed := slices.ContainsFunc(known.Revisions,
			func(r charmhub.CharmRevision) bool { return r.Revision == revision })
		if _, ok := known.Declared[revision]; !ok && (isListed || len(in.Revisions) == 0) &&
			!slices.Contains(undeclared, revision) {
			undeclared = append(undeclared, revision)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if _, ok := known.Resources[name]; !ok {
			attached = append(attached, name)
		}
	}
	return undeclared, attached
}

// declaredBy returns what a charm revision declares that the store lists.
func (r *Releaser) declaredBy(ctx context.Context, name string, revision int) ([]charmhub.Resource, error) {
	declared, err := r.Store.ResourcesOf(ctx, name, revision)
	if isNotFound(err) {
		return nil, &notFoundError{err}
	}
	return declared, err
}

// resourceRevisions returns the revisions of a resource; none of one that no charm revision declares yet, of which the
// plan says so if none of the files does.
func (r *Releaser) resourceRevisions(ctx context.Context, name, resource string) ([]charmhub.Revision, error) {
	revisions, err := r.Store.Revisions(ctx, name, resource)
	if isNotFound(err) {
		return nil, nil
	}
	return revisions, err
}

// mergeRevisions returns both lists, of which the second may repeat the first.
func mergeRevisions(all, more []charmhub.CharmRevision) []charmhub.CharmRevision {
	all = slices.Clone(all)
	for _, revision := range more {
		if !slices.ContainsFunc(all, func(r charmhub.CharmRevision) bool { return r.Revision == revision.Revision }) {
			all = append(all, revision)
		}
	}
	return all
}

// planAgain makes the plan that is sent: with the numbers of the revisions that were created, and from the channel map
// as it is now, since somebody else may have released in the meantime.
func (r *Releaser) planAgain(
	ctx context.Context, in Inputs, name string, files []CharmFile, before releasePlan,
) (releasePlan, error) {
	now, err := r.Store.Releases(ctx, name)
	if err != nil {
		return before, err
	}
	for _, row := range before.Outdated(now) {
		r.Runner.Logger().Warn(fmt.Sprintf("Somebody else released to %s for %s in the meantime: it has %s now, which is "+
			"what this release starts from",
			row.After.Channel, row.After.Base, describe(row.Before)))
	}
	after := releasePlan{files: files, known: before.known}
	after.known.Releases = now
	after.known.Revisions = mergeRevisions(before.known.Revisions, now.Revisions)
	if after.known, err = r.readDetails(ctx, in, name, after.known); err != nil {
		return before, err
	}
	return after.computeFor(in)
}

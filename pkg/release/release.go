// Package release uploads charm files, and puts charm and resource revisions on
// channels. It changes nothing that is as wanted already.
//
// [ReadInputs] says what is to be released, [Releaser.Release] does it and returns a
// [Result], and [Report] turns this into the log's last lines, the step's summary
// and its outputs. Nothing flows back.
package release

import (
	"context"
	"crypto/sha3"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// Store is Charmhub, as [charmhub.Client] has it.
type Store interface {
	CharmRevisions(ctx context.Context, charm string) ([]charmhub.CharmRevision, error)
	Resources(ctx context.Context, charm string) ([]charmhub.Resource, error)
	Revisions(ctx context.Context, charm, resource string) ([]charmhub.Revision, error)
	Releases(ctx context.Context, charm string) (charmhub.Releases, error)
	Release(ctx context.Context, charm string, entries []charmhub.Release) ([]charmhub.Release, error)
	Upload(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) (uploadID string, err error)
	CreateCharmRevision(ctx context.Context, charm, uploadID string) (statusURL string, err error)
	Await(ctx context.Context, statusURL string) (charmhub.Reviewed, error)
}

// Files opens the files that inputs name, as [workspace.Workspace] does.
type Files interface {
	Open(path string) (*os.File, error)
}

// Runner shows what is being done, as [action.Runner] does.
type Runner interface {
	Logger() *zap.Logger
	Progress(what string, total int64) (add func(bytes int64), done func())
}

// filesAtOnce is how many charm files are uploaded at once.
const filesAtOnce = 4

// Releaser uploads charm files and puts revisions on channels. It has no state of
// its own.
type Releaser struct {
	Store  Store
	Files  Files
	Runner Runner
	// Wait pauses, as [transport.Sleep] does.
	Wait func(context.Context, time.Duration) error
}

// Result is what came of a release.
type Result struct {
	Charm    string
	Charms   []CharmFile     // that were given
	Plan     channelmap.Plan // as it was carried out; a negative charm revision is one that a dry run would create
	Released bool            // anything was put on a channel
	DryRun   bool            // nothing was
}

// CharmFile is a charm file, and the revision that it is.
type CharmFile struct {
	charm.Archive
	Path     string
	Size     int64 // in bytes
	Revision int   // negative until there is one
	Created  bool  // the revision is new
}

// Release does what the inputs ask for. Everything that can be wrong with that is
// found before anything is sent; all entries are released by one request, or none.
func (r *Releaser) Release(ctx context.Context, in Inputs) (done Result, err error) {
	uploads := "" // what may have come of the charm files
	defer func() {
		if cause := context.Cause(ctx); err != nil && cause != nil && !done.Released && !errors.Is(err, charmhub.ErrUnclear) {
			err = fmt.Errorf("stopped: %w; nothing was released%s", cause, uploads)
		}
	}()
	done.DryRun = in.DryRun
	if done.Charm, err = r.name(in); err != nil {
		return done, err
	}
	known, err := r.plan(ctx, in, &done)
	if err != nil || in.DryRun {
		return done, err
	}
	if slices.ContainsFunc(done.Charms, func(f CharmFile) bool { return f.Revision < 0 }) {
		uploads = ", but the store may have made revisions of the charm files, which running this again uses"
	}
	if err := r.upload(ctx, &done, known.Revisions); err != nil {
		return done, err
	}
	if len(done.Plan.Entries) == 0 {
		return done, nil
	}
	if done.Plan, err = r.planAgain(ctx, in, done, known); err != nil || len(done.Plan.Entries) == 0 {
		return done, err
	}
	done.Released, err = r.send(ctx, done.Charm, done.Plan)
	return done, err
}

// name returns the charm's name.
func (r *Releaser) name(in Inputs) (string, error) {
	if in.Charm != "" {
		return in.Charm, nil
	}
	metadata, err := inputs.ReadMetadata(r.Files, in.Metadata)
	if err != nil {
		return "", err
	}
	return inputs.CharmName(metadata, in.Metadata)
}

// readStore reads from the store all that a plan depends on, and the charm files. A
// file that is no revision yet gets a negative number in its place.
func (r *Releaser) readStore(ctx context.Context, in Inputs, done *Result) (known channelmap.Known, err error) {
	name := done.Charm
	var revisions []charmhub.CharmRevision
	steps := []func() error{
		func() (err error) { done.Charms, err = r.readCharms(ctx, in.Files, name); return err },
		func() (err error) {
			if len(in.Files)+len(in.Revisions) > 0 { // others are on the channel map
				revisions, err = r.Store.CharmRevisions(ctx, name)
			}
			return err
		},
	}
	resources := make([][]charmhub.Revision, len(in.Resources))
	given := slices.Sorted(maps.Keys(in.Resources))
	if len(in.Channels) > 0 {
		steps = append(steps,
			func() (err error) { known.Releases, err = r.Store.Releases(ctx, name); return err },
			func() (err error) { known.Declared, err = r.Store.Resources(ctx, name); return err })
		for n, resource := range given {
			steps = append(steps, func() (err error) {
				resources[n], err = r.Store.Revisions(ctx, name, resource)
				if refused := new(charmhub.Error); errors.As(err, &refused) && refused.Status == http.StatusNotFound {
					return nil // no charm revision declares it yet: the plan says so, if none of the files does
				}
				return err
			})
		}
	}
	if err := parallel.All(steps...); err != nil {
		return known, err
	}
	known.Resources = map[string][]charmhub.Revision{}
	for n, resource := range given {
		known.Resources[resource] = resources[n]
	}
	known.Revisions = merge(revisions, known.Releases.Revisions)
	for n := range done.Charms {
		file := &done.Charms[n]
		file.Revision = -1 - n
		if at := slices.IndexFunc(revisions, func(r charmhub.CharmRevision) bool { return r.SHA3 == file.SHA3 }); at >= 0 {
			file.Revision = revisions[at].Revision
		}
		known = known.With(file.Revision, file.Archive)
	}
	return known, nil
}

// merge returns both lists, of which the second may repeat the first.
func merge(all, more []charmhub.CharmRevision) []charmhub.CharmRevision {
	for _, revision := range more {
		if !slices.ContainsFunc(all, func(r charmhub.CharmRevision) bool { return r.Revision == revision.Revision }) {
			all = append(all, revision)
		}
	}
	return all
}

// readCharms reads the charm files, which must be the charm's, and none twice.
func (r *Releaser) readCharms(ctx context.Context, paths []string, name string) ([]CharmFile, error) {
	var files []CharmFile
	for _, path := range paths {
		file, err := r.readCharm(ctx, path)
		switch {
		case err != nil:
			return nil, fmt.Errorf("input charms: %w", err)
		case file.Name != name:
			return nil, fmt.Errorf("input charms: %s is of charm '%s', not '%s'; give files of one charm, by its name", path, file.Name, name)
		}
		if !slices.ContainsFunc(files, func(other CharmFile) bool { return other.SHA3 == file.SHA3 }) {
			files = append(files, file)
		}
	}
	return files, nil
}

func (r *Releaser) readCharm(ctx context.Context, path string) (CharmFile, error) {
	file, err := r.Files.Open(path)
	switch {
	case errors.Is(err, workspace.ErrFolder):
		return CharmFile{}, fmt.Errorf("%s is a folder; give the file that `charmcraft pack` made", path)
	case err != nil:
		return CharmFile{}, err
	}
	// A large file takes long to read: a run that is stopped ends that.
	stop := context.AfterFunc(ctx, func() { _ = file.Close() })
	defer func() { stop(); _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return CharmFile{}, err
	}
	archive, err := charm.ReadArchive(file, info.Size())
	if err != nil {
		return CharmFile{}, fmt.Errorf("%s: %w", path, err)
	}
	return CharmFile{Archive: archive, Path: path, Size: info.Size()}, nil
}

// plan makes the plan, and returns what it is based on. A revision that the store
// doesn't list may have been made seconds ago, by the step before this one, so the
// store is asked again for it.
func (r *Releaser) plan(ctx context.Context, in Inputs, done *Result) (known channelmap.Known, err error) {
	for attempt := 1; ; attempt++ {
		if known, err = r.readStore(ctx, in, done); err != nil || len(in.Channels) == 0 {
			return known, err
		}
		done.Plan, err = channelmap.New(in.wanted(done.Charms), known)
		if unlisted := new(channelmap.NotListedError); attempt == upload.Attempts || ctx.Err() != nil || !errors.As(err, &unlisted) {
			return known, err
		}
		r.Runner.Logger().Info("Looking again, since lists of Charmhub lag behind", zap.Error(err))
		if err := r.Wait(ctx, time.Duration(attempt)*time.Second); err != nil {
			return known, err
		}
	}
}

func (in Inputs) wanted(files []CharmFile) channelmap.Wanted {
	w := channelmap.Wanted{Channels: in.Channels, Revisions: in.Revisions, From: in.From, Resources: in.Resources}
	for _, file := range files {
		w.Revisions = append(w.Revisions, file.Revision)
	}
	return w
}

// upload makes revisions of the files that are none of the known ones.
func (r *Releaser) upload(ctx context.Context, done *Result, known []charmhub.CharmRevision) error {
	errs := make([]error, len(done.Charms))
	var group parallel.Group
	group.SetLimit(filesAtOnce)
	for n := range done.Charms {
		file := &done.Charms[n]
		group.Go(func() error {
			if file.Revision >= 0 {
				r.Runner.Logger().Info("Charm file unchanged", zap.String("file", file.Path), zap.Int("revision", file.Revision))
				return nil
			}
			reviewed, err := r.create(ctx, done.Charm, *file)
			if err != nil {
				errs[n] = fmt.Errorf("upload %s: %w", file.Path, err)
				return nil
			}
			// The store answers with an older revision if that has the content,
			// which a list that lags behind may not have shown.
			file.Revision = reviewed.Revision
			file.Created = !reviewed.Existed &&
				!slices.ContainsFunc(known, func(r charmhub.CharmRevision) bool { return r.Revision >= reviewed.Revision })
			what := "Charm file unchanged"
			if file.Created {
				what = "Charm revision created"
			}
			r.Runner.Logger().Info(what, zap.String("file", file.Path), zap.Int("revision", file.Revision))
			return nil
		})
	}
	_ = group.Wait() // the errors are in their order in errs
	return errors.Join(errs...)
}

// create uploads a charm file and waits for its revision. It tries again after
// temporary failures, which is safe: the store answers with the revision that the
// file is, if it is one.
func (r *Releaser) create(ctx context.Context, name string, file CharmFile) (charmhub.Reviewed, error) {
	for attempt := 1; ; attempt++ {
		reviewed, err := r.createOnce(ctx, name, file)
		pause, again := upload.RetryAfter(err)
		if err == nil || attempt == upload.Attempts || !again || ctx.Err() != nil {
			reviewed.Existed = reviewed.Existed && attempt == 1 // what exists may come of an earlier try
			return reviewed, err
		}
		r.Runner.Logger().Info("Trying again to upload a charm file", zap.String("file", file.Path), zap.Error(err))
		if err := r.Wait(ctx, max(pause, time.Duration(attempt)*time.Second)); err != nil {
			return reviewed, err
		}
	}
}

func (r *Releaser) createOnce(ctx context.Context, name string, file CharmFile) (reviewed charmhub.Reviewed, err error) {
	add, end := r.Runner.Progress("Sending "+filepath.Base(file.Path), file.Size)
	open := func() (io.ReadCloser, error) { return r.Files.Open(file.Path) }
	id, err := r.Store.Upload(ctx, filepath.Base(file.Path), file.Size, upload.Verified(open, sha3.New384, file.SHA3, add))
	end()
	if err != nil {
		return reviewed, err
	}
	status, err := r.Store.CreateCharmRevision(ctx, name, id)
	if err != nil {
		return reviewed, err
	}
	return r.Store.Await(ctx, status)
}

// planAgain makes the plan that is sent: with the numbers of the revisions that were
// created, and from the channel map as it is now, since somebody else may have
// released in the meantime.
func (r *Releaser) planAgain(ctx context.Context, in Inputs, done Result, known channelmap.Known) (channelmap.Plan, error) {
	now, err := r.Store.Releases(ctx, done.Charm)
	if err != nil {
		return channelmap.Plan{}, err
	}
	for _, row := range done.Plan.Outdated(now) {
		r.Runner.Logger().Warn(fmt.Sprintf("Somebody else released to %s for %s in the meantime: it has %s now, which is what this release starts from",
			row.After.Channel, row.After.Base, describe(row.Before)))
	}
	known.Releases = now
	known.Revisions = merge(known.Revisions, now.Revisions)
	for _, file := range done.Charms {
		known = known.With(file.Revision, file.Archive)
	}
	return channelmap.New(in.wanted(done.Charms), known)
}

// send releases, and makes sure that it happened. Sent again, a request changes
// nothing, so one whose answer was lost is repeated unless the channel map shows it,
// or something that somebody else released, which the repetition would replace.
func (r *Releaser) send(ctx context.Context, name string, plan channelmap.Plan) (released bool, err error) {
	var lost error // why an earlier request may have been carried out all the same
	for attempt := 1; ; attempt++ {
		answer, err := r.Store.Release(ctx, name, plan.Entries)
		if err == nil {
			for _, asked := range plan.Entries {
				if !slices.ContainsFunc(answer, func(done charmhub.Release) bool {
					return done.Channel == asked.Channel && done.Revision == asked.Revision
				}) {
					return true, fmt.Errorf("release charm revision %d to %s: Charmhub's answer doesn't have it; look at `charmcraft status`, and run this again",
						asked.Revision, asked.Channel)
				}
			}
			return true, r.confirm(ctx, name, plan)
		}
		pause, again := upload.RetryAfter(err)
		switch {
		case errors.Is(err, charmhub.ErrUnclear):
			lost = err
		case lost != nil:
			err = fmt.Errorf("%w; and then %w", lost, err)
		}
		switch {
		case !again && refusesBases(err, plan.Entries):
			return false, fmt.Errorf("%w; one charm revision has other resources on each base, for which the request has to name a base, "+
				"and the store may not take that; give the input resources, which are for all bases", err)
		case !again || ctx.Err() != nil:
			return false, mayHaveReleased(err)
		}
		r.Runner.Logger().Info("Looking whether it was released, and trying again if not", zap.Error(err))
		if r.Wait(ctx, max(pause, time.Duration(attempt)*time.Second)) != nil {
			return false, mayHaveReleased(err)
		}
		now, lookErr := r.Store.Releases(ctx, name)
		switch {
		case lookErr != nil:
			return false, mayHaveReleased(fmt.Errorf("%w; and then %w", err, lookErr))
		case len(plan.Unmet(now)) == 0:
			return true, nil
		}
		if theirs := conflict(plan, now); theirs != nil {
			return false, fmt.Errorf("%w; and then %w", err, theirs)
		}
		if attempt == upload.Attempts {
			return false, mayHaveReleased(err)
		}
	}
}

// refusesBases reports whether the reason for a refusal can be that entries name a base.
func refusesBases(err error, entries []charmhub.Release) bool {
	var refused *charmhub.Error
	return errors.As(err, &refused) && refused.Status == http.StatusBadRequest &&
		slices.ContainsFunc(entries, func(e charmhub.Release) bool { return e.Base != charm.Base{} })
}

// mayHaveReleased adds to an error, where it leaves that open, that the store may
// have released.
func mayHaveReleased(err error) error {
	var network net.Error
	if errors.Is(err, charmhub.ErrUnclear) || errors.As(err, &network) {
		return fmt.Errorf("%w; the release may have happened all the same, either all of it or nothing; run this again, which releases what is missing then", err)
	}
	return err
}

// confirm reads the channel map until it shows what was released. Charmhub takes
// some seconds for that, for which no run has to wait; but what is there instead
// must be what was there before, or somebody else releases at the same time.
func (r *Releaser) confirm(ctx context.Context, name string, plan channelmap.Plan) error {
	for attempt := 1; ; attempt++ {
		now, err := r.Store.Releases(ctx, name)
		if err != nil {
			r.Runner.Logger().Warn("Released, but could not read it back", zap.Error(err))
			return nil
		}
		if len(plan.Unmet(now)) == 0 {
			return nil
		}
		if err := conflict(plan, now); err != nil {
			return err
		}
		if last := attempt == upload.Attempts || r.Wait(ctx, time.Duration(attempt)*time.Second) != nil; last {
			r.Runner.Logger().Info("Charmhub confirmed the release, and doesn't show it on the channel map yet")
			return nil
		}
	}
}

// conflict returns an error about the channel map entries that have neither what
// they had when the plan was made, nor what the plan puts there.
func conflict(plan channelmap.Plan, now charmhub.Releases) error {
	var errs []error
	for _, row := range plan.Outdated(now) {
		if row.Changed() {
			errs = append(errs, fmt.Errorf("release to %s for %s: after the release, %s is there instead of %s; "+
				"somebody else released at the same time, or the store can't do what was asked; look at `charmcraft status`, and run this again",
				row.After.Channel, row.After.Base, describe(row.Before), describe(&row.After)))
		}
	}
	return errors.Join(errs...)
}

// describe says what is on a channel.
func describe(release *charmhub.Release) string {
	if release == nil {
		return "nothing"
	}
	text := channelmap.Describe(release.Revision)
	var resources []string
	for _, name := range slices.Sorted(maps.Keys(release.Resources)) {
		if number := release.Resources[name]; number != charmhub.NoRevision {
			resources = append(resources, fmt.Sprintf("%s:%d", name, number))
		}
	}
	if len(resources) > 0 {
		text += " with " + strings.Join(resources, ", ")
	}
	return text
}

package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// send asks the store to release what the plan says. Sent again, a request changes nothing, so one whose answer was
// lost is repeated unless the channel map shows it, or something that somebody else released, which the repetition
// would replace. A revision that the store doesn't know may have been made seconds ago.
func (r *Releaser) send(ctx context.Context, name string, plan channelmap.Plan) error {
	var lost, last error // why an earlier request may have been carried out all the same; the last failure
	attempt := 0
	reason, advice := "one charm revision has other resources on each base",
		"give the input resources, which are for all bases"
	if len(plan.LeftOut) > 0 {
		reason, advice = "one charm revision is also for bases that the input bases leaves out",
			"release it for all of its bases, or make a charm file for each"
	}
	return upload.Repeat(ctx, r.Wait, upload.AttemptsForAMinute+1, func() (pause time.Duration, again bool, err error) {
		if attempt++; attempt > 1 {
			now, err := r.Store.Releases(ctx, name)
			switch {
			case err != nil:
				return 0, false, mayHaveReleased(fmt.Errorf("%w; and then %w", last, err))
			case len(plan.Unmet(now)) == 0:
				return 0, false, nil
			}
			if theirs := conflict(name, plan, now); theirs != nil {
				return 0, false, fmt.Errorf("%w; and then %w", last, theirs)
			}
		}
		attempts := upload.Attempts
		if isNotFound(last) {
			attempts = upload.AttemptsForAMinute
		}
		if attempt > attempts {
			return 0, false, mayHaveReleased(last)
		}
		if err = r.Store.Release(ctx, name, plan.Entries); err == nil {
			return 0, false, nil
		}
		pause, again = upload.RetryAfter(err)
		again = again || isNotFound(err)
		switch {
		case errors.Is(err, charmhub.ErrUnclear):
			lost = err
		case lost != nil:
			err = fmt.Errorf("%w; and then %w", lost, err)
		}
		last = err
		if !again && refusesBases(err, plan.Entries) {
			return 0, false, fmt.Errorf("%w; %s, for which the request has to name a base, and the store may not take that; %s",
				err, reason, advice)
		}
		if again {
			r.Runner.Logger().Info("Looking whether it was released, and trying again if not", zap.Error(err))
		}
		return pause, again, mayHaveReleased(err)
	})
}

// createTracks makes tracks that the charm doesn't have. Where the answer is lost, or says that there is such a track,
// the charm's tracks show whether it is there: somebody else may have made it in the meantime.
func (r *Releaser) createTracks(ctx context.Context, name string, tracks []string) error {
	err := upload.Repeat(ctx, r.Wait, upload.Attempts, func() (pause time.Duration, again bool, err error) {
		if err = r.Store.CreateTracks(ctx, name, tracks); err == nil {
			return 0, false, nil
		}
		now, lookErr := r.Store.Tracks(ctx, name)
		missing := func(track string) bool { return !slices.Contains(now.Names, track) }
		if lookErr == nil && !slices.ContainsFunc(tracks, missing) {
			return 0, false, nil
		}
		pause, again = upload.RetryAfter(err)
		return pause, again, err
	})
	switch {
	case err == nil:
		r.Runner.Logger().Info("Created " + trackNames(tracks))
	case ctx.Err() != nil: // which says nothing of a release
		return ctx.Err()
	}
	return err
}

// trackNames names tracks in a sentence.
func trackNames(tracks []string) string {
	if len(tracks) == 1 {
		return "the track " + tracks[0]
	}
	return "the tracks " + strings.Join(tracks, ", ")
}

// refusesBases reports whether the reason for a refusal can be that entries name a base.
func refusesBases(err error, entries []charmhub.Release) bool {
	refused, ok := errors.AsType[*charmhub.Error](err)
	return ok && refused.Status == http.StatusBadRequest &&
		slices.ContainsFunc(entries, func(e charmhub.Release) bool { return e.Base != charm.Base{} })
}

// mayHaveReleased adds to an error, where it leaves that open, that the store may have released.
func mayHaveReleased(err error) error {
	var network net.Error
	if errors.Is(err, charmhub.ErrUnclear) || errors.As(err, &network) {
		return fmt.Errorf("%w; the release may have happened all the same, either all of it or nothing; run this again, "+
			"which releases what is missing then", err)
	}
	return err
}

// confirm reads the channel map until it shows what was released, and nothing else. That takes Charmhub some seconds.
// It returns the rows that the map doesn't show in the end.
func (r *Releaser) confirm(
	ctx context.Context, name string, plan channelmap.Plan,
) (notShown []channelmap.Row, err error) {
	for _, row := range plan.Rows {
		if row.Changed() {
			notShown = append(notShown, row)
		}
	}
	err = upload.Repeat(ctx, r.Wait, upload.AttemptsForAMinute, func() (pause time.Duration, again bool, err error) {
		now, err := r.Store.Releases(ctx, name)
		if err != nil {
			return 0, false,
				fmt.Errorf("release charm '%s': Charmhub accepted it, but the channel map can't be read to see it: %w; "+
					"look at `charmcraft status %s`, or run this again", name, err, name)
		}
		notShown = plan.Unmet(now)
		if err := conflict(name, plan, now); err != nil {
			return 0, false, err
		}
		var missing []error
		for _, row := range notShown {
			missing = append(missing, fmt.Errorf("release to %s for %s: Charmhub accepted %s, but the channel map doesn't "+
				"show it after a minute: %s is there; "+
				"look at `charmcraft status %s`, and run this again, which releases what is missing",
				row.After.Channel, row.After.Base, describe(&row.After), describe(row.Before), name))
		}
		return 0, len(missing) > 0, errors.Join(missing...)
	})
	return notShown, err
}

// conflict returns an error about what is on the plan's channels and should not be, with the commands that put it
// right.
func conflict(name string, plan channelmap.Plan, now charmhub.Releases) error {
	var errs []error
	for _, c := range plan.Conflicts(now) {
		advice := "look at `charmcraft status " + name + "`"
		if c.Want != nil {
			advice += ", and restore it with `" + restoring(name, *c.Want) + "`"
		}
		errs = append(errs, fmt.Errorf("release to %s for %s: after the release, %s is there instead of %s; "+
			"somebody else released at the same time, or the store released for a base that it was not asked for; %s",
			c.Channel, c.Base, describe(c.Now), describe(c.Want), advice))
	}
	return errors.Join(errs...)
}

// restoring returns the command that puts a release on its channel.
func restoring(name string, release charmhub.Release) string {
	command := fmt.Sprintf("charmcraft release %s --revision=%d --channel=%s", name, release.Revision, release.Channel)
	for _, resource := range slices.Sorted(maps.Keys(release.Resources)) {
		if number := release.Resources[resource]; number != charmhub.NoRevision {
			command += fmt.Sprintf(" --resource=%s:%d", resource, number)
		}
	}
	return command
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

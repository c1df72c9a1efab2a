package publish

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

const (
	// listLag is how long an approved revision may be missing from the list of revisions. Usually it is there within
	// seconds.
	listLag = 2 * time.Minute
	// recordTries is how often the architectures of a revision are set, with growing pauses.
	recordTries = 15
	// settledLooks is how many looks in a row, a second or more apart, must find the architectures recorded before the
	// run believes that they stay. A job that read the record before this run set it may overwrite it right afterwards.
	settledLooks = 2
	// removals is how often the architectures may vanish after a look that found them. Then the run concludes that
	// somebody removes them on purpose, and leaves the record as it is.
	removals = 3

	firstPause, longestPause = time.Second, 10 * time.Second
)

// recordArchitectures records a revision for the architectures of its content. It reports whether it changed the
// record. Before is the revision as the run found it.
//
// The store can only replace a record, so a job that adds an architecture at the same time may undo this addition.
// Therefore the record is read and set again until it has kept the addition for a while. If it is removed each time,
// somebody removes it on purpose, and it stays removed.
func (p *Publisher) recordArchitectures(
	ctx context.Context,
	t Target,
	c content,
	before charmhub.Revision,
) (changed bool, err error) {
	pause, tries, settled, removed := firstPause, 0, 0, 0
	for {
		now, err := p.listed(ctx, t, before.Revision)
		if err != nil {
			return changed, err
		}
		architecturesToRecord, wait := c.architecturesToRecord(now.Architectures), firstPause
		if architecturesToRecord != nil && settled > 0 {
			removed++
		}
		switch {
		case architecturesToRecord == nil && tries == 0:
			return false, nil
		case architecturesToRecord == nil:
			if settled++; settled == settledLooks {
				p.Runner.Logger().Info(fmt.Sprintf("Revision %d is now recorded for %s instead of %s",
					now.Revision, joinNames(now.Architectures), joinNames(before.Architectures)))
				return true, nil
			}
		case removed == removals:
			p.Runner.Logger().Warn(
				fmt.Sprintf("Somebody else keeps recording revision %d for %s instead of %s, and that is left as it is",
					now.Revision, joinNames(now.Architectures), joinNames(architecturesToRecord)),
			)
			return false, nil
		case tries == recordTries:
			return changed, fmt.Errorf(
				"cannot record revision %d of %s for %s: after %d tries Charmhub still lists it for %s; run this again later",
				now.Revision,
				t.name(),
				joinNames(architecturesToRecord),
				tries,
				joinNames(now.Architectures),
			)
		default:
			tries, settled = tries+1, 0
			err := p.Store.SetArchitectures(ctx, t.Charm, t.Resource, now.Revision, architecturesToRecord)
			changed = changed || err == nil
			asked, again := upload.RetryAfter(err)
			if err != nil && (!again || tries == recordTries) {
				return changed, err
			}
			wait, pause = max(asked, pause), min(pause*3/2, longestPause)
		}
		// Jobs that began together would otherwise go on undoing each other.
		if err := p.Wait(ctx, wait+rand.N(wait/2)); err != nil { //nolint:gosec // not a secret
			return changed, err
		}
	}
}

// listed returns a revision from the store's list. It waits until the list has it.
func (p *Publisher) listed(ctx context.Context, t Target, number int) (charmhub.Revision, error) {
	const advice = "cannot check the architectures of revision %d, which exists: %w; run this again later, which adds " +
		"what is missing"
	var waited time.Duration
	for pause := firstPause; ; pause = min(pause*3/2, longestPause) {
		revisions, err := p.Store.Revisions(ctx, t.Charm, t.Resource)
		if err != nil {
			return charmhub.Revision{}, fmt.Errorf(advice, number, err)
		}
		if found, ok := findByNumber(revisions, number); ok {
			return found, nil
		}
		if waited >= listLag {
			return charmhub.Revision{}, fmt.Errorf(
				advice,
				number,
				fmt.Errorf("the list of revisions lacks it after %s", waited.Round(time.Second)),
			)
		}
		if waited == 0 {
			p.Runner.Logger().Info(fmt.Sprintf("Waiting until Charmhub lists revision %d, to check its architectures", number))
		}
		if err := p.Wait(ctx, pause); err != nil {
			return charmhub.Revision{}, err
		}
		waited += pause
	}
}

// findByNumber returns the revision with that number, and whether there is one.
func findByNumber(revisions []charmhub.Revision, number int) (charmhub.Revision, bool) {
	at := slices.IndexFunc(revisions, func(r charmhub.Revision) bool { return r.Revision == number })
	if at < 0 {
		return charmhub.Revision{Revision: number}, false
	}
	return revisions[at], true
}

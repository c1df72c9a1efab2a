package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// Revised is the result of making content a revision.
type Revised struct {
	Revision             *int // number of the revision with the content, which may be 0; nil if there is none
	Created              bool // the revision is new
	ArchitecturesChanged bool // those that are recorded for the revision; in a dry run, they would be
	ContentSent          bool // all of the content was sent to Charmhub; of an image, that is a small text
}

// listing is the store's list of a resource's revisions at the beginning of the run.
type listing struct {
	revisions []charmhub.Revision // newest first
	asked     time.Time           // when the list was requested
}

// requestRevisions requests the revisions of the resource.
func (p *Publisher) requestRevisions(ctx context.Context, t Target) (listing, error) {
	asked := time.Now()
	revisions, err := p.Store.Revisions(ctx, t.Charm, t.Resource)
	return listing{revisions, asked}, err
}

// had reports whether a revision existed before the list was requested. The list may have lagged behind.
func (l listing) had(r charmhub.Revision) bool {
	const precision = 2 * time.Second // of the times that an answer has
	return r.Age > time.Since(l.asked)+precision ||
		slices.ContainsFunc(l.revisions, func(known charmhub.Revision) bool { return known.Revision >= r.Revision })
}

// revise makes the content a revision of the resource, unless a known revision has it.
func (p *Publisher) revise(ctx context.Context, t Target, c content, earlier listing) (r Revised, err error) {
	log := p.Runner.Logger()
	found, ok := c.find(earlier.revisions)
	switch {
	case !ok && p.DryRun:
		log.Info("Dry run: would create a revision of " + t.name())
		return r, nil
	case !ok:
		made, err := p.create(ctx, t, c)
		r.ContentSent = made.sent
		if err != nil {
			return r, err
		}
		found = made.revision
		r.Created = !made.existed && !earlier.had(found)
	}
	r.Revision = &found.Revision
	if slices.Contains(c.revisionsDescribing, found.Revision) {
		log.Info(fmt.Sprintf("Revision %d describes the same image; only Charmhub's text about it differs", found.Revision))
	}

	switch architecturesToRecord := c.architecturesToRecord(found.Architectures); {
	case architecturesToRecord == nil:
	case p.DryRun:
		r.ArchitecturesChanged = true
		log.Info(
			fmt.Sprintf(
				"Dry run: would record revision %d for %s instead of %s",
				found.Revision,
				joinNames(architecturesToRecord),
				joinNames(found.Architectures),
			),
		)
	default:
		if r.ArchitecturesChanged, err = p.recordArchitectures(ctx, t, c, found); err != nil {
			return r, during(stageRecord, err)
		}
	}
	switch {
	case r.Created:
		log.Info(fmt.Sprintf("Revision %d created of %s", found.Revision, t.name()))
	case r.ArchitecturesChanged && p.DryRun: // the log has what would change
	case r.ArchitecturesChanged:
		log.Info(fmt.Sprintf("Revision %d of %s has this content; its architectures were changed", found.Revision, t.name()))
	default:
		log.Info(fmt.Sprintf("Revision %d of %s is unchanged", found.Revision, t.name()))
	}
	return r, nil
}

// creation is what became of a request for a revision.
type creation struct {
	revision charmhub.Revision
	existed  bool // the store says that the revision existed before
	sent     bool // all of the content was sent, also if no revision was created
}

// create creates a revision with the content. If the store's answer is lost, it looks for the revision in the list.
func (p *Publisher) create(ctx context.Context, t Target, c content) (made creation, err error) {
	listed := false
	reviewed, err := upload.Uploader{Store: p.Store, Runner: p.Runner, Wait: p.Wait}.Create(ctx, upload.Content{
		Title: "Sending to Charmhub", Name: c.name, Size: c.size, Open: c.verified,
		Ask: func(ctx context.Context, uploadID string) (string, error) {
			made.sent = true
			return p.Store.CreateRevision(ctx, t.Charm, t.Resource, charmhub.NewRevision{
				UploadID: uploadID, Type: c.kind, Architectures: c.architectures,
			})
		},
		Find: func(ctx context.Context) (bool, error) {
			revisions, err := p.Store.Revisions(ctx, t.Charm, t.Resource)
			made.revision, listed = c.find(revisions)
			return listed, err
		},
	})
	if err != nil {
		return made, createError(err)
	}
	if listed {
		return made, nil
	}
	made.existed = reviewed.Existed
	made.revision, err = p.created(ctx, t, c, reviewed)
	return made, err
}

// createError adds to an error what was being done, and whether the store may have created the revision.
func createError(err error) error {
	asked, ok := errors.AsType[*upload.AskedError](err)
	switch {
	case !ok:
		return during(stageContent, err)
	case asked.MayExist:
		err = &unsureError{err}
	}
	return during(stageCreate, err)
}

// unsureError is an error after which the revision may exist, because the store's answer to the request was lost.
type unsureError struct{ error }

// Error returns the cause and says that the revision may exist.
func (e *unsureError) Error() string {
	return strings.TrimSuffix(
		e.error.Error(),
		charmhub.RunAgain,
	) + "; the revision may exist all the same; run this again, which uses the revision then"
}

// Unwrap returns the cause.
func (e *unsureError) Unwrap() error { return e.error }

// created returns the reviewed revision from the store's list. Another job may have created it from the same content,
// for other architectures. If that matters, created waits until the list has the revision.
func (p *Publisher) created(
	ctx context.Context,
	t Target,
	c content,
	reviewed charmhub.Reviewed,
) (charmhub.Revision, error) {
	number := reviewed.Revision
	if len(c.architectures) > 0 && (c.kind == charm.TypeFile || reviewed.Existed) {
		found, err := p.listed(ctx, t, number)
		return found, during(stageRecord, err)
	}
	revisions, err := p.Store.Revisions(ctx, t.Charm, t.Resource)
	if err != nil { // then it isn't known how old the revision is, nor for which architectures it is recorded
		p.Runner.Logger().Debug("could not look at the new revision", zap.Error(err))
	}
	found, _ := findByNumber(revisions, number)
	return found, nil
}

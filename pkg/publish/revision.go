package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// content is what a revision holds: a file, or the text that describes an
// image to Juju.
type content struct {
	kind   string // charm.TypeImage or charm.TypeFile
	name   string // file name to upload it under
	size   int64
	sha256 string // hex
	// architectures are what an image says by itself; of a file, what was asked
	// for: nil leaves the record of a revision as it is, and makes a new one
	// for "all".
	architectures []string
	open          func() (io.ReadCloser, error)
}

func imageContent(name string, text []byte, platforms []v1.Platform) content {
	digest := sha256.Sum256(text)
	return content{
		kind: charm.TypeImage, name: name, size: int64(len(text)), sha256: hex.EncodeToString(digest[:]),
		architectures: architectures(platforms),
		open:          func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

// find returns the revision that has this content. Charmhub doesn't store the
// same content twice, so there is no other way to publish it. Where older servers
// did, it is the newest whose architectures can stay, or else the newest.
func (c content) find(revisions []charmhub.Revision) (found charmhub.Revision, ok bool) {
	for _, r := range revisions { // newest first
		switch {
		case r.SHA256 != c.sha256:
		case c.due(r.Architectures) == nil:
			return r, true
		case !ok:
			found, ok = r, true
		}
	}
	return found, ok
}

// due returns the architectures that a revision with this content is to be
// recorded for, sorted, or nil where its record can stay. An image says by itself
// what it is for. A file's architectures are added up, so that jobs for one each
// leave the same record in any order; "all" contains the others.
func (c content) due(recorded []string) []string {
	if len(recorded) == 0 { // the store doesn't say
		return nil
	}
	want := slices.Sorted(slices.Values(c.architectures))
	if c.kind == charm.TypeFile {
		if slices.Contains(recorded, charm.AllArchitectures) {
			return nil
		}
		want = slices.Compact(slices.Sorted(slices.Values(slices.Concat(want, recorded))))
		if slices.Contains(want, charm.AllArchitectures) {
			want = []string{charm.AllArchitectures}
		}
	}
	if slices.Equal(want, recorded) {
		return nil
	}
	return want
}

// verified opens the content to be sent.
func (c content) verified(progress func(bytes int64)) func() (io.ReadCloser, error) {
	return upload.Verified(c.open, sha256.New, c.sha256, progress)
}

// Revised is what came of making content a revision.
type Revised struct {
	Revision  *int // that has the content, from 0 on; nil if there is none
	Created   bool // the revision is new
	Corrected bool // the revision is recorded for other architectures than before
	Sent      bool // the content, or a part of it
}

// revise makes the content a revision of the resource, unless it is among the
// known ones.
func (p *Publisher) revise(ctx context.Context, t Target, c content, known []charmhub.Revision) (r Revised, err error) {
	log := p.Runner.Logger()
	found, ok := c.find(known)
	switch {
	case !ok && p.DryRun:
		log.Info("Dry run: would create a revision of " + t.name())
		return r, nil
	case !ok:
		r.Sent = true
		if found, err = p.create(ctx, t, c); err != nil {
			return r, err
		}
		// The store answers with an older revision if that has the content,
		// which a list that lags behind may not have shown.
		r.Created = !slices.ContainsFunc(known, func(k charmhub.Revision) bool { return k.Revision >= found.Revision })
	}
	r.Revision = &found.Revision

	due, before := list(c.due(found.Architectures)), list(found.Architectures)
	switch {
	case c.due(found.Architectures) == nil:
	case p.DryRun:
		log.Info(fmt.Sprintf("Dry run: would record revision %d for %s instead of %s", found.Revision, due, before))
	default:
		if err := p.Store.SetArchitectures(ctx, t.Charm, t.Resource, found.Revision, c.due(found.Architectures)); err != nil {
			return r, err
		}
		log.Info(fmt.Sprintf("Revision %d is now recorded for %s instead of %s", found.Revision, due, before))
		r.Corrected = true
	}
	switch {
	case r.Created:
		log.Info(fmt.Sprintf("Revision %d created of %s", found.Revision, t.name()))
	case r.Corrected:
		log.Info(fmt.Sprintf("Revision %d of %s has this content; its architectures were changed", found.Revision, t.name()))
	default:
		log.Info(fmt.Sprintf("Revision %d of %s is unchanged", found.Revision, t.name()))
	}
	return r, nil
}

// create uploads the content and waits until the store has made a revision of
// it. It tries again after failures in passing; where the store's answer was
// lost, the list of revisions is asked first. The architectures of the revision
// that it returns are nil unless another job may have made it.
func (p *Publisher) create(ctx context.Context, t Target, c content) (charmhub.Revision, error) {
	mayExist := false
	for attempt := 1; ; attempt++ {
		number, asked, err := p.createOnce(ctx, t, c)
		if err == nil {
			return p.created(ctx, t, c, number)
		}
		mayExist = mayExist || asked
		pause, again := upload.RetryAfter(err)
		if attempt == upload.Attempts || !again || ctx.Err() != nil {
			return charmhub.Revision{}, mayHaveCreated(mayExist, err)
		}
		p.Runner.Logger().Info(fmt.Sprintf("Looking whether the revision was created, and trying again if not: %v", err))
		if err := p.Wait(ctx, max(pause, time.Duration(attempt)*time.Second)); err != nil {
			return charmhub.Revision{}, mayHaveCreated(mayExist, during(stageContent, err))
		}
		revisions, lookErr := p.Store.Revisions(ctx, t.Charm, t.Resource)
		if lookErr != nil {
			return charmhub.Revision{}, mayHaveCreated(mayExist, fmt.Errorf("%w; and then %w", err, lookErr))
		}
		if found, ok := c.find(revisions); ok {
			return found, nil
		}
	}
}

// mayHaveCreated adds to err, if mayExist, that the store may have created the revision.
func mayHaveCreated(mayExist bool, err error) error {
	if !mayExist {
		return err
	}
	return during(stageCreate, fmt.Errorf("%w; the revision may exist all the same; run this again, which uses the revision then", err))
}

// created returns the revision that the store answered with. Another job may have
// made it of the same file, for other architectures, so its record is looked up
// where that matters. A list that lags behind lacks it.
func (p *Publisher) created(ctx context.Context, t Target, c content, number int) (charmhub.Revision, error) {
	made := charmhub.Revision{Revision: number}
	if c.kind != charm.TypeFile || len(c.architectures) == 0 {
		return made, nil
	}
	revisions, err := p.Store.Revisions(ctx, t.Charm, t.Resource)
	if err != nil {
		return made, mayHaveCreated(true, fmt.Errorf("cannot check the architectures of revision %d: %w", number, err))
	}
	for _, r := range revisions {
		if r.Revision == number {
			return r, nil
		}
	}
	return made, nil
}

// createOnce uploads the content and asks for a revision. Asked is true after an
// error that leaves open whether there is one.
func (p *Publisher) createOnce(ctx context.Context, t Target, c content) (number int, asked bool, err error) {
	add, done := p.Runner.Progress("Sending to Charmhub", c.size)
	id, err := p.Store.Upload(ctx, c.name, c.size, c.verified(add))
	done()
	if err != nil {
		return 0, false, during(stageContent, err)
	}
	status, err := p.Store.CreateRevision(ctx, t.Charm, t.Resource, charmhub.NewRevision{
		UploadID: id, Type: c.kind, Architectures: c.architectures,
	})
	if err != nil {
		return 0, errors.Is(err, charmhub.ErrUnclear), during(stageContent, err)
	}
	number, err = p.Store.Await(ctx, status)
	var network net.Error
	var refused *charmhub.Error
	return number, errors.As(err, &network) || errors.As(err, &refused), during(stageCreate, err)
}

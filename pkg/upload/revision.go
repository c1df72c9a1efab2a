package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// content is what a revision holds: a file, or the text that describes an
// image to Juju.
type content struct {
	kind          string // charmhub.TypeImage or charmhub.TypeFile
	name          string // file name to upload it under
	size          int64
	sha256        string // hex
	architectures []string
	open          func() (io.ReadCloser, error)
}

func textContent(name string, text []byte) content {
	digest := sha256.Sum256(text)
	return content{
		kind: charmhub.TypeImage, name: name, size: int64(len(text)), sha256: hex.EncodeToString(digest[:]),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

// find returns the newest of the revisions that has this content. Charmhub
// doesn't store the same content twice, so there is no other way to publish it.
func (c content) find(revisions []charmhub.Revision) (charmhub.Revision, bool) {
	i := slices.IndexFunc(revisions, func(r charmhub.Revision) bool { return r.SHA256 == c.sha256 })
	if i < 0 {
		return charmhub.Revision{}, false
	}
	return revisions[i], true
}

// publish makes the content a revision of the resource, unless it is among the
// known ones, and fills in the report.
func (j *job) publish(ctx context.Context, c content, known []charmhub.Revision, r *report) error {
	found, ok := c.find(known)
	switch {
	case ok:
		if err := j.correct(ctx, found, c.architectures); err != nil {
			return err
		}
		r.Revision = found.Revision
	case j.DryRun:
		j.wouldCreate()
		return nil
	default:
		j.doing = handingIn
		revision, err := j.create(ctx, c)
		if err != nil {
			return err
		}
		// The store answers with an older revision if that has the content,
		// which a list that lags behind may not have shown.
		r.Revision = revision
		r.RevisionCreated = !slices.ContainsFunc(known, func(k charmhub.Revision) bool { return k.Revision >= revision })
	}
	j.log.Info(j.told(r))
	return nil
}

func (j *job) wouldCreate() {
	j.log.Info(fmt.Sprintf("Dry run: would create a revision of resource '%s' for charm '%s'", j.Resource, j.Charm))
}

func (j *job) told(r *report) string {
	if r.RevisionCreated {
		return fmt.Sprintf("Revision %d created of resource '%s' for charm '%s'", r.Revision, j.Resource, j.Charm)
	}
	return fmt.Sprintf("Revision %d of resource '%s' for charm '%s' is unchanged", r.Revision, j.Resource, j.Charm)
}

// attempts is how often a revision is asked for. More than one is safe:
// Charmhub answers with the revision that has the same content, if there is one.
const attempts = 3

// create uploads the content and waits until the store has made a revision of
// it. It tries again after failures in passing; where the store's answer was
// lost, the list of revisions is asked first.
func (j *job) create(ctx context.Context, c content) (int, error) {
	for attempt := 1; ; attempt++ {
		revision, err := j.createOnce(ctx, c)
		pause, again := inPassing(err)
		if attempt == attempts || !again || ctx.Err() != nil {
			return revision, err
		}
		j.log.Info(fmt.Sprintf("Looking whether the revision was created, and trying again if not: %v", err))
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(max(pause, time.Duration(attempt)*time.Second)):
		}
		revisions, err := j.store.Revisions(ctx, j.Charm, j.Resource)
		if err != nil {
			return 0, err
		}
		if found, ok := c.find(revisions); ok {
			return found.Revision, nil
		}
	}
}

func (j *job) createOnce(ctx context.Context, c content) (int, error) {
	progress := j.progress("Sending to Charmhub", c.size)
	id, err := j.store.Upload(ctx, c.name, c.size, counted(c.open, progress))
	progress.Done()
	if err != nil {
		return 0, err
	}
	j.doing = reviewing
	status, err := j.store.CreateRevision(ctx, j.Charm, j.Resource, charmhub.NewRevision{
		UploadID: id, Type: c.kind, Architectures: c.architectures,
	})
	if err != nil {
		return 0, err
	}
	return j.store.Await(ctx, status)
}

// inPassing tells errors of CreateRevision, which the transport doesn't
// repeat, that may be gone next time, and when that is if the store says so.
func inPassing(err error) (pause time.Duration, again bool) {
	var network *net.OpError
	var refused *charmhub.Error
	switch {
	case errors.As(err, &refused) && refused.RetryAfter > transport.Patience:
		return 0, false
	case errors.As(err, &refused):
		return refused.RetryAfter, errors.Is(err, charmhub.ErrUnclear) ||
			refused.Status == http.StatusTooManyRequests || refused.Status == http.StatusRequestTimeout
	default:
		return 0, errors.Is(err, charmhub.ErrUnclear) || errors.As(err, &network)
	}
}

// correct records the architectures of a revision where they differ.
func (j *job) correct(ctx context.Context, r charmhub.Revision, architectures []string) error {
	if slices.Equal(slices.Sorted(slices.Values(architectures)), r.Architectures) || len(r.Architectures) == 0 {
		return nil
	}
	if j.DryRun {
		j.log.Info(fmt.Sprintf("Dry run: would record revision %d for %s instead of %s", r.Revision, list(architectures), list(r.Architectures)))
		return nil
	}
	if err := j.store.SetArchitectures(ctx, j.Charm, j.Resource, r.Revision, architectures); err != nil {
		return err
	}
	j.log.Info(fmt.Sprintf("Revision %d is now recorded for %s instead of %s", r.Revision, list(architectures), list(r.Architectures)))
	return nil
}

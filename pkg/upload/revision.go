package upload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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
	kind   string // charmhub.TypeImage or charmhub.TypeFile
	name   string // file name to upload it under
	size   int64
	sha256 string // hex
	// architectures are what an image says by itself; of a file, what was asked
	// for: nil leaves the record of a revision as it is, and makes a new one
	// for "all".
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
	if len(recorded) == 0 { // the store doesn't tell
		return nil
	}
	want := slices.Sorted(slices.Values(c.architectures))
	if c.kind == charmhub.TypeFile {
		if slices.Contains(recorded, "all") {
			return nil
		}
		want = slices.Compact(slices.Sorted(slices.Values(slices.Concat(want, recorded))))
		if slices.Contains(want, "all") {
			want = []string{"all"}
		}
	}
	if slices.Equal(want, recorded) {
		return nil
	}
	return want
}

// verified opens the content to be sent. Reading it fails at its end if it is
// not what was hashed: a file may be written to in between.
func (c content) verified() (io.ReadCloser, error) {
	file, err := c.open()
	if err != nil {
		return nil, err
	}
	return &verifiedContent{file, sha256.New(), c.sha256}, nil
}

type verifiedContent struct {
	io.ReadCloser
	read hash.Hash
	want string
}

func (v *verifiedContent) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	_, _ = v.read.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(v.read.Sum(nil)) != v.want {
		return n, errors.New("its content changed after its digest was computed; let nothing write to it during the run")
	}
	return n, err
}

// publish makes the content a revision of the resource, unless it is among the
// known ones, and fills in the report. It tells whether the content was sent.
func (j *job) publish(ctx context.Context, c content, known []charmhub.Revision, r *report) (sent bool, err error) {
	found, ok := c.find(known)
	if !ok && j.DryRun {
		j.wouldCreate()
		return false, nil
	}
	if !ok {
		j.doing = handingIn
		found, err = j.create(ctx, c)
		if err != nil {
			return true, err
		}
		// The store answers with an older revision if that has the content,
		// which a list that lags behind may not have shown.
		r.RevisionCreated = !slices.ContainsFunc(known, func(k charmhub.Revision) bool { return k.Revision >= found.Revision })
	}
	r.Revision = &found.Revision
	changed, err := j.correct(ctx, c, found)
	if err != nil {
		return !ok, err
	}
	r.recorded = changed && !r.RevisionCreated
	j.log.Info(j.told(r))
	return !ok, nil
}

func (j *job) wouldCreate() {
	j.log.Info(fmt.Sprintf("Dry run: would create a revision of resource '%s' for charm '%s'", j.Resource, j.Charm))
}

func (j *job) told(r *report) string {
	switch {
	case r.RevisionCreated:
		return fmt.Sprintf("Revision %d created of resource '%s' for charm '%s'", *r.Revision, j.Resource, j.Charm)
	case r.recorded:
		return fmt.Sprintf("Revision %d of resource '%s' for charm '%s' has this content; its architectures were changed", *r.Revision, j.Resource, j.Charm)
	default:
		return fmt.Sprintf("Revision %d of resource '%s' for charm '%s' is unchanged", *r.Revision, j.Resource, j.Charm)
	}
}

// attempts is how often a revision is asked for. More than one is safe:
// Charmhub answers with the revision that has the same content, if there is one.
const attempts = 3

// create uploads the content and waits until the store has made a revision of
// it. It tries again after failures in passing; where the store's answer was
// lost, the list of revisions is asked first. The architectures of the revision
// that it returns are nil unless somebody else may have made it.
func (j *job) create(ctx context.Context, c content) (charmhub.Revision, error) {
	mayExist := false
	for attempt := 1; ; attempt++ {
		number, asked, err := j.createOnce(ctx, c)
		if err == nil {
			return j.created(ctx, c, number)
		}
		mayExist = mayExist || asked
		pause, again := inPassing(err)
		if attempt == attempts || !again || ctx.Err() != nil {
			return charmhub.Revision{}, unsettled(mayExist, err)
		}
		j.log.Info(fmt.Sprintf("Looking whether the revision was created, and trying again if not: %v", err))
		select {
		case <-ctx.Done():
			return charmhub.Revision{}, context.Cause(ctx)
		case <-time.After(max(pause, time.Duration(attempt)*time.Second)):
		}
		revisions, lookErr := j.store.Revisions(ctx, j.Charm, j.Resource)
		if lookErr != nil {
			return charmhub.Revision{}, unsettled(mayExist, fmt.Errorf("%w; and then %w", err, lookErr))
		}
		if found, ok := c.find(revisions); ok {
			return found, nil
		}
	}
}

// unsettled adds to err what its reader can't know: that there may be a revision.
func unsettled(mayExist bool, err error) error {
	if !mayExist {
		return err
	}
	return fmt.Errorf("%w; the revision may exist all the same: run this again, which uses it then", err)
}

// created returns the revision that the store answered with. Another job may have
// made it of the same file, for other architectures, so its record is looked up
// where that matters. A list that lags behind lacks it.
func (j *job) created(ctx context.Context, c content, number int) (charmhub.Revision, error) {
	made := charmhub.Revision{Revision: number}
	if c.kind != charmhub.TypeFile || len(c.architectures) == 0 {
		return made, nil
	}
	revisions, err := j.store.Revisions(ctx, j.Charm, j.Resource)
	if err != nil {
		return made, unsettled(true, fmt.Errorf("cannot check the architectures of revision %d: %w", number, err))
	}
	for _, r := range revisions {
		if r.Revision == number {
			return r, nil
		}
	}
	return made, nil
}

// createOnce tells after an error whether the store was asked for a revision,
// so that there may be one.
func (j *job) createOnce(ctx context.Context, c content) (number int, asked bool, err error) {
	progress := j.progress("Sending to Charmhub", c.size)
	id, err := j.store.Upload(ctx, c.name, c.size, counted(c.verified, progress))
	progress.Done()
	if err != nil {
		return 0, false, err
	}
	j.doing = reviewing
	status, err := j.store.CreateRevision(ctx, j.Charm, j.Resource, charmhub.NewRevision{
		UploadID: id, Type: c.kind, Architectures: c.architectures,
	})
	if err != nil {
		return 0, errors.Is(err, charmhub.ErrUnclear), err
	}
	number, err = j.store.Await(ctx, status)
	var network net.Error
	var refused *charmhub.Error
	return number, errors.As(err, &network) || errors.As(err, &refused), err
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

// correct records the architectures of a revision where they differ from what is
// due, and tells whether it did.
func (j *job) correct(ctx context.Context, c content, r charmhub.Revision) (changed bool, err error) {
	due := c.due(r.Architectures)
	if due == nil {
		return false, nil
	}
	if j.DryRun {
		j.log.Info(fmt.Sprintf("Dry run: would record revision %d for %s instead of %s", r.Revision, list(due), list(r.Architectures)))
		return false, nil
	}
	if err := j.store.SetArchitectures(ctx, j.Charm, j.Resource, r.Revision, due); err != nil {
		return false, err
	}
	j.log.Info(fmt.Sprintf("Revision %d is now recorded for %s instead of %s", r.Revision, list(due), list(r.Architectures)))
	return true, nil
}

package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Store is the part of Charmhub that takes content, as [charmhub.Client] has it.
type Store interface {
	Upload(ctx context.Context, name string, size int64, open func() (io.ReadCloser, error)) (uploadID string, err error)
	Await(ctx context.Context, statusURL string) (charmhub.Reviewed, error)
}

// Runner shows what is being done, as [action.Runner] does.
type Runner interface {
	Logger() *zap.Logger
	Progress(what string, total int64) (add func(bytes int64), done func())
}

// Uploader makes revisions of content.
type Uploader struct {
	Store  Store
	Runner Runner
	// Wait pauses, as [transport.Sleep] does.
	Wait func(context.Context, time.Duration) error
}

// Content is a file or an image's description that is uploaded to become a revision.
type Content struct {
	Title string // says in the progress what is sent
	Name  string // of the file
	Size  int64  // in bytes
	// Open opens the content; add is called with what is read of it. See [Verified].
	Open func(add func(bytes int64)) func() (io.ReadCloser, error)
	// Ask asks the store for a revision of an upload, as [charmhub.Client.CreateRevision] does.
	Ask func(ctx context.Context, uploadID string) (statusURL string, err error)
	// Find reports, before another try, whether the revision exists by now; nil skips that.
	Find func(ctx context.Context) (found bool, err error)
}

// AskedError is a failure after the store was asked for a revision.
type AskedError struct {
	error
	MayExist bool // the store may have made the revision
}

// Unwrap returns the failure itself.
func (e *AskedError) Unwrap() error { return e.error }

// Create uploads content and waits until the store has made a revision of it. It tries again after temporary failures.
// That is safe: if a revision has the content already, the store answers with that one. If Find finds a revision,
// Create returns the zero value and no error.
func (u Uploader) Create(ctx context.Context, c Content) (reviewed charmhub.Reviewed, err error) {
	var last error
	mayExist := false
	err = Repeat(ctx, u.Wait, Attempts, func() (pause time.Duration, again bool, err error) {
		if last != nil && c.Find != nil {
			if found, err := c.Find(ctx); found || err != nil {
				return 0, false, andThen(last, err)
			}
		}
		reviewed, err = u.createOnce(ctx, c)
		reviewed.Existed = reviewed.Existed && !mayExist // what exists may come of an earlier try
		asked, ok := errors.AsType[*AskedError](err)
		mayExist = mayExist || ok && asked.MayExist
		if pause, again = RetryAfter(err); again {
			u.Runner.Logger().Info("Looking whether the revision was created, and trying again if not",
				zap.String("file", c.Name), zap.Error(err))
		}
		last = err
		return pause, again, err
	})
	if err != nil && mayExist {
		err = &AskedError{err, true}
	}
	return reviewed, err
}

// createOnce uploads content and waits for its revision, without another try.
func (u Uploader) createOnce(ctx context.Context, c Content) (reviewed charmhub.Reviewed, err error) {
	add, done := u.Runner.Progress(c.Title, c.Size)
	id, err := u.Store.Upload(ctx, c.Name, c.Size, c.Open(add))
	done()
	if err != nil {
		return reviewed, err
	}
	status, err := c.Ask(ctx, id)
	switch {
	case errors.Is(err, charmhub.ErrUnclear):
		return reviewed, &AskedError{err, true}
	case err != nil:
		return reviewed, err
	}
	if reviewed, err = u.Store.Await(ctx, status); err == nil {
		return reviewed, nil
	}
	_, refused := errors.AsType[*charmhub.Error](err)
	_, page := errors.AsType[*transport.PageError](err)
	return reviewed, &AskedError{err, transport.IsBroken(err) || refused || page}
}

// andThen returns why a look after a failure failed; nil if it found what it looked for.
func andThen(failure, look error) error {
	if look == nil {
		return nil
	}
	return fmt.Errorf("%w; and then %w", failure, look)
}

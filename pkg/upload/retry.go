// Package upload makes revisions of content on Charmhub: it checks the content while it is sent, waits for the review,
// and repeats calls of the store that failed in passing.
package upload

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Attempts is the maximum number of attempts for a call that failed in passing. AttemptsForAMinute is the maximum for
// a call that fails until the store shows an earlier change.
const (
	Attempts           = 3
	AttemptsForAMinute = 11
)

// Repeat calls try until it asks for no other try, at most so many times, and returns its last error. Before the next
// try it waits as long as try says, and at least a second more each time. It ends early when the wait does.
func Repeat(
	ctx context.Context, wait func(context.Context, time.Duration) error, attempts int,
	try func() (pause time.Duration, again bool, err error),
) error {
	for attempt := 1; ; attempt++ {
		pause, again, err := try()
		if !again || attempt == attempts || ctx.Err() != nil {
			return err
		}
		if wait(ctx, max(pause, time.Duration(attempt)*time.Second)) != nil {
			return err
		}
	}
}

// RetryAfter returns whether another try may succeed after this error of CreateRevision, which the transport doesn't
// repeat, and the pause before it that the store asks for.
func RetryAfter(err error) (pause time.Duration, again bool) {
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

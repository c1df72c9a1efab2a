package upload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	refused := func(status int, after time.Duration) error {
		return fmt.Errorf("wrapped: %w", &charmhub.Error{Status: status, RetryAfter: after})
	}
	tests := map[string]struct {
		err   error
		again bool
		pause time.Duration
	}{
		"none":               {nil, false, 0},
		"unclear":            {fmt.Errorf("%w: lost", charmhub.ErrUnclear), true, 0},
		"no connection":      {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true, 0},
		"too many":           {refused(http.StatusTooManyRequests, 0), true, 0},
		"too many, later":    {refused(http.StatusTooManyRequests, time.Minute), true, time.Minute},
		"too many, too late": {refused(http.StatusTooManyRequests, time.Hour), false, 0},
		"timed out":          {refused(http.StatusRequestTimeout, 0), true, 0},
		"conflict":           {refused(http.StatusConflict, 0), false, 0},
		"rejected":           {errors.New("the store rejected the upload"), false, 0},
	}
	for name, test := range tests {
		if pause, again := RetryAfter(test.err); again != test.again || again && pause != test.pause {
			t.Errorf("%s: again %v after %s, want %v after %s", name, again, pause, test.again, test.pause)
		}
	}
}

func TestRepeat(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		again  []bool // after each try; none after the last
		pause  time.Duration
		stops  bool // the first wait ends early
		ended  bool // the context has ended
		err    error
		waited []time.Duration
		tries  int
	}{
		"at once":         {again: []bool{false}, tries: 1},
		"the second time": {again: []bool{true, false}, tries: 2, waited: []time.Duration{time.Second}},
		"later, as asked": {again: []bool{true, true, false}, pause: 90 * time.Second, tries: 3,
			waited: []time.Duration{90 * time.Second, 90 * time.Second}},
		"never": {again: []bool{true, true, true}, err: failed, tries: 3,
			waited: []time.Duration{time.Second, 2 * time.Second}},
		"stopped in a wait": {again: []bool{true}, stops: true, err: failed, tries: 1, waited: []time.Duration{time.Second}},
		"stopped in a try":  {again: []bool{true}, ended: true, err: failed, tries: 1},
	} {
		ctx, stop := context.WithCancel(t.Context())
		var waited []time.Duration
		tries := 0
		err := Repeat(ctx, func(_ context.Context, d time.Duration) error {
			waited = append(waited, d)
			if test.stops {
				return context.Canceled
			}
			return nil
		}, 3, func() (time.Duration, bool, error) {
			again := test.again[tries]
			tries++
			if test.ended {
				stop()
			}
			if again {
				return test.pause, true, failed
			}
			return 0, false, nil
		})
		stop()
		if !errors.Is(err, test.err) || tries != test.tries || !slices.Equal(waited, test.waited) {
			t.Errorf("%s: error %v after %d tries and the waits %v", name, err, tries, waited)
		}
	}
}

package upload

import (
	"errors"
	"fmt"
	"net"
	"net/http"
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

// Package upload has what every upload to Charmhub needs: it checks content while it
// is sent, and says after which errors a revision is asked for again.
package upload

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Attempts is how often a revision is asked for. More than one is safe:
// Charmhub answers with the revision that has the same content, if there is one.
const Attempts = 3

// RetryAfter returns whether another try may succeed after this error of
// CreateRevision, which the transport doesn't repeat, and the pause before it that
// the store asks for.
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

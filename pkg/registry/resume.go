package registry

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"
)

const (
	maxTries  = 6 // failures in a row without a byte of progress
	firstWait = 250 * time.Millisecond
	maxWait   = 30 * time.Second
	// maxRetryAfter bounds what a registry may ask for by Retry-After.
	maxRetryAfter = 2 * time.Minute
)

// errLost is an upload that the registry doesn't know any longer, or has other bytes of than it was sent.
var errLost = errors.New("the registry lost the upload")

// errStuck is an answer that says that a chunk was taken, and that nothing of it is there.
var errStuck = errors.New("the registry says that it took a chunk, but has no more bytes than before")

// startOver decides after the registry lost an upload: nil when the blob is worth another one.
//
// Distribution 2 keeps nothing of an upload in whose chunk a connection broke, neither the chunks before: its Location
// says how many bytes came with answers, and it removes what has others. So there a blob takes as many uploads as it
// needs to get through in one, and what gets through of each is no promise for the next.
func (u *upload) startOver() error {
	u.lost++
	limit := maxLostByItself
	if u.broke {
		// It was lost for the bytes that came with the failure: these are progress.
		limit, u.tries = maxLostBroken, 0
	}
	if u.lost >= limit {
		return fmt.Errorf("%w %d times; try again later", errLost, u.lost)
	}
	return nil
}

// recover decides after a failure, of which res is the answer: nil when the upload goes on from
// where the registry now stands, errLost when it must start over, else the error that ends it.
func (u *upload) recover(ctx context.Context, res reply, err error) error {
	if cause := u.src.failure(); errors.Is(cause, errRewound) || u.isLost(err) {
		return errLost
	} else if cause != nil {
		return fmt.Errorf("reading it: %w", cause)
	}
	if err := u.again(ctx, res, err); err != nil {
		return err
	}
	return u.resume(ctx)
}

// isLost tells whether there is no going on with this upload. A chunk refused as out of order is lost only when the
// registry, asked where it stands, doesn't take the next byte there either.
func (u *upload) isLost(err error) bool {
	if isStatus(err, http.StatusRequestedRangeNotSatisfiable) {
		refused := u.refused
		u.refused = u.stands
		return refused == u.stands
	}
	return errors.Is(err, errLost) || isStatus(err, http.StatusNotFound) ||
		isCode(err, transport.BlobUploadUnknownErrorCode, transport.BlobUploadInvalidErrorCode,
			transport.DigestInvalidErrorCode)
}

// again waits before another try of a chunk; it returns the error instead if another try is no use.
func (u *upload) again(ctx context.Context, res reply, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !isTemporary(err) {
		return err
	}
	u.tries++
	u.broke = u.broke || !isStatus(err, http.StatusRequestedRangeNotSatisfiable)
	u.chunk, u.sound = max(u.chunk/4, chunkMin), 0
	u.r.log.Debug("A blob's upload was interrupted", zap.Stringer("digest", u.desc.Digest),
		zap.Int64("received", u.stands), zap.Int("tries", u.tries), zap.Error(err))
	if u.tries >= maxTries {
		return fmt.Errorf("given up after %d tries without progress: %w", u.tries, err)
	}
	d := pause(u.tries, res)
	u.r.log.Info(fmt.Sprintf("Trying again in %s: sending the blob %s was interrupted, the registry has %s of %s",
		d.Round(100*time.Millisecond), u.desc.Digest, bytesOf(u.stands), bytesOf(u.desc.Size)))
	return u.r.wait(ctx, d)
}

func bytesOf(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// isTemporary tells whether a later try may go better: after anything but an answer, and after some answers.
func isTemporary(err error) bool {
	var answer *transport.Error
	return !errors.As(err, &answer) || answer.StatusCode >= http.StatusInternalServerError ||
		isStatus(err, http.StatusRequestTimeout, http.StatusTooManyRequests,
			http.StatusRequestedRangeNotSatisfiable)
}

// pause is how long to wait before the next try: what the registry asks for, else longer each time, and in both
// cases a little at random, so that many clients don't come back at once.
func pause(try int, res reply) time.Duration {
	d := retryablehttp.DefaultBackoff(firstWait, maxWait, try-1, res.Response)
	d = min(max(d, 0), maxRetryAfter) // a number of seconds that time can't count is negative
	return d + rand.N(d/4+1)          //nolint:gosec // not a secret
}

// resume asks the registry how much it has. The transport repeats this question, so a registry that doesn't answer it
// has been given its time.
func (u *upload) resume(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.location.String(), nil)
	if err != nil {
		return err
	}
	res, err := u.r.do(req, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	switch {
	case err == nil:
		return u.advance(res, u.stands)
	case u.isLost(err):
		return errLost
	}
	return fmt.Errorf("asking how much of it arrived: %w", err)
}

// advance takes over what an answer says of the upload; silent is where the registry stands if it doesn't say.
func (u *upload) advance(res reply, silent int64) error {
	stands, err := standing(res, silent)
	if err != nil || stands > u.src.given() {
		return fmt.Errorf("%w: it answers that it has bytes %q", errLost, res.Header.Get("Range"))
	}
	u.stands = stands
	if stands > u.reached {
		u.reached, u.tries = stands, 0
		u.grow()
	}
	if stands > u.best {
		u.progress(stands - u.best)
		u.best, u.lost = stands, 0
	}
	return u.follow(res)
}

// grow makes chunks larger again after many that arrived, so that one bad minute doesn't slow down the rest of a
// large blob by its round trips.
func (u *upload) grow() {
	if u.sound++; u.sound >= soundChunks {
		u.chunk, u.sound = min(2*u.chunk, max(u.chunk, firstChunk(u.desc.Size))), 0
	}
}

// standing reads an upload's Range header, "0-<last byte>". A registry says "0-0" not only with one byte but
// also with none, which is what it is taken for unless one is expected.
func standing(res reply, silent int64) (int64, error) {
	header := res.Header.Get("Range")
	if header == "" {
		return silent, nil
	}
	var last int64
	if _, err := fmt.Sscanf(header, "0-%d", &last); err != nil || last < 0 || last == math.MaxInt64 {
		return 0, errors.Join(err, errLost)
	}
	if last == 0 && silent != 1 {
		return 0, nil
	}
	return last + 1, nil
}

// follow takes over where an answer says the upload goes on, which must be the same host.
func (u *upload) follow(res reply) error {
	next, err := res.Location()
	if errors.Is(err, http.ErrNoLocation) && u.location != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the registry doesn't say where to send it: %w", err)
	}
	if strings.TrimSuffix(next.Host, ":443") != strings.TrimSuffix(u.r.name.RegistryStr(), ":443") {
		return fmt.Errorf("the registry wants it sent to another host, %q", next.Host)
	}
	// Behind a proxy that ends TLS some say http; the transport would correct that too.
	next.Scheme = u.r.name.Scheme()
	u.location = next
	return nil
}

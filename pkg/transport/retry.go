package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"
)

// Patience is how long after the first try of a request the last one may begin.
// So failures that come at once are told within a minute, slow ones within a
// few.
const Patience = 3 * time.Minute

// A request is repeated so often, with pauses that double from the first to
// the longest.
const (
	retries      = 6
	firstPause   = 500 * time.Millisecond
	longestPause = 15 * time.Second
)

// onceKey is the key of a context's value that tells requests to be sent once.
type onceKey struct{}

// Once returns a context whose requests aren't repeated, whatever comes of
// them: for a question that the server may be unable to answer.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// retrier repeats requests whose body can be had again. A request with a body
// and without GetBody is sent once: its sender knows better how to go on. So is
// one under a context of Once.
type retrier struct {
	once http.RoundTripper
	log  *zap.Logger
}

func newRetrier(once http.RoundTripper, log *zap.Logger) retrier { return retrier{once, log} }

// RoundTrip returns the first answer that isn't worth another try, or the last.
func (r retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	if hasBody(req) && req.GetBody == nil || req.Context().Value(onceKey{}) != nil {
		return r.once.RoundTrip(req)
	}
	var unreadable atomic.Pointer[error]
	again, err := repeatable(req, &unreadable)
	if err != nil {
		return nil, err
	}
	t := &tries{unreadable: &unreadable, what: req.Method + " " + req.URL.Host, until: time.Now().Add(Patience), log: r.log}
	res, err := t.client(r.once).Do(again)
	if cause := unreadable.Load(); err != nil && cause != nil {
		return nil, *cause // which isn't the connection's
	}
	// Callers are http.Clients, and put method and address before an error, too.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return res, err
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// repeatable returns the request in retryablehttp's form, which gets each body
// from GetBody, and closes the body that it has. Unreadable gets the
// error of a body that can't be read to its end.
func repeatable(req *http.Request, unreadable *atomic.Pointer[error]) (*retryablehttp.Request, error) {
	again := &retryablehttp.Request{Request: req.Clone(req.Context())}
	if !hasBody(req) {
		return again, nil
	}
	_ = req.Body.Close()
	open := func() (io.Reader, error) {
		body, err := req.GetBody()
		return &replay{ReadCloser: body, unreadable: unreadable}, err
	}
	if err := again.SetBody(retryablehttp.ReaderFunc(open)); err != nil {
		return nil, err
	}
	again.ContentLength = req.ContentLength // unknown to SetBody
	return again, nil
}

// replay is the body of one try. An error of its own isn't the connection's, and
// comes again with the next try; one after it was closed is what comes of
// giving up the try.
type replay struct {
	io.ReadCloser
	closed     atomic.Bool
	unreadable *atomic.Pointer[error]
}

func (r *replay) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !r.closed.Load() {
		r.unreadable.Store(&err)
	}
	return n, err
}

func (r *replay) Close() error {
	r.closed.Store(true)
	return r.ReadCloser.Close()
}

// tries is the state of one request that is tried.
type tries struct {
	unreadable *atomic.Pointer[error] // its body, and why

	what   string // is tried, for the log
	until  time.Time
	log    *zap.Logger
	failed int
	pause  time.Duration // before the next try
}

func (t *tries) client(once http.RoundTripper) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     once,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     retries,
		CheckRetry:   t.again,
		Backoff:      func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return t.pause },
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// again decides on another try, and says so in the log.
func (t *tries) again(ctx context.Context, res *http.Response, err error) (bool, error) {
	worth, stop := worthAnother(ctx, res, err)
	if !worth || t.failed == retries || t.unreadable.Load() != nil {
		return false, stop
	}
	t.pause = pauseBefore(t.failed, res)
	t.failed++
	if time.Now().Add(t.pause).After(t.until) {
		return false, nil
	}
	t.log.Info(fmt.Sprintf("Trying again in %s: %s %s", t.pause.Round(100*time.Millisecond), t.what, complaint(res, err)))
	return true, nil
}

// worthAnother adds 408 to what retryablehttp finds worth another try:
// connection errors, 429 and 5xx except 501.
func worthAnother(ctx context.Context, res *http.Response, err error) (bool, error) {
	if errors.Is(err, errRefused) || errors.Is(err, http.ErrSchemeMismatch) {
		return false, nil // as it will be next time
	}
	if err == nil && res.StatusCode == http.StatusRequestTimeout {
		return ctx.Err() == nil, ctx.Err()
	}
	return retryablehttp.DefaultRetryPolicy(ctx, res, err)
}

// pauseBefore returns what the answer asks for in Retry-After, else twice as
// long each time; and in both cases up to a quarter more, so that many clients
// don't come back at once. No answer makes it longer than a day.
func pauseBefore(try int, res *http.Response) time.Duration {
	d := retryablehttp.DefaultBackoff(firstPause, longestPause, try, res)
	if d < 0 || d > 24*time.Hour { // a number of seconds that time can't count
		d = 24 * time.Hour
	}
	return d + rand.N(d/4+1) //nolint:gosec // not a secret
}

func complaint(res *http.Response, err error) string {
	var wrapped *url.Error
	switch {
	case errors.As(err, &wrapped): // repeats the address, with all of its query
		return "failed: " + wrapped.Err.Error()
	case err != nil:
		return "failed: " + err.Error()
	default:
		return fmt.Sprintf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
}

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"
)

// Patience is the longest time between the first try of a request and the beginning of the last.
const Patience = 3 * time.Minute

// How many times a request is repeated. The pauses double from the first to the longest. After answers they last a
// minute in all, because registries and their token services have failed in passing for up to a minute. A host that
// gives no answer is given half a minute, because its address or the proxy is often wrong.
const (
	retries           = 8
	unansweredRetries = 6
	firstPause        = 500 * time.Millisecond
	longestPause      = 15 * time.Second
)

// Failures counts the failures of a request in a row, and decides when to try again. The zero value has counted none.
type Failures struct{ all, unanswered int }

// Count counts a failure with the answer res, nil if there was none. It returns how long to wait before the next try,
// and whether another try is worth it.
func (f *Failures) Count(res *http.Response) (pause time.Duration, again bool) {
	if res == nil {
		f.unanswered++
	}
	f.all++
	if f.all > retries || f.unanswered > unansweredRetries {
		return 0, false
	}
	return Backoff(f.all-1, res), true
}

// All returns how many failures were counted.
func (f *Failures) All() int { return f.all }

// Unanswered returns how many failures without an answer were counted.
func (f *Failures) Unanswered() int { return f.unanswered }

// retrier repeats failed requests, except those with a context of [Once] and those whose body can't be read again (no
// GetBody).
//
// retryablehttp is kept for its loop and its back-off: it sends the body again, drains answers so that connections are
// reused, decides which errors and answers are temporary, and obeys Retry-After.
type retrier struct {
	base http.RoundTripper
	log  *zap.Logger
}

// RoundTrip returns the first answer that isn't worth another try, or the last.
func (r retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	if hasBody(req) && req.GetBody == nil || IsOnce(req.Context()) {
		return r.base.RoundTrip(req)
	}
	var unreadable atomic.Pointer[error]
	again, err := repeatable(req, &unreadable)
	if err != nil {
		return nil, err
	}
	t := &tries{unreadable: &unreadable, what: req.Method + " " + req.URL.Host, until: time.Now().Add(Patience),
		log: r.log}
	res, err := t.client(r.base).Do(again)
	if err != nil && res != nil { // the context ended when the answer was there already
		_ = res.Body.Close()
		res = nil
	}
	if cause := unreadable.Load(); err != nil && cause != nil {
		return nil, *cause // which isn't the connection's
	}
	return res, Cause(err) // callers are http.Clients, and put method and address before an error, too
}

// Cause removes the method and the URL from an error of an [http.Client]. Callers say better what was being done, and a
// URL's query can hold a secret.
func Cause(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// IsBroken reports whether err means that the connection to a server broke or can't be made.
func IsBroken(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errIdle) ||
		errors.As(err, &network) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// hasBody reports whether the request has a body to send.
func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// repeatable returns the request for retryablehttp, which reads each body from GetBody, and closes the present body. If
// a body can't be read to its end, its error is stored in unreadable.
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

// replay is the body of one try. Its errors are not the connection's, and would come again with the next try. An error
// after Close only means that the try was cancelled.
type replay struct {
	io.ReadCloser
	closed     atomic.Bool
	unreadable *atomic.Pointer[error]
}

// Read implements [io.Reader], and notes an error of the body itself.
func (r *replay) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !r.closed.Load() {
		r.unreadable.Store(&err)
	}
	return n, err
}

// Close closes the body. Later errors of Read only mean that the try was cancelled.
func (r *replay) Close() error {
	r.closed.Store(true)
	return r.ReadCloser.Close()
}

// tries is the state of one request that is tried.
type tries struct {
	unreadable *atomic.Pointer[error] // its body, and why

	what   string    // for the log
	until  time.Time // the last try may begin
	log    *zap.Logger
	failed Failures
	pause  time.Duration // before the next try
}

// client returns retryablehttp's client, with the policy of t, over base.
func (t *tries) client(base http.RoundTripper) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     base,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     retries,
		CheckRetry:   t.again,
		Backoff:      func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return t.pause },
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// again decides on another try, and logs it.
func (t *tries) again(ctx context.Context, res *http.Response, err error) (bool, error) {
	worth, stop := worthAnother(ctx, res, err)
	if !worth || t.unreadable.Load() != nil {
		return false, stop
	}
	if err != nil {
		res = nil
	}
	pause, again := t.failed.Count(res)
	if !again || time.Now().Add(pause).After(t.until) {
		return false, nil
	}
	t.pause = pause
	t.log.Info(fmt.Sprintf("Trying again in %s: %s %s", t.pause.Round(100*time.Millisecond), t.what, complaint(res, err)))
	return true, nil
}

// worthAnother adds 408 to what retryablehttp finds worth another try: connection errors, 429 and 5xx except 501.
func worthAnother(ctx context.Context, res *http.Response, err error) (bool, error) {
	if _, page := errors.AsType[*PageError](err); page {
		return false, nil
	}
	if _, untrusted := errors.AsType[*CertificateError](err); untrusted || errors.Is(err, errRefused) ||
		errors.Is(err, http.ErrSchemeMismatch) {
		return false, nil // as it will be next time
	}
	if err == nil && res.StatusCode == http.StatusRequestTimeout {
		return ctx.Err() == nil, ctx.Err()
	}
	return retryablehttp.DefaultRetryPolicy(ctx, res, err)
}

// Backoff returns how long to wait after try number try, counted from 0: twice as long as after the try before, or
// longer if the answer asks for it in Retry-After, a day at most; and up to a quarter more, so that many clients don't
// come back at once. An answer that asks for another try at once (0) gets it. res is nil after a try without an answer.
func Backoff(try int, res *http.Response) time.Duration {
	d := retryablehttp.DefaultBackoff(firstPause, longestPause, try, res)
	switch {
	case d < 0 || d > 24*time.Hour: // a number of seconds that a Duration can't hold
		d = 24 * time.Hour
	case d > 0:
		d = max(d, retryablehttp.DefaultBackoff(firstPause, longestPause, try, nil))
	}
	return d + rand.N(d/4+1) //nolint:gosec // not a secret
}

// complaint says in the log why a try failed.
func complaint(res *http.Response, err error) string {
	if err != nil {
		return "failed: " + Cause(err).Error()
	}
	return fmt.Sprintf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
}

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// idleLimit is how long a connection may have no traffic.
const idleLimit = time.Minute

// errIdle is the cause of a request that was given up because nothing was sent or received.
var errIdle = errors.New("the connection fell silent")

// idle gives up requests without traffic: a connection whose other end is gone reports nothing. Time that is spent on
// this side, such as reading a file to be sent, doesn't count.
type idle struct{ base http.RoundTripper }

// RoundTrip fails with errIdle, as does reading the answer's body. It re-raises a panic from the request's body.
func (i idle) RoundTrip(req *http.Request) (*http.Response, error) {
	limit := idleLimit
	if longer, ok := req.Context().Value(answerWithinKey{}).(time.Duration); ok {
		limit = longer
	}
	w := newWatch(req.Context(), req.URL.Host, limit)
	watched := req.WithContext(w.ctx)
	if hasBody(req) {
		watched.Body = sentBody{req.Body, w}
	}
	res, err := i.base.RoundTrip(watched)
	if p := w.panicked.Load(); p != nil {
		panic(p)
	}
	if err != nil {
		w.end()
		return nil, w.explain(err)
	}
	w.timer.Stop()
	res.Body = receivedBody{res.Body, w}
	return res, nil
}

// ReadWatched opens a stream from a server that has its own transport, such as the container engine. It fails if open
// takes longer than limit, or if nothing comes within a minute of reading. The error names the server.
func ReadWatched(
	ctx context.Context, server string, limit time.Duration, open func(context.Context) (io.ReadCloser, error),
) (io.ReadCloser, error) {
	w := newWatch(ctx, server, limit)
	body, err := open(w.ctx)
	if err != nil {
		w.end()
		return nil, w.explain(err)
	}
	w.timer.Stop()
	return receivedBody{body, w}, nil
}

// watch ends the context of one request that has no traffic.
type watch struct {
	ctx    context.Context //nolint:containedctx // the request's, which it ends
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  atomic.Int64  // what the timer is set to
	answer time.Duration // how long the answer may take
	// panicked is set when the request's body panicked: it is read in a goroutine of net/http, where that would end the
	// process.
	panicked atomic.Pointer[parallel.PanicError]
}

// newWatch returns a watch that ends its context with errIdle if it isn't stopped or reset within limit.
func newWatch(ctx context.Context, server string, limit time.Duration) *watch {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{ctx: ctx, cancel: cancel, answer: limit}
	w.limit.Store(int64(limit))
	w.timer = time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("%w: nothing from %s for %s", errIdle, server, time.Duration(w.limit.Load())))
	})
	return w
}

// reset starts the timer again, with this limit.
func (w *watch) reset(limit time.Duration) {
	w.limit.Store(int64(limit))
	w.timer.Reset(limit)
}

// end stops the watch and releases its context.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain returns why the watch ended the request if it did, else err.
func (w *watch) explain(err error) error {
	if cause := context.Cause(w.ctx); err != nil && errors.Is(cause, errIdle) {
		return cause
	}
	return err
}

// sentBody is the body of a request. Between two reads it is the other side's turn, and after the last one, too.
type sentBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements [io.Reader]. The time that it takes doesn't count as silence. A panic ends the request, and RoundTrip
// re-raises it.
func (b sentBody) Read(p []byte) (n int, err error) {
	b.watch.timer.Stop()
	err = parallel.Guard(func() (err error) { n, err = b.ReadCloser.Read(p); return err })
	if crash, ok := err.(*parallel.PanicError); ok { //nolint:errorlint // Guard's own
		b.watch.panicked.Store(crash)
	}
	if err != nil {
		b.watch.reset(b.watch.answer)
	} else {
		b.watch.reset(idleLimit)
	}
	return n, err
}

// receivedBody is the body of an answer.
type receivedBody struct {
	io.ReadCloser
	watch *watch
}

// Read implements [io.Reader]. It fails with errIdle if nothing comes for too long.
func (b receivedBody) Read(p []byte) (int, error) {
	b.watch.reset(idleLimit)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.watch.explain(err)
	}
	return n, err
}

// Close closes the body and ends the watch.
func (b receivedBody) Close() error {
	err := b.ReadCloser.Close()
	b.watch.end()
	return err
}

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

const (
	// silence is how long nothing may move on a connection.
	silence = time.Minute
	// thought is how long an answer may take for which much has to be read.
	thought = 10 * time.Minute
	// much is a body for which that is so, in bytes.
	much = 1 << 20
)

var errSilent = errors.New("the connection fell silent")

// watchdog gives up requests on which nothing moves any more: a connection
// whose other end is gone doesn't tell. What takes its time on this side, such
// as reading a file to be sent, doesn't count.
type watchdog struct{ base http.RoundTripper }

// RoundTrip fails with errSilent, as does reading the answer's body. It panics
// with what reading the request's body panicked with.
func (w watchdog) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	limit := answerLimit(req)
	d := &dog{ctx: ctx, cancel: cancel}
	d.timer = time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("%w: nothing from %s for %s", errSilent, req.URL.Host, limit))
	})
	watched := req.WithContext(ctx)
	if hasBody(req) {
		watched.Body = sentBody{req.Body, d, limit}
	}
	res, err := w.base.RoundTrip(watched)
	if p := d.panicked.Load(); p != nil {
		panic(p)
	}
	if err != nil {
		d.rest()
		return nil, d.explain(err)
	}
	d.timer.Stop()
	res.Body = receivedBody{res.Body, d}
	return res, nil
}

// answerLimit is how long the answer to a request may take. A registry reads a
// blob over when the last request of its upload, which names the digest, has it
// kept (distribution spec, "Pushing a blob in chunks"), but not a chunk; a
// storage looks at a file that it was sent.
func answerLimit(req *http.Request) time.Duration {
	finishes := req.Method == http.MethodPut && req.ContentLength == 0 && req.URL.Query().Has("digest")
	receives := req.Method == http.MethodPost && req.ContentLength > much
	if finishes || receives {
		return thought
	}
	return silence
}

// dog watches one request.
type dog struct {
	ctx    context.Context //nolint:containedctx // the request's, which it ends
	cancel context.CancelCauseFunc
	timer  *time.Timer
	// panicked is set when the body panicked: it is read in a goroutine of
	// net/http, where that would end the process.
	panicked atomic.Pointer[parallel.PanicError]
}

// rest ends the watch.
func (d *dog) rest() {
	d.timer.Stop()
	d.cancel(nil)
}

// explain returns why the dog ended the request if it did, else err.
func (d *dog) explain(err error) error {
	if cause := context.Cause(d.ctx); err != nil && errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

// sentBody is the body of a request. Between two reads it is the other side's
// turn, and after the last one, too.
type sentBody struct {
	io.ReadCloser
	dog    *dog
	answer time.Duration
}

func (b sentBody) Read(p []byte) (n int, err error) {
	b.dog.timer.Stop()
	err = parallel.Guard(func() (err error) { n, err = b.ReadCloser.Read(p); return err })
	if crash, ok := err.(*parallel.PanicError); ok { //nolint:errorlint // Guard's own
		b.dog.panicked.Store(crash)
	}
	if err != nil {
		b.dog.timer.Reset(b.answer)
	} else {
		b.dog.timer.Reset(silence)
	}
	return n, err
}

// receivedBody is the body of an answer.
type receivedBody struct {
	io.ReadCloser
	dog *dog
}

func (b receivedBody) Read(p []byte) (int, error) {
	b.dog.timer.Reset(silence)
	n, err := b.ReadCloser.Read(p)
	b.dog.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.dog.explain(err)
	}
	return n, err
}

func (b receivedBody) Close() error {
	err := b.ReadCloser.Close()
	b.dog.rest()
	return err
}

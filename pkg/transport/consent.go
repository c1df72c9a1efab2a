package transport

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// consent asks each host only as long as it answers: a request may say "Expect:
// 100-continue" (RFC 9110, section 10.1.1), and waits a second for the answer
// before its body is sent. Some hosts leave that unanswered and wait for the
// body, so each of their requests would take a second longer. The first one
// shows it; those after it don't say Expect.
type consent struct {
	base   http.RoundTripper
	silent *sync.Map // hosts that don't answer
}

// RoundTrip removes the header Expect where nobody answers it.
func (c consent) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Expect") == "" {
		return c.base.RoundTrip(req)
	}
	if _, silent := c.silent.Load(req.URL.Host); silent {
		unasked := req.Clone(req.Context())
		unasked.Header.Del("Expect")
		return c.base.RoundTrip(unasked)
	}
	var waited, answered, sent atomic.Bool
	trace := &httptrace.ClientTrace{
		Wait100Continue: func() { waited.Store(true) },
		Got100Continue:  func() { answered.Store(true) },
	}
	asked := req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	if hasBody(req) {
		asked.Body = readBody{req.Body, &sent}
	}
	res, err := c.base.RoundTrip(asked)
	// A host that refuses answers with that, and is sent nothing.
	if waited.Load() && sent.Load() && !answered.Load() {
		c.silent.Store(req.URL.Host, true)
	}
	return res, err
}

// readBody is a body that tells whether anything of it was read.
type readBody struct {
	io.ReadCloser
	read *atomic.Bool
}

func (b readBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

package transport

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
)

// expect sends the header "Expect: 100-continue" (RFC 9110, section 10.1.1) only to hosts that answer it. A request
// with it waits for that answer before its body is sent, for a second at most. Some hosts never give it and wait for
// the body, so each of their requests would take a second longer. The first one shows it; later ones go without the
// header.
type expect struct {
	base   http.RoundTripper
	silent *sync.Map // hosts that don't answer
}

// RoundTrip removes the header for hosts that don't answer it.
func (e expect) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Expect") == "" {
		return e.base.RoundTrip(req)
	}
	if _, silent := e.silent.Load(req.URL.Host); silent {
		plain := req.Clone(req.Context())
		plain.Header.Del("Expect")
		return e.base.RoundTrip(plain)
	}
	var waited, answered, sent atomic.Bool
	trace := &httptrace.ClientTrace{
		Wait100Continue: func() { waited.Store(true) },
		Got100Continue:  func() { answered.Store(true) },
	}
	traced := req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	if hasBody(req) {
		traced.Body = notingBody{req.Body, &sent}
	}
	res, err := e.base.RoundTrip(traced)
	// A host that refuses the request answers with that, and is sent nothing.
	if waited.Load() && sent.Load() && !answered.Load() {
		e.silent.Store(req.URL.Host, true)
	}
	return res, err
}

// notingBody records whether any byte of a body was read.
type notingBody struct {
	io.ReadCloser
	read *atomic.Bool
}

// Read implements [io.Reader].
func (b notingBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

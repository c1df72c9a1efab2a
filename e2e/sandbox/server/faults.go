package server

import (
	"io"
	"net/http"
	"time"
)

// Fault is something that goes wrong with one request. Its fields combine: a fault with nothing but a delay is a slow
// answer, and otherwise right.
type Fault struct {
	// Delay passes before anything else happens.
	Delay time.Duration
	// Handle does what was asked before the answer is replaced or dropped: the client can't know that it was done.
	Handle bool
	// Status, when set, is answered with Header and Body.
	Status int
	Header http.Header
	Body   string
	// Drop closes the connection without an answer.
	Drop bool
	// AfterBytes, when set, lets so many bytes of the request's body, or of the answer's if the request has none, through
	// to where they belong and then drops the connection.
	AfterBytes int64
}

// Fault makes choose decide for every request from now on, before it is handled, what goes wrong with it: nil for
// nothing. It is called by several requests at the same time. A nil choose ends it.
func (s *Server) Fault(choose func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = choose
}

// faultFor returns the fault for a request, nil for none: of the test's function, or of the options.
func (s *Server) faultFor(request Request) *Fault {
	s.mu.Lock()
	choose := s.fault
	s.mu.Unlock()
	if choose != nil {
		if fault := choose(request); fault != nil {
			return fault
		}
	}
	return s.passingFault(request)
}

// observe records each request of a server and lets its fault happen.
func (s *Server) observe(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			panic(http.ErrAbortHandler)
		}
		defer s.inflight.Done()
		entry := s.log.add(s.serverOf(name, r), r)
		defer func() {
			s.log.end(entry)
			s.options.Log(s.log.copy(entry).String())
		}()

		r = r.WithContext(r.Context()) // a copy: net/http looks at its own request's body again
		r.Body = countedBody{ReadCloser: r.Body, log: &s.log, entry: entry}
		answer := recorder{ResponseWriter: w, log: &s.log, entry: entry}
		if fault := s.faultFor(s.log.copy(entry)); fault != nil {
			s.wait(r.Context(), fault.Delay)
			fault.serve(answer, r, next)
		} else {
			next.ServeHTTP(answer, r)
		}
		answer.ended()
	})
}

// serverOf returns the name of the server that a request is for: the token service is one also where the store has it.
func (s *Server) serverOf(name string, r *http.Request) string {
	if name == "store" && r.URL.Path == realmPath && !s.options.SeparateTokenService {
		return "auth"
	}
	return name
}

// begin counts a request in, unless the sandbox is closing.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.inflight.Add(1)
	}
	return !s.closed
}

// serve answers with the fault. It ends in http.ErrAbortHandler, net/http's way to drop a connection, when the client
// is to get no answer.
func (f *Fault) serve(w recorder, r *http.Request, next http.Handler) {
	if f.AfterBytes > 0 {
		f.cut(w, r, next)
	}
	if f.Handle {
		next.ServeHTTP(unseen{header: http.Header{}}, r)
	}
	switch {
	case f.Status != 0:
		for name, values := range f.Header {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, f.Body)
	case f.Drop || f.Handle:
		panic(http.ErrAbortHandler)
	default:
		next.ServeHTTP(w, r)
	}
}

// cut never returns.
func (f *Fault) cut(w recorder, r *http.Request, next http.Handler) {
	if r.ContentLength != 0 {
		r.Body = &cutBody{ReadCloser: r.Body, left: f.AfterBytes}
		next.ServeHTTP(unseen{header: http.Header{}}, r)
	} else {
		next.ServeHTTP(&cutAnswer{recorder: w, left: f.AfterBytes}, r)
		_ = http.NewResponseController(w).Flush()
	}
	panic(http.ErrAbortHandler)
}

// cutBody is a body whose sender goes away after so many bytes.
type cutBody struct {
	io.ReadCloser
	left int64
}

// Read implements [io.Reader], and fails after left bytes.
func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// cutAnswer is an answer that breaks off after so many bytes.
type cutAnswer struct {
	recorder
	left int64
}

// Write implements [io.Writer], and fails after left bytes.
func (w *cutAnswer) Write(p []byte) (int, error) {
	n, err := w.recorder.Write(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// unseen is an answer that nobody gets.
type unseen struct{ header http.Header }

// Header returns a header that nobody gets.
func (u unseen) Header() http.Header { return u.header }

// Write drops p.
func (u unseen) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader drops the status.
func (u unseen) WriteHeader(int) {}

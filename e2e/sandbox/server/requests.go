package server

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Request is one request as the sandbox saw it.
type Request struct {
	Server    string // "store", "storage", "registry", "sso", or "auth" for the token service, wherever it is
	Method    string
	Path      string
	Query     url.Values
	Status    int         // what was answered; 0 while it is handled, or when the connection was dropped
	BodyBytes int64       // bytes of the request's body that were received
	Body      []byte      // the first of these, at most 16 KiB
	Header    http.Header // of the request, secrets included
	Began     time.Time   // when it arrived
	Ended     time.Time   // when it was answered; zero while it is handled
}

// keptBody is how much of a body is kept: all of the JSON that clients send, and of the image texts that they upload.
const keptBody = 16 << 10

// String is the request as one line, without any secret.
func (r Request) String() string {
	query := url.Values{}
	for name, values := range r.Query {
		if name != "_state" { // the registry's own, long and without meaning
			query[name] = values
		}
	}
	target := url.URL{Path: r.Path, RawQuery: query.Encode()}
	return fmt.Sprintf("%-8s %-5s %s %d %d bytes", r.Server, r.Method, target.RequestURI(), r.Status, r.BodyBytes)
}

// Requests returns the requests so far in the order in which they came.
func (s *Server) Requests() []Request {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	var all []Request
	for _, entry := range s.log.entries {
		all = append(all, *entry)
	}
	return all
}

// SentBytes returns the bytes of content that the registry and the storage received so far.
func (s *Server) SentBytes() (sum int64) {
	for _, r := range s.Requests() {
		if r.Server == "registry" || r.Server == "storage" {
			sum += r.BodyBytes
		}
	}
	return sum
}

// ResetRequests forgets the requests so far.
func (s *Server) ResetRequests() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.entries = nil
}

// requestLog holds the requests to all servers, in their order. It may be used by several goroutines.
type requestLog struct {
	mu      sync.Mutex
	entries []*Request
}

// add notes that a request began, and returns its entry.
func (l *requestLog) add(server string, r *http.Request) *Request {
	entry := &Request{
		Server: server, Method: r.Method, Path: r.URL.Path,
		Query: r.URL.Query(), Header: r.Header.Clone(), Began: time.Now(),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry)
	return entry
}

// end notes that a request is over.
func (l *requestLog) end(entry *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry.Ended = time.Now()
}

// copy returns the entry as it is now.
func (l *requestLog) copy(entry *Request) Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *entry
}

// countedBody counts what is received as it is received, so that the log is right even for a request that never ends.
type countedBody struct {
	io.ReadCloser
	log   *requestLog
	entry *Request
}

// Read implements [io.Reader], and counts the bytes.
func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	b.entry.BodyBytes += int64(n)
	b.entry.Body = append(b.entry.Body, p[:min(n, keptBody-len(b.entry.Body))]...)
	return n, err
}

// recorder notes the status before the client can see it, so that a test that has its answer finds it in the log.
type recorder struct {
	http.ResponseWriter
	log   *requestLog
	entry *Request
}

// WriteHeader notes the first final status.
func (w recorder) WriteHeader(status int) {
	w.log.mu.Lock()
	first := w.entry.Status == 0
	if first && status >= http.StatusOK {
		w.entry.Status = status
	}
	w.log.mu.Unlock()
	if first { // the registry may give a second one after a broken body
		w.ResponseWriter.WriteHeader(status)
	}
}

// Write notes that the answer has begun, and writes p.
func (w recorder) Write(p []byte) (int, error) {
	w.ended()
	return w.ResponseWriter.Write(p)
}

// ended notes the status that an answer has when nothing else was said.
func (w recorder) ended() {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if w.entry.Status == 0 {
		w.entry.Status = http.StatusOK
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

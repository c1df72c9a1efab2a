package charmhub

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
)

// paste returns text as `charmcraft login --export` writes it.
func paste(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// mustParse parses a token and fails the test if it is invalid.
func mustParse(t *testing.T, text string) *Credentials {
	t.Helper()
	c, err := ParseCredentials(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// recorder notes requests and masked secrets.
type recorder struct {
	mu       sync.Mutex
	requests []string
	masked   map[string]bool
}

// note keeps a request for log.
func (r *recorder) note(request string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, request)
}

// mask keeps a secret as one that the client masked.
func (r *recorder) mask(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.masked == nil {
		r.masked = map[string]bool{}
	}
	r.masked[secret] = true
}

// log returns the requests, one a line.
func (r *recorder) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.requests, "\n")
}

// serve starts a store, which is also storage and single sign-on, and a client of it with a plain token.
func serve(t *testing.T, handler http.HandlerFunc) (*Client, *recorder) {
	t.Helper()
	rec := &recorder{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec.note(r.Method + " " + r.URL.RequestURI())
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return New(Config{
		StoreURL: server.URL, StorageURL: server.URL, SSOURL: server.URL,
		Credentials: mustParse(t, paste("plain-token")), Logger: zap.NewNop(), Mask: rec.mask, UserAgent: "upload-resource",
	}), rec
}

// answer writes a body with a status.
func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// reply is an answer for a roundTrip.
func reply(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r,
		Header: http.Header{}, ContentLength: int64(len(body)),
	}
}

// wantIn fails the test for each part that the text lacks.
func wantIn(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

// wantNotIn fails the test for each part that the text has.
func wantNotIn(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(text, part) {
			t.Errorf("%q must not be in:\n%s", part, text)
		}
	}
}

package registry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// refusal is an answer of the registry to a request for a manifest.
func refusal(status int) error {
	asked := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "answering.example", Path: "/v2/"}}
	return &registryTransport.Error{
		StatusCode: status, Request: asked,
		Errors: []registryTransport.Diagnostic{{Code: "SOME", Message: "a test said so."}},
	}
}

// asking is the error of an http.Client.
func asking(err error) error {
	return &url.Error{Op: "Put", URL: "https://asked.example/v2/uploads/?_state=secret", Err: err}
}

// TestExplain: users read what happened and what they can do, without the addresses of requests.
func TestExplain(t *testing.T) {
	t.Parallel()
	repo, err := name.NewRepository("registry.example/charm/abc/my-image")
	if err != nil {
		t.Fatal(err)
	}
	r := &Repository{name: repo}
	const (
		refused = "the registry refused the credentials that Charmhub gave for charm/abc/my-image: "
		said    = "answering.example answered "
		account = ": SOME: a test said so; check that the store token's account may upload to this charm"
		later   = ": SOME: a test said so; run this again later"
		rest    = ": SOME: a test said so; blobs that arrived are kept: run this again later, which sends the rest"
		reach   = "; check that this machine reaches it, by the proxy of HTTPS_PROXY if there is one, or "
		resumes = "; blobs that arrived are kept: run this again later, which sends the rest"
	)
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
	for _, test := range []struct {
		err           error
		want, sending string // sending: the same if empty
	}{
		{err: refusal(401), want: refused + said + "401 Unauthorized" + account},
		{err: refusal(403), want: refused + said + "403 Forbidden" + account},
		{err: refusal(404), want: said + "404 Not Found: SOME: a test said so"},
		{refusal(408), said + "408 Request Timeout" + later, said + "408 Request Timeout" + rest},
		{refusal(429), said + "429 Too Many Requests" + later, said + "429 Too Many Requests" + rest},
		{refusal(500), said + "500 Internal Server Error" + later, said + "500 Internal Server Error" + rest},
		{refusal(503), said + "503 Service Unavailable" + later, said + "503 Service Unavailable" + rest},
		{err: &registryTransport.Error{StatusCode: 404}, want: "the registry answered 404 Not Found"},
		{err: errors.New("as it is"), want: "as it is"},
		{asking(dial), "dial tcp: refused" + reach + runAgain, "dial tcp: refused" + resumes},
		{
			asking(io.EOF), "the connection to asked.example broke off" + reach + runAgain,
			"the connection to asked.example broke off" + resumes,
		},
		{
			fmt.Errorf("reading: %w", io.ErrUnexpectedEOF),
			"reading: the connection to registry.example broke off" + reach + runAgain,
			"reading: the connection to registry.example broke off" + resumes,
		},
		{err: errors.New("a; a; b"), want: "a; b"},
		{err: fmt.Errorf("a; asked: %w", http.ErrSchemeMismatch), want: "a"},
		{err: http.ErrSchemeMismatch, want: http.ErrSchemeMismatch.Error()},
	} {
		if got := r.explain(test.err); got.Error() != test.want || !errors.Is(got, test.err) {
			t.Errorf("got  %v\nwant %s", got, test.want)
		}
		if test.sending == "" {
			test.sending = test.want
		}
		if got := r.explainSending(test.err); got.Error() != test.sending {
			t.Errorf("sending:\ngot  %v\nwant %s", got, test.sending)
		}
	}
	if err := r.explainSending(nil); err != nil {
		t.Errorf("nothing is explained: %v", err)
	}
}

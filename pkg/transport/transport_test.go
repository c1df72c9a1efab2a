package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// roundTripper is a function that answers requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// answer is a response with a header given as name, value, name, value.
func answer(req *http.Request, status int, header ...string) *http.Response {
	res := &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}
	for pair := range slices.Chunk(header, 2) {
		res.Header.Set(pair[0], pair[1])
	}
	return res
}

// request returns a request with the test's context.
func request(t *testing.T, method, target string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// ignore drops a text.
func ignore(string) {}

func TestGuardAddresses(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"https://api.charmhub.io/v1":     true,
		"https://10.0.0.1/":              true,
		"http://localhost:5000/v2/":      true,
		"http://127.0.0.1:5000/v2/":      true,
		"http://127.8.9.10/":             true,
		"http://[::1]:5000/":             true,
		"http://api.charmhub.io/v1":      false,
		"http://10.0.0.1/":               false,
		"http://localhost.example.com/":  false,
		"http://127.0.0.1.example.com/":  false,
		"http://user@example.com:80/":    false,
		"ftp://localhost/":               false,
		"http://[fe80::1]/":              false,
		"http://0.0.0.0/":                false,
		"http://localhost@example.com/x": false,
	}
	for target, safe := range tests {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			sent := 0
			carry := retrier{guard{roundTripper(func(req *http.Request) (*http.Response, error) {
				sent++
				return answer(req, http.StatusOK), nil
			}), ignore}, zap.NewNop()}
			res, err := carry.RoundTrip(request(t, http.MethodGet, target, nil))
			if err == nil {
				_ = res.Body.Close()
			}
			if safe && (err != nil || sent != 1) {
				t.Errorf("sent %d times, error %v; want it sent", sent, err)
			}
			if !safe && (!errors.Is(err, errRefused) || sent != 0) {
				t.Errorf("sent %d times, error %v; want it refused", sent, err)
			}
		})
	}
}

// bodyCloser is a body that notes its end.
type bodyCloser struct {
	io.Reader
	closed bool
}

func (c *bodyCloser) Close() error { c.closed = true; return nil }

func TestGuardClosesWhatItRefuses(t *testing.T) {
	t.Parallel()
	body := &bodyCloser{Reader: strings.NewReader("secret")}
	never := roundTripper(func(*http.Request) (*http.Response, error) { panic("sent") })
	res, err := guard{never, ignore}.RoundTrip(request(t, http.MethodPost, "http://example.com", body))
	if err == nil {
		_ = res.Body.Close()
	}
	if !errors.Is(err, errRefused) || !body.closed {
		t.Errorf("error %v, body closed: %v", err, body.closed)
	}
}

func TestSecretsAreMaskedFirst(t *testing.T) {
	t.Parallel()
	var masked, seen []string
	carry := guard{roundTripper(func(req *http.Request) (*http.Response, error) {
		seen = slices.Clone(masked)
		return answer(req, http.StatusOK), nil
	}), func(secret string) { masked = append(masked, secret) }}
	req := request(t, http.MethodGet, "https://example.com", nil)
	req.Header.Set("Authorization", "Macaroon root=abc, discharge=def")
	res, err := carry.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if want := []string{"root=abc, discharge=def"}; !slices.Equal(seen, want) {
		t.Errorf("when the request was sent, %q was masked, want %q", seen, want)
	}
}

// TestRedirectsAreAnswers: following one is for those who know which hosts a secret is for.
func TestRedirectsAreAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{"https://other.example.com/", "/elsewhere"} {
			sent := 0
			carry := retrier{roundTripper(func(req *http.Request) (*http.Response, error) {
				sent++
				return answer(req, status, "Location", location), nil
			}), zap.NewNop()}
			res, err := carry.RoundTrip(request(t, http.MethodPost, "https://example.com", bytes.NewReader([]byte("body"))))
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if sent != 1 || res.StatusCode != status {
				t.Errorf("%d to %s: sent %d times, answer %d", status, location, sent, res.StatusCode)
			}
		}
	}
}

// TestNewTransport: the parts are in their order.
func TestNewTransport(t *testing.T) {
	t.Parallel()
	carry, ok := New(ignore, zap.NewNop()).RoundTripper.(retrier)
	if !ok {
		t.Fatal("nothing repeats requests")
	}
	guarded, ok := carry.base.(guard)
	if !ok {
		t.Fatal("a repeated request is not looked at")
	}
	trusted, ok := guarded.base.(certificates)
	if !ok {
		t.Fatal("a certificate that can't be verified is not explained")
	}
	data, ok := trusted.base.(pages)
	if !ok {
		t.Fatal("a web page is taken for an answer")
	}
	whole, ok := data.base.(prefetch)
	if !ok {
		t.Fatal("an answer that breaks off is not repeated")
	}
	if _, ok := whole.base.(idle); !ok {
		t.Fatal("a silent connection is not given up")
	}
}

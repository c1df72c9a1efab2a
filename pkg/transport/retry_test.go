package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

var errReset = syscall.ECONNRESET

// script answers one request after another with the next of its steps, and the last for ever.
type script struct {
	steps  []roundTripper
	bodies []string
	at     []time.Duration // since the first
	began  time.Time
}

func (s *script) RoundTrip(req *http.Request) (*http.Response, error) {
	if len(s.at) == 0 {
		s.began = time.Now()
	}
	s.at = append(s.at, time.Since(s.began))
	body := ""
	if req.Body != nil {
		content, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		if req.ContentLength != int64(len(content)) {
			return nil, errors.New("the length is wrong")
		}
		body = string(content)
	}
	s.bodies = append(s.bodies, body)
	return s.steps[min(len(s.bodies), len(s.steps))-1](req)
}

// status answers with the code, and a header given as name, value, name, value.
func status(code int, header ...string) roundTripper {
	return func(req *http.Request) (*http.Response, error) { return answer(req, code, header...), nil }
}

// failing answers with an error instead of a response.
func failing(err error) roundTripper {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// slow lets next answer after d.
func slow(d time.Duration, next roundTripper) roundTripper {
	return func(req *http.Request) (*http.Response, error) { time.Sleep(d); return next(req) }
}

func TestRetries(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		steps []roundTripper
		sent  int
		last  int // status; 0 for an error
		least time.Duration
		most  time.Duration
	}{
		"nothing wrong": {[]roundTripper{status(200)}, 1, 200, 0, 0},
		"reset":         {[]roundTripper{failing(errReset), status(200)}, 2, 200, firstPause, firstPause * 5 / 4},
		"cut": {[]roundTripper{failing(io.ErrUnexpectedEOF), status(200)}, 2, 200, firstPause,
			firstPause * 5 / 4},
		"silent": {[]roundTripper{failing(errIdle), status(200)}, 2, 200, firstPause, firstPause * 5 / 4},
		"408":    {[]roundTripper{status(408), status(200)}, 2, 200, firstPause, firstPause * 5 / 4},
		"429":    {[]roundTripper{status(429), status(200)}, 2, 200, firstPause, firstPause * 5 / 4},
		"429, later": {[]roundTripper{status(429, "Retry-After", "40"), status(200)}, 2, 200, 40 * time.Second,
			50 * time.Second},
		"429, at once":   {[]roundTripper{status(429, "Retry-After", "0"), status(200)}, 2, 200, 0, 0},
		"429, next week": {[]roundTripper{status(429, "Retry-After", "604800"), status(200)}, 1, 429, 0, 0},
		"429, beyond all time": {[]roundTripper{status(429, "Retry-After", "9223372036854775807"), status(200)}, 1,
			429, 0, 0},
		"429, nonsense": {[]roundTripper{status(429, "Retry-After", "soon"), status(200)}, 2, 200, firstPause,
			firstPause * 5 / 4},
		"500": {[]roundTripper{status(500), status(200)}, 2, 200, firstPause, firstPause * 5 / 4},
		"503, later": {[]roundTripper{status(503, "Retry-After", "7"), status(200)}, 2, 200, 7 * time.Second,
			9 * time.Second},
		"504 twice": {[]roundTripper{status(504), status(504), status(200)}, 3, 200, 3 * firstPause,
			4 * firstPause},
		"500 for ever": {[]roundTripper{status(500)}, 1 + retries, 500, time.Minute, 76 * time.Second},
		"503 for ever, soon": {[]roundTripper{status(503, "Retry-After", "1")}, 1 + retries, 503, time.Minute,
			77 * time.Second},
		"503 for ever, at once": {[]roundTripper{status(503, "Retry-After", "0")}, 1 + retries, 503, 0, 0},
		"reset for ever": {[]roundTripper{failing(errReset)}, 1 + unansweredRetries, 0, 30 * time.Second,
			39 * time.Second},
		"500, then reset for ever": {[]roundTripper{status(500), status(500), status(500), failing(errReset)}, 1 + retries,
			0, time.Minute, 76 * time.Second},
		"a minute of 502": {append(slices.Repeat([]roundTripper{status(502)}, retries), status(200)), 1 + retries, 200,
			time.Minute, 76 * time.Second},
		"slow for ever":             {[]roundTripper{slow(idleLimit, failing(errIdle))}, 3, 0, 2 * idleLimit, Patience},
		"a later answer than error": {[]roundTripper{failing(errReset), status(404)}, 2, 404, firstPause, firstPause * 5 / 4},
		"501":                       {[]roundTripper{status(501)}, 1, 501, 0, 0},
		"401":                       {[]roundTripper{status(401)}, 1, 401, 0, 0},
		"404":                       {[]roundTripper{status(404)}, 1, 404, 0, 0},
		"409":                       {[]roundTripper{status(409)}, 1, 409, 0, 0},
		"refused":                   {[]roundTripper{failing(errRefused)}, 1, 0, 0, 0},
		"HTTP where TLS should be":  {[]roundTripper{failing(http.ErrSchemeMismatch)}, 1, 0, 0, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, lines := observer.New(zap.InfoLevel)
				s := &script{steps: test.steps}
				res, err := retrier{s, zap.New(log)}.RoundTrip(request(t, http.MethodGet, "https://example.com/x?secret=1", nil))
				got := 0
				if err == nil {
					got = res.StatusCode
					_ = res.Body.Close()
				}
				took := s.at[len(s.at)-1]
				if len(s.at) != test.sent || got != test.last || took < test.least || took > test.most {
					t.Errorf("%d requests, the last after %s, answer %d; want %d within %s to %s, answer %d",
						len(s.at), took, got, test.sent, test.least, test.most, test.last)
				}
				if lines.Len() != test.sent-1 {
					t.Errorf("the log has %d lines about %d repeated requests", lines.Len(), test.sent-1)
				}
				if err != nil && strings.Contains(err.Error(), "https://") {
					t.Errorf("the error has an address, which its reader adds: %v", err)
				}
			})
		})
	}
}

func TestRetriesAreLogged(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		first roundTripper
		want  string
	}{
		"answer": {status(503, "Retry-After", "0"), "Trying again in 0s: PUT example.com answered 503 Service Unavailable"},
		"error":  {failing(errReset), ": PUT example.com failed: connection reset by peer"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, lines := observer.New(zap.InfoLevel)
				carry := retrier{&script{steps: []roundTripper{test.first, status(200)}}, zap.New(log)}
				res, err := carry.RoundTrip(request(t, http.MethodPut, "https://example.com/x?_state=long", nil))
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				if got := lines.All()[0].Message; !strings.HasSuffix(got, test.want) || strings.Contains(got, "\n") {
					t.Errorf("the log says %q, want %q", got, test.want)
				}
			})
		})
	}
}

// TestBodiesAreReplayed: whole, and with their length.
func TestBodiesAreReplayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []roundTripper{status(500), failing(errReset), status(200)}}
		first := &bodyCloser{Reader: strings.NewReader("the body")}
		req := request(t, http.MethodPost, "https://example.com", first)
		req.ContentLength = int64(len("the body"))
		var opened []*bodyCloser
		req.GetBody = func() (io.ReadCloser, error) {
			body := &bodyCloser{Reader: strings.NewReader("the body")}
			opened = append(opened, body)
			return body, nil
		}
		res, err := retrier{s, zap.NewNop()}.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := strings.Join(s.bodies, ","); got != "the body,the body,the body" {
			t.Errorf("bodies %q were sent", got)
		}
		for _, body := range append(opened, first) {
			if !body.closed {
				t.Error("a body was left open")
			}
		}
	})
}

// TestBodiesThatCannotBeReplayed: whose sender knows how to go on, or must look first.
func TestBodiesThatCannotBeReplayed(t *testing.T) {
	t.Parallel()
	for _, step := range []roundTripper{status(500), status(429), failing(errReset)} {
		s := &script{steps: []roundTripper{step}}
		req := request(t, http.MethodPost, "https://example.com", io.NopCloser(strings.NewReader("body")))
		req.ContentLength = 4
		res, err := retrier{s, zap.NewNop()}.RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
		}
		if len(s.bodies) != 1 {
			t.Errorf("sent %d times", len(s.bodies))
		}
	}
}

// broken is a body that can't be read to its end.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// TestBodyThatCannotBeRead: what is wrong with it will be wrong next time.
func TestBodyThatCannotBeRead(t *testing.T) {
	t.Parallel()
	changed := errors.New("it changed")
	req := request(t, http.MethodPost, "https://example.com", broken{changed})
	req.ContentLength = 4
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(broken{changed}), nil }
	sent := 0
	res, err := retrier{roundTripper(func(req *http.Request) (*http.Response, error) {
		sent++
		_, err := io.ReadAll(req.Body)
		return nil, err
	}), zap.NewNop()}.RoundTrip(req)
	if err == nil {
		_ = res.Body.Close()
	}
	if sent != 1 || !errors.Is(err, changed) {
		t.Errorf("sent %d times, error %v; want once and that of the body", sent, err)
	}
}

// TestClosedBodyIsNoReason: a try that was given up closes its body, which who reads it then takes for an error.
func TestClosedBodyIsNoReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		req := request(t, http.MethodPost, "https://example.com", broken{os.ErrClosed})
		req.ContentLength = 4
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(broken{os.ErrClosed}), nil }
		sent := 0
		res, err := retrier{roundTripper(func(req *http.Request) (*http.Response, error) {
			if sent++; sent == 2 {
				return answer(req, http.StatusOK), nil
			}
			_ = req.Body.Close()
			_, _ = req.Body.Read(make([]byte, 1))
			return nil, errReset
		}), zap.NewNop()}.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	})
}

func TestOnce(t *testing.T) {
	t.Parallel()
	s := &script{steps: []roundTripper{status(500), status(200)}}
	req := request(t, http.MethodGet, "https://example.com", nil)
	res, err := retrier{s, zap.NewNop()}.RoundTrip(req.WithContext(Once(t.Context())))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if len(s.at) != 1 || res.StatusCode != http.StatusInternalServerError {
		t.Errorf("%d requests, status %d; want one, and its answer", len(s.at), res.StatusCode)
	}
}

func TestBodyThatCannotBeOpenedAgain(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	req := request(t, http.MethodPost, "https://example.com", bytes.NewReader([]byte("body")))
	req.GetBody = func() (io.ReadCloser, error) { return nil, gone }
	res, err := retrier{&script{steps: []roundTripper{status(200)}}, zap.NewNop()}.RoundTrip(req)
	if err == nil {
		_ = res.Body.Close()
	}
	if !errors.Is(err, gone) {
		t.Errorf("error %v, want that of GetBody", err)
	}
}

// TestRetriesEndWithTheRun: at once, also within a pause.
func TestRetriesEndWithTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		s := &script{steps: []roundTripper{status(429, "Retry-After", "60")}}
		began := time.Now()
		res, err := retrier{s, zap.NewNop()}.RoundTrip(request(t, http.MethodGet, "https://example.com",
			nil).WithContext(ctx))
		if err == nil {
			_ = res.Body.Close()
		}
		if took := time.Since(began); !errors.Is(err, context.Canceled) || took != time.Second || len(s.at) != 1 {
			t.Errorf("%d requests within %s, error %v", len(s.at), took, err)
		}
	})
}

// TestRunEndsWithTheAnswer: an http.Client complains on standard error of an answer beside an error.
func TestRunEndsWithTheAnswer(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	s := &script{steps: []roundTripper{func(req *http.Request) (*http.Response, error) {
		stop()
		return status(503)(req)
	}}}
	res, err := retrier{s, zap.NewNop()}.RoundTrip(request(t, http.MethodGet, "https://example.com", nil).WithContext(ctx))
	if res != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("answer %v, error %v", res, err)
	}
	if res != nil {
		_ = res.Body.Close()
	}
}

func TestPausesGrow(t *testing.T) {
	t.Parallel()
	for try, least := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause, 16 * firstPause,
		longestPause, longestPause} {
		different := map[time.Duration]bool{}
		for range 100 {
			d := Backoff(try, nil)
			different[d] = true
			if d < least || d > least*5/4 {
				t.Fatalf("pause %d is %s, want %s and up to a quarter more", try, d, least)
			}
		}
		if len(different) < 2 {
			t.Errorf("pause %d is always the same", try)
		}
	}
}

package transport

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// drip is a reader of n bytes that takes its time for each.
type drip struct {
	n     int
	pause time.Duration
}

func (d *drip) Read(p []byte) (int, error) {
	if d.n == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.pause)
	d.n--
	return copy(p, "x"), nil
}

// peer is the other end of a connection: it takes a byte of the request's body, pauses, and so on, and answers after
// some time with a body.
func peer(pause, answerAfter time.Duration, body io.Reader) roundTripper {
	return func(req *http.Request) (*http.Response, error) {
		for err := error(nil); req.Body != nil && err == nil; {
			if _, err = req.Body.Read(make([]byte, 1)); err == nil {
				err = wait(req.Context(), pause)
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
		}
		if err := wait(req.Context(), answerAfter); err != nil {
			return nil, err
		}
		res := answer(req, http.StatusOK)
		res.Body = io.NopCloser(interruptible{req.Context(), body})
		return res, nil
	}
}

// wait waits for d, or until the context ends, whose error it returns then.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// interruptible is a body whose reads end with the request.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() { n, err := r.Reader.Read(p); done <- result{n, err} }()
	select {
	case got := <-done:
		return got.n, got.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	const long = 24 * time.Hour
	get := func(t *testing.T) *http.Request {
		t.Helper()
		return request(t, http.MethodGet, "https://example.com/x", nil)
	}
	send := func(body io.Reader, length int64) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			t.Helper()
			req := request(t, http.MethodPost, "https://example.com/x", body)
			req.ContentLength = length
			return req
		}
	}
	const limit = 10 * time.Minute
	patient := func(next func(*testing.T) *http.Request) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			t.Helper()
			req := next(t)
			return req.WithContext(AnswerWithin(req.Context(), limit))
		}
	}
	tests := map[string]struct {
		request func(*testing.T) *http.Request
		peer    roundTripper
		ends    time.Duration
		silent  bool
	}{
		"answer that never comes": {get, peer(0, long, nil), idleLimit, true},
		"answer that comes": {get, peer(0, idleLimit/2, &drip{3, time.Second}),
			idleLimit/2 + 3*time.Second, false},
		"slow, but it moves":     {get, peer(0, 0, &drip{10, idleLimit / 2}), 10 * idleLimit / 2, false},
		"answer that stops":      {get, peer(0, 0, &drip{2, long}), idleLimit, true},
		"body that nobody takes": {send(&drip{5, 0}, 5), peer(long, 0, nil), idleLimit, true},
		"body that is taken slowly": {send(&drip{5, 0}, 5), peer(idleLimit/2, 0, strings.NewReader("")),
			5 * idleLimit / 2, false},
		"body that is made slowly": {send(&drip{5, 3 * idleLimit}, 5), peer(0, 0, strings.NewReader("")),
			15 * idleLimit, false},
		"sent, and no answer":  {send(&drip{1, 0}, 1), peer(0, long, nil), idleLimit, true},
		"large, and no answer": {send(&drip{1, 0}, 8<<20), peer(0, long, nil), idleLimit, true},
		"work that takes its time": {patient(send(&drip{1, 0}, 1)), peer(0, limit/2, strings.NewReader("")),
			limit / 2, false},
		"the same without a body":         {patient(get), peer(0, limit/2, strings.NewReader("")), limit / 2, false},
		"work without end":                {patient(send(&drip{1, 0}, 1)), peer(0, long, nil), limit, true},
		"body that nobody takes, patient": {patient(send(&drip{5, 0}, 5)), peer(long, 0, nil), idleLimit, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := exchange(idle{test.peer}, test.request(t))
				if took := time.Since(began); took != test.ends || errors.Is(err, errIdle) != test.silent {
					t.Errorf("ended after %s with %v, want %s, silent: %v", took, err, test.ends, test.silent)
				}
				if test.silent && !strings.Contains(err.Error(), "nothing from example.com for ") {
					t.Errorf("the error doesn't say from whom nothing came for how long: %v", err)
				}
				if !test.silent && err != nil {
					t.Error(err)
				}
				time.Sleep(long) // for what was left running
			})
		})
	}
}

// exchange reads the answer to its end.
func exchange(carry http.RoundTripper, req *http.Request) error {
	res, err := carry.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// TestIdleBetweenReads: who reads an answer may take time.
func TestIdleBetweenReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		carry := idle{peer(0, 0, &drip{2, time.Second})}
		res, err := carry.RoundTrip(request(t, http.MethodGet, "https://example.com", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		time.Sleep(2 * idleLimit)
		if _, err := res.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * idleLimit)
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
	})
}

func TestRunEndsWhileIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		req := request(t, http.MethodGet, "https://example.com", nil).WithContext(ctx)
		if err := exchange(idle{peer(0, idleLimit, nil)}, req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the run", err)
		}
	})
}

// A body is read in a goroutine of net/http, where its panic would end the process.
func TestPanicOfABody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(server.Close)
	req := request(t, http.MethodPost, server.URL, io.MultiReader(strings.NewReader("beginning"), explosive{}))
	var crash *parallel.PanicError
	err := parallel.Guard(func() error {
		res, err := New(func(string) {}, zap.NewNop()).RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
		}
		return err
	})
	if !errors.As(err, &crash) || crash.Value != "boom" || !strings.Contains(string(crash.Stack), "explosive.Read") {
		t.Errorf("got %v, want the body's panic", err)
	}
}

// explosive is a body that panics when it is read.
type explosive struct{}

func (explosive) Read([]byte) (int, error) { panic("boom") }

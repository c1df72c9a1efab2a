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

// peer is the other end of a connection: it takes a byte of the request's body,
// pauses, and so on, and answers after some time with a body.
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

func TestWatchdog(t *testing.T) {
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
	chunk := func(t *testing.T) *http.Request {
		t.Helper()
		req := send(&drip{1, 0}, much+1)(t)
		req.Method = http.MethodPatch
		return req
	}
	finish := func(t *testing.T) *http.Request {
		t.Helper()
		return request(t, http.MethodPut, "https://example.com/v2/x/blobs/uploads/1?digest=sha256:0", nil)
	}
	tests := map[string]struct {
		request func(*testing.T) *http.Request
		peer    roundTripper
		ends    time.Duration
		silent  bool
	}{
		"answer that never comes":         {get, peer(0, long, nil), silence, true},
		"answer that comes":               {get, peer(0, silence/2, &drip{3, time.Second}), silence/2 + 3*time.Second, false},
		"slow, but it moves":              {get, peer(0, 0, &drip{10, silence / 2}), 10 * silence / 2, false},
		"answer that stops":               {get, peer(0, 0, &drip{2, long}), silence, true},
		"body that nobody takes":          {send(&drip{5, 0}, 5), peer(long, 0, nil), silence, true},
		"body that is taken slowly":       {send(&drip{5, 0}, 5), peer(silence/2, 0, strings.NewReader("")), 5 * silence / 2, false},
		"body that is made slowly":        {send(&drip{5, 3 * silence}, 5), peer(0, 0, strings.NewReader("")), 15 * silence, false},
		"small file to think about":       {send(&drip{1, 0}, 1), peer(0, long, nil), silence, true},
		"large file to think about":       {send(&drip{1, 0}, much+1), peer(0, 5*silence, strings.NewReader("")), 5 * silence, false},
		"large file without an answer":    {send(&drip{1, 0}, much+1), peer(0, long, nil), thought, true},
		"chunk without an answer":         {chunk, peer(0, long, nil), silence, true},
		"blob that is read over":          {finish, peer(0, 5*silence, strings.NewReader("")), 5 * silence, false},
		"blob that is read over for ever": {finish, peer(0, long, nil), thought, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := exchange(watchdog{test.peer}, test.request(t))
				if took := time.Since(began); took != test.ends || errors.Is(err, errSilent) != test.silent {
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

// TestWatchdogSleepsBetweenReads: who reads an answer may take time.
func TestWatchdogSleepsBetweenReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		carry := watchdog{peer(0, 0, &drip{2, time.Second})}
		res, err := carry.RoundTrip(request(t, http.MethodGet, "https://example.com", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		time.Sleep(2 * silence)
		if _, err := res.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * silence)
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
	})
}

func TestWatchdogTellsTheRunsEndApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		req := request(t, http.MethodGet, "https://example.com", nil).WithContext(ctx)
		if err := exchange(watchdog{peer(0, silence, nil)}, req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the run", err)
		}
	})
}

// A body is read in a goroutine of net/http, where its panic would end the
// process.
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

type explosive struct{}

func (explosive) Read([]byte) (int, error) { panic("boom") }

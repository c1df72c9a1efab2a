package transport

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/iotest"
)

func TestPrefetch(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte("0123456789abcdef"), prefetchMax/16*2)
	cut := iotest.ErrReader(io.ErrUnexpectedEOF)
	tests := map[string]struct {
		body         io.Reader
		want         []byte
		first, later error
	}{
		"none":            {http.NoBody, nil, nil, nil},
		"short":           {bytes.NewReader(long[:100]), long[:100], nil, nil},
		"as long as kept": {bytes.NewReader(long[:prefetchMax]), long[:prefetchMax], nil, nil},
		"longer":          {bytes.NewReader(long), long, nil, nil},
		"cut":             {io.MultiReader(bytes.NewReader(long[:100]), cut), nil, io.ErrUnexpectedEOF, nil},
		"long and cut":    {io.MultiReader(bytes.NewReader(long), cut), long, nil, io.ErrUnexpectedEOF},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := &bodyCloser{Reader: test.body}
			res, err := prefetch{roundTripper(func(req *http.Request) (*http.Response, error) {
				res := answer(req, http.StatusOK)
				res.Body = body
				return res, nil
			})}.RoundTrip(request(t, http.MethodGet, "https://example.com", nil))
			if !errors.Is(err, test.first) {
				t.Fatalf("error %v, want %v", err, test.first)
			}
			if err == nil {
				got, err := io.ReadAll(res.Body)
				if !bytes.Equal(got, test.want) || !errors.Is(err, test.later) {
					t.Errorf("%d bytes and error %v, want %d and %v", len(got), err, len(test.want), test.later)
				}
				_ = res.Body.Close()
			}
			if !body.closed {
				t.Error("the answer was left open")
			}
		})
	}
}

package transport

import (
	"bytes"
	"io"
	"net/http"
)

// prefetchMax is how many bytes of an answer are read before it is returned.
const prefetchMax = 1 << 20

// prefetch reads the first bytes of each answer before it returns it: all of most answers. So an incomplete answer is a
// failed request, which can be repeated like others.
type prefetch struct{ base http.RoundTripper }

// RoundTrip fails if the answer ends early.
func (f prefetch) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := f.base.RoundTrip(req)
	if err != nil || req.Method == http.MethodHead {
		return res, err
	}
	var beginning bytes.Buffer
	_, err = io.CopyN(&beginning, res.Body, prefetchMax)
	switch {
	case err == io.EOF: //nolint:errorlint // a complete answer, not one that was cut
		_ = res.Body.Close()
		res.Body = io.NopCloser(&beginning)
	case err != nil:
		_ = res.Body.Close()
		return nil, err
	default:
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&beginning, res.Body), res.Body}
	}
	return res, nil
}

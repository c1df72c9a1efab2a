package transport

import (
	"bytes"
	"io"
	"net/http"
)

// small is as much of an answer as is kept in memory, in bytes.
const small = 1 << 20

// prefetch reads the beginning of each answer before it returns it, which is
// all of nearly every one. So an answer that breaks off is a request that
// failed, and can be repeated like others.
type prefetch struct{ base http.RoundTripper }

// RoundTrip fails if the answer ends early.
func (f prefetch) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := f.base.RoundTrip(req)
	if err != nil || req.Method == http.MethodHead {
		return res, err
	}
	var beginning bytes.Buffer
	if _, err := io.CopyN(&beginning, res.Body, small); err == io.EOF { //nolint:errorlint // a whole answer, not one that was cut
		_ = res.Body.Close()
		res.Body = io.NopCloser(&beginning)
	} else if err != nil {
		_ = res.Body.Close()
		return nil, err
	} else {
		res.Body = continued{io.MultiReader(&beginning, res.Body), res.Body}
	}
	return res, nil
}

// continued is an answer's beginning and the rest of it.
type continued struct {
	io.Reader
	io.Closer
}

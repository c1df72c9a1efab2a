package charmhub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"go.uber.org/zap"
)

// Bounds on what is read of an answer, in bytes.
const (
	listLimit   = 8 << 20
	answerLimit = 1 << 20
)

// request is one call, described well enough to repeat and to explain it.
type request struct {
	doing  string // completes "cannot …"
	method string
	base   string // the endpoint: scheme, host and perhaps a path
	path   string // escaped, after base, perhaps with a query
	body   *body  // nil: none
	limit  int64  // of the answer, in bytes; 0: answerLimit

	charm, resource string // what it is about, for advice; may be empty
	permission      string // that the token needs for it
	creates         bool   // repeating it blindly could do it twice
}

// body is what a request sends: a known number of bytes that can be opened again.
type body struct {
	contentType string
	length      int64
	open        func() (io.ReadCloser, error)
}

// jsonBody returns v as JSON. v must be of plain types: strings, numbers, slices.
func jsonBody(v any) *body {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a type of this package that JSON cannot hold
	}
	return &body{
		contentType: "application/json",
		length:      int64(len(text)),
		open:        func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

// ask sends r with the credentials and reads the JSON answer into answer.
func (c *Client) ask(ctx context.Context, r request, answer any) error {
	text, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	if err := decode(text, answer); err != nil {
		return fmt.Errorf("cannot %s: %w", r.doing, r.unclear(err))
	}
	return nil
}

// decode reads JSON. Its error tells nothing of the text but the first offence.
func decode(text []byte, answer any) error {
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("the answer is not the JSON that was expected: %s", harmless(err.Error(), 200))
	}
	return nil
}

// send sends r with the credentials and returns the answer's body. When the store
// asks for fresh credentials they are renewed and r is sent again, once.
func (c *Client) send(ctx context.Context, r request) ([]byte, error) {
	authorization, err := c.session.authorization(ctx)
	if err != nil {
		return nil, err
	}
	text, err := c.once(ctx, r, authorization)
	if c.session.renewable() && needsRefresh(err) {
		authorization, err = c.session.renew(ctx, authorization)
		if err != nil {
			return nil, err
		}
		text, err = c.once(ctx, r, authorization)
	}
	if err != nil {
		return nil, c.explain(ctx, r, err)
	}
	return text, nil
}

// once sends r, with authorization if there is one, and returns the body of a
// 2xx answer. Any other answer is an *Error.
func (c *Client) once(ctx context.Context, r request, authorization string) ([]byte, error) {
	req, err := c.build(ctx, r, authorization)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(req)
	if err != nil {
		return nil, r.unclear(fmt.Errorf("request to %s failed: %w", req.URL.Host, withoutVerb(err)))
	}
	defer response.Body.Close()
	c.log.Debug("store call", zap.String("method", r.method), zap.String("host", req.URL.Host),
		zap.String("path", req.URL.EscapedPath()), zap.Int("status", response.StatusCode))
	if response.StatusCode/100 != 2 {
		refused := readError(response)
		refused.unclear = r.creates && refused.Status >= 500
		return nil, refused
	}
	text, err := readAll(response.Body, r.limit)
	return text, r.unclear(err)
}

// build turns r into an HTTP request. The transport may repeat one that has no
// body, or one with GetBody.
func (c *Client) build(ctx context.Context, r request, authorization string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, strings.TrimRight(r.base, "/")+r.path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json, */*;q=0.1")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if r.body == nil {
		return req, nil
	}
	if req.Body, err = r.body.open(); err != nil {
		return nil, err
	}
	if !r.creates {
		req.GetBody = r.body.open // lets the transport send it again
	}
	req.ContentLength = r.body.length
	req.Header.Set("Content-Type", r.body.contentType)
	return req, nil
}

// readAll reads text up to limit bytes, and refuses more.
func readAll(text io.Reader, limit int64) ([]byte, error) {
	if limit == 0 {
		limit = answerLimit
	}
	all, err := io.ReadAll(io.LimitReader(text, limit+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if int64(len(all)) > limit {
		return nil, fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return all, nil
}

package charmhub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20

// request describes one call to the store, so that it can be sent, repeated, and named in an error.
type request struct {
	doing  string // completes "cannot …"
	method string // empty: GET
	base   string // the endpoint: scheme, host and perhaps a path; empty: the store
	path   string // escaped, perhaps with a query; after that of the charm or resource, if it is about one
	body   *body  // nil: none

	charm, resource string // what it is about, and what its path begins with; may be empty
	owner           string // the charm that it is about if that isn't given by charm
	permission      string // that the token needs for it
	creates         bool   // repeating it blindly could do it twice, or undo what others did meanwhile

	date *time.Time // gets the time of the answer, by the server's clock; nil if nobody wants it
}

// address returns the URL of r.
func (r request) address(store string) string {
	var about string
	if r.charm != "" {
		about = "/v1/charm/" + url.PathEscape(r.charm)
	}
	if r.resource != "" {
		about += "/resources/" + url.PathEscape(r.resource)
	}
	return strings.TrimRight(cmp.Or(r.base, store), "/") + about + r.path
}

// about returns the charm that r is about; "" if it is about none, or an unknown one.
func (r request) about() string { return cmp.Or(r.charm, r.owner) }

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
	return r.decode(text, answer)
}

// decode reads the JSON answer to r. Its error repeats nothing of the text but the first wrong value.
func (r request) decode(text []byte, answer any) error {
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("cannot %s: %w", r.doing,
			r.unclear(fmt.Errorf("the answer is not the JSON that was expected: %s", harmless(err.Error(), 200))))
	}
	return nil
}

// send sends r with the credentials and returns the answer's body. When the store asks for fresh credentials they are
// renewed and r is sent again, once.
func (c *Client) send(ctx context.Context, r request) ([]byte, error) {
	authorization, err := c.session.authorization(ctx)
	if err != nil {
		return nil, err
	}
	text, err := c.sendOnce(ctx, r, authorization)
	if c.config.Credentials.pair != nil && needsRefresh(err) {
		authorization, err = c.session.renew(ctx, authorization)
		if err != nil {
			return nil, err
		}
		text, err = c.sendOnce(ctx, r, authorization)
	}
	if err != nil {
		return nil, c.explain(ctx, r, err)
	}
	return text, nil
}

// sendOnce sends r, with authorization if there is one, and returns the body of a 2xx answer. Any other answer is an
// *Error.
func (c *Client) sendOnce(ctx context.Context, r request, authorization string) ([]byte, error) {
	return c.sendOnceWith(ctx, c.http, r, authorization, maxAnswer)
}

// sendOnceWith is sendOnce with another HTTP client, for answers of at most limit bytes.
func (c *Client) sendOnceWith(
	ctx context.Context, client *http.Client, r request, authorization string, limit int,
) ([]byte, error) {
	req, err := c.build(ctx, r, authorization)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(req)
	if err != nil {
		return nil, r.unclear(requestFailed(req.URL.Host, transport.Cause(err)))
	}
	defer response.Body.Close()
	c.config.Logger.Debug("store call", zap.String("method", req.Method), zap.String("host", req.URL.Host),
		zap.String("path", req.URL.EscapedPath()), zap.Int("status", response.StatusCode),
		zap.String("request", requestID(response)))
	if response.StatusCode/100 != 2 {
		refused := readError(response)
		refused.unclear = r.creates && refused.Status >= 500
		return nil, refused
	}
	if r.date != nil {
		*r.date, _ = http.ParseTime(response.Header.Get("Date")) // zero if there is none
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, int64(limit)+1))
	switch {
	case err != nil:
		err = requestFailed(req.URL.Host, err)
	case len(text) > limit:
		err = fmt.Errorf("the answer is longer than %d bytes", limit)
	}
	return text, r.unclear(err)
}

// requestFailed returns the error for a host that gave no answer, or not all of it.
func requestFailed(host string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &brokenError{host, err}
	}
	return fmt.Errorf("request to %s failed: %w", host, err)
}

// brokenError says that a connection ended before the answer did.
type brokenError struct {
	host string
	err  error
}

// Error names the host.
func (e *brokenError) Error() string { return fmt.Sprintf("the connection to %s broke off", e.host) }

// Unwrap returns the failure of the connection.
func (e *brokenError) Unwrap() error { return e.err }

// build turns r into an HTTP request. The transport may repeat one that has no body, or one with GetBody.
func (c *Client) build(ctx context.Context, r request, authorization string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.address(c.config.StoreURL), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.config.UserAgent)
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

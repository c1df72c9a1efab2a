package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"
)

// newTransport returns what carries every call to the store and the charm's
// registry: secrets in requests are masked before they leave, plain HTTP goes
// to this machine alone, redirects are answers, and what failed in passing is
// tried again.
func newTransport(mask func(string), log *zap.Logger) http.RoundTripper {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 16 // as many as blobs are checked and sent at once
	base.ResponseHeaderTimeout = 5 * time.Minute
	return newRetrier(guard{base, mask}, log)
}

var errRefused = errors.New("refused to send a request")

// guard looks at each request right before it is sent.
type guard struct {
	base http.RoundTripper
	mask func(string)
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !loopback(req.URL.Hostname()) {
		return nil, fmt.Errorf("%w to %s://%s: only https is safe for what it carries", errRefused, req.URL.Scheme, req.URL.Host)
	}
	if _, secret, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		g.mask(secret)
	}
	return g.base.RoundTrip(req)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// retrier repeats requests whose body can be had again. A request with a body
// and without GetBody is sent once: its sender knows better how to go on.
type retrier struct {
	once  http.RoundTripper
	again *retryablehttp.Client
}

const (
	retries     = 6
	firstPause  = 500 * time.Millisecond
	longestWait = 15 * time.Second
)

func newRetrier(once http.RoundTripper, log *zap.Logger) retrier {
	client := retryablehttp.NewClient()
	client.HTTPClient = &http.Client{
		Transport:     once,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client.Logger = nil
	client.RetryMax, client.RetryWaitMin, client.RetryWaitMax = retries, firstPause, longestWait
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	client.CheckRetry = func(ctx context.Context, res *http.Response, err error) (bool, error) {
		again, failure := shouldRetry(ctx, res, err)
		if again {
			log.Info("Trying again: " + complaint(res, err))
		}
		return again, failure
	}
	return retrier{once: once, again: client}
}

// shouldRetry adds 408 to what retryablehttp finds worth another try:
// connection errors, 429 and 5xx except 501.
func shouldRetry(ctx context.Context, res *http.Response, err error) (bool, error) {
	if err == nil && res.StatusCode == http.StatusRequestTimeout {
		return ctx.Err() == nil, ctx.Err()
	}
	if errors.Is(err, errRefused) || errors.Is(err, http.ErrSchemeMismatch) {
		return false, nil // as it will be next time
	}
	return retryablehttp.DefaultRetryPolicy(ctx, res, err)
}

func complaint(res *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %s answered %s", res.Request.Method, res.Request.URL.Host, res.Status)
}

func (r retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	hasBody := req.Body != nil && req.Body != http.NoBody
	if hasBody && req.GetBody == nil {
		return r.once.RoundTrip(req)
	}
	repeatable := &retryablehttp.Request{Request: req.Clone(req.Context())}
	if hasBody {
		length := req.ContentLength
		if err := repeatable.SetBody(retryablehttp.ReaderFunc(func() (io.Reader, error) { return req.GetBody() })); err != nil {
			return nil, err
		}
		repeatable.ContentLength = length // unknown to SetBody
		_ = req.Body.Close()
	}
	return r.again.Do(repeatable)
}

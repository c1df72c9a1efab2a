// Package transport carries HTTP requests with one policy for all: secrets are sent over HTTPS alone, requests that
// failed temporarily are repeated, and connections without any traffic are given up. It doesn't know what the requests
// are about. A sender that needs something else says so in the request's context: [Once], [AnswerWithin].
package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// New returns a transport. Mask is called with the secret of each request (of its header Authorization) before it is
// sent; each repetition is a line of the log. Plain HTTP is refused, except to this machine. Redirects are returned as
// answers. A request is given up after a minute without traffic. Temporary failures, incomplete answers included, are
// repeated. A web page in place of an answer is a [*PageError].
func New(mask func(string), log *zap.Logger) *Transport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 16 // at least as many as requests at once
	// Giving up a request leaves a connection of HTTP/2 to the next one, so whether it is dead has to be found out.
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
	early := newEarly(base)
	hosts := new(sync.Map)
	return &Transport{retrier{guard{certificates{pages{prefetch{idle{expect{base, new(sync.Map)}}}}, hosts}, mask}, log},
		early, hosts}
}

// Transport sends requests safely, and repeats those that failed in passing. Make one with [New].
type Transport struct {
	http.RoundTripper
	early *early
	hosts *sync.Map // see certificates
}

// Connect begins to open a connection to the host of u, for a later request there, and returns at once. A failure is
// reported by that request. Behind a proxy it does nothing.
func (t *Transport) Connect(ctx context.Context, u *url.URL) { t.early.connect(ctx, u) }

// errRefused is the cause of a request that isn't sent because it would be unsafe.
var errRefused = errors.New("refused to send a request")

// guard looks at each request right before it is sent.
type guard struct {
	base http.RoundTripper
	mask func(string)
}

// RoundTrip fails with errRefused for what isn't safe to send.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !isSafe(req.URL) {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, fmt.Errorf("%w to %s://%s: only https is safe for what it carries; give an https:// address, or a "+
			"server on this machine", errRefused, req.URL.Scheme, req.URL.Host)
	}
	if _, secret, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		g.mask(secret)
	}
	return g.base.RoundTrip(req)
}

// isSafe reports whether secrets may be sent to u.
func isSafe(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname())
}

// IsLoopback reports whether the host of a URL, without a port, is this machine, to which plain HTTP is allowed.
func IsLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

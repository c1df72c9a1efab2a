// Package transport carries HTTP requests to the store and to registries, the
// charm's and those that images come from, with one policy for all: what it
// sends is safe to send, what failed in passing is tried again, and what fell
// silent is given up. It knows nothing of what the requests are about, and
// follows no redirect.
package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// New returns a transport. Mask is told of the secret in each request before it
// leaves; retries are lines of the log. Plain HTTP goes to this machine alone,
// redirects are answers, connections that fell silent are given up, and what
// failed in passing, answers that broke off included, is tried again.
func New(mask func(string), log *zap.Logger) http.RoundTripper {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 16 // as many as blobs are checked and sent at once
	// Giving up a request leaves a connection of HTTP/2 to the next one; a dead
	// one has to be found out by itself.
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
	return newRetrier(guard{prefetch{watchdog{consent{base, new(sync.Map)}}}, mask}, log)
}

var errRefused = errors.New("refused to send a request")

// guard looks at each request right before it is sent.
type guard struct {
	base http.RoundTripper
	mask func(string)
}

// RoundTrip fails with errRefused for what isn't safe to send.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && (req.URL.Scheme != "http" || !loopback(req.URL.Hostname())) {
		if req.Body != nil {
			_ = req.Body.Close()
		}
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

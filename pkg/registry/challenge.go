package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Challenge is how a registry wants to be authenticated with: its answer to a request without credentials. The answer
// takes a connection and a round trip, and leads to the token service, to which a connection takes two more. All of that
// fits into the wait for the store's credentials.
type Challenge struct {
	registry name.Registry
	answered chan struct{} // closed when header, status and err are set
	status   int
	header   http.Header
	err      error
}

// answerWithin is how long the early question may take. A registry that is silent for longer is asked again by Open, which
// waits for as long as anything may be silent.
const answerWithin = 10 * time.Second

// errOtherScheme keeps a registry from being asked by https when it was asked by http, and the other way round.
var errOtherScheme = errors.New("the registry was asked by another scheme")

// realm is where a challenge says that tokens are had (RFC 6750, section 3).
var realm = regexp.MustCompile(`(?i)\brealm="([^"]+)"`)

// Ask asks the registry on a host, below path, how it authenticates, and returns at once. As soon as the registry has
// answered, connect is called for the hosts that Open and the steps after it talk to. The question isn't repeated after an
// error: Open asks again then.
func Ask(ctx context.Context, host, path string, via http.RoundTripper, connect func(context.Context, *url.URL), log *zap.Logger) *Challenge {
	c := &Challenge{answered: make(chan struct{})}
	go func() {
		defer close(c.answered)
		c.err = parallel.Guard(func() (err error) {
			if c.registry, err = name.NewRegistry(host, name.StrictValidation); err != nil {
				return err
			}
			return c.ask(ctx, wire{next: via, host: host, path: path}, connect, log)
		})
	}()
	return c
}

func (c *Challenge) ask(ctx context.Context, via wire, connect func(context.Context, *url.URL), log *zap.Logger) error {
	base := url.URL{Scheme: c.registry.Scheme(), Host: c.registry.RegistryStr(), Path: "/v2/"}
	once := transport.AnswerWithin(transport.Once(ctx), answerWithin)
	req, err := http.NewRequestWithContext(once, http.MethodGet, base.String(), nil)
	if err != nil {
		return err
	}
	res, err := via.RoundTrip(req)
	if err != nil {
		if ctx.Err() == nil {
			log.Info(fmt.Sprintf("Trying again: %s %s failed: %s", req.Method, base.Host, transport.Cause(err)))
		}
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusUnauthorized {
		// On this machine a registry with TLS is asked without TLS first, and answers that this is wrong.
		return fmt.Errorf("the registry answered %s", res.Status)
	}
	c.status, c.header = res.StatusCode, res.Header
	if tokens := realm.FindStringSubmatch(res.Header.Get("WWW-Authenticate")); tokens != nil {
		if u, err := url.Parse(tokens[1]); err == nil {
			connect(ctx, u)
		}
	}
	if res.ProtoMajor < 2 { // a connection carries one request at a time
		for range checkers - 1 {
			connect(ctx, &base)
		}
	}
	return nil
}

// answer returns the registry's answer to req, nil where it has to be asked.
func (c *Challenge) answer(req *http.Request) (*http.Response, error) {
	if c == nil || req.URL.Path != "/v2/" || req.Method != http.MethodGet {
		return nil, nil
	}
	select {
	case <-c.answered:
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	if usable := c.err == nil && req.URL.Host == c.registry.RegistryStr(); !usable {
		return nil, nil
	}
	if req.URL.Scheme != c.registry.Scheme() {
		return nil, errOtherScheme
	}
	return &http.Response{
		StatusCode: c.status, Status: http.StatusText(c.status), Header: c.header, Body: http.NoBody,
		Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// checkers is how many questions are under way at once.
const checkers = 8

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

// wire is the transport below authentication. That sends a request again after a 401, with a body that may have been read
// by then, so here every attempt gets a body of its own. And it knows of no path before the registry's own, /v2/.
type wire struct {
	next http.RoundTripper
	host string // of the registry
	path string // before /v2/, "" for none

	challenge *Challenge // answers the question how to authenticate; nil for none
	seen      *observed  // is told of each answer; nil for nothing
}

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if res, err := w.challenge.answer(req); res != nil || err != nil {
		return res, err
	}
	req = req.WithContext(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body = body
	}
	if w.path != "" && req.URL.Host == w.host && strings.HasPrefix(req.URL.Path, "/v2/") {
		below := *req.URL
		below.Path, below.RawPath = w.path+req.URL.Path, ""
		req.URL = &below
	}
	asked := time.Now()
	res, err := w.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if w.seen != nil && req.URL.Host == w.host && req.ContentLength == 0 {
		w.seen.answer(time.Since(asked))
	}
	if strings.Contains(req.URL.Path, "/blobs/sha") {
		return res, nil
	}
	if err := ociclient.CheckRedirect(req, res); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	res.Body = http.MaxBytesReader(nil, res.Body, image.MaxManifest)
	if w.seen != nil && res.StatusCode == http.StatusOK && req.URL.Query().Has("scope") { // which only token services are sent
		if err := w.seen.readToken(res, asked); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// observed is what answers show of a registry and of the link to it.
type observed struct {
	tokenHalf atomic.Pointer[time.Time]     // when half of the newest token's life is over; nil without a token
	fastest   atomic.Pointer[time.Duration] // answer of the registry to a request without a body; nil before the first
}

// isTokenAged reports whether the token may have expired when a request with it arrives.
func (o *observed) isTokenAged() bool {
	half := o.tokenHalf.Load()
	return half != nil && time.Now().After(*half)
}

// readToken reads the life of a token from a token service's answer, and leaves the answer to be read again.
func (o *observed) readToken(res *http.Response, asked time.Time) error {
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(answer))
	half := asked.Add(lifeOf(answer) / 2)
	o.tokenHalf.Store(&half)
	return err
}

// answer notes how long an answer took.
func (o *observed) answer(took time.Duration) {
	if known := o.fastest.Load(); known == nil || took < *known {
		o.fastest.Store(&took) // of two at once either will do
	}
}

// slowAnswer is how long even the fastest answer takes if the wait for answers, not this machine, limits how fast small
// blobs are sent.
const slowAnswer = 50 * time.Millisecond

// isSlow reports whether answers take long, because of the registry or of the link.
func (o *observed) isSlow() bool {
	fastest := o.fastest.Load()
	return fastest != nil && *fastest >= slowAnswer
}

// lifeOf returns how long a token lasts (distribution's token specification, "Token Response Fields").
func lifeOf(answer []byte) time.Duration {
	token := struct {
		Seconds float64 `json:"expires_in"`
	}{Seconds: 60} // if it isn't said
	_ = json.Unmarshal(answer, &token) // what isn't JSON is refused elsewhere
	return time.Duration(min(max(token.Seconds, 0), 24*60*60) * float64(time.Second))
}

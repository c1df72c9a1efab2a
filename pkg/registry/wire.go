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

// checkers is the maximum number of concurrent requests that ask for something.
const checkers = 8

// Challenge is a registry's answer to a request without credentials. It says how to authenticate, and where the token
// service is.
//
// [Ask] requests it while the store is still asked for the repository's credentials, and connects to the token
// service. Otherwise Open would have to do both after the credentials have arrived, which takes several round trips.
type Challenge struct {
	registry name.Registry
	answered chan struct{} // closed when header, status and err are set
	status   int
	header   http.Header
	err      error
}

// answerWithin is the timeout of the early request. If the registry doesn't answer in time, Open sends the request
// again, with the usual timeouts.
const answerWithin = 10 * time.Second

// errOtherScheme stops a request by https to a registry that answered by http, and vice versa.
var errOtherScheme = errors.New("the registry was asked by another scheme")

// realm matches the URL of the token service in a challenge (RFC 6750, section 3).
var realm = regexp.MustCompile(`(?i)\brealm="([^"]+)"`)

// Ask requests the challenge of the registry on host, below path ("" if it has none), and returns at once. When the
// registry has answered, connect is called once for each connection that Open and later steps will need. An error is
// only logged, and the request isn't repeated: Open sends it again.
func Ask(
	ctx context.Context,
	host, path string,
	via http.RoundTripper,
	connect func(context.Context, *url.URL),
	log *zap.Logger,
) *Challenge {
	c := &Challenge{answered: make(chan struct{})}
	go func() {
		defer close(c.answered)
		c.err = parallel.Guard(func() (err error) {
			if c.registry, err = name.NewRegistry(host, name.StrictValidation); err != nil {
				return err
			}
			return c.ask(ctx, baseTransport{next: via, host: host, path: path}, connect, log)
		})
	}()
	return c
}

// ask requests the challenge and calls connect.
func (c *Challenge) ask(
	ctx context.Context,
	via baseTransport,
	connect func(context.Context, *url.URL),
	log *zap.Logger,
) error {
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

// replay waits for the answer to Ask and returns it as the answer to req. It returns nil if req has to be sent: if it
// isn't the request for the challenge, if Ask failed, or if the Challenge is nil.
func (c *Challenge) replay(req *http.Request) (*http.Response, error) {
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

// baseTransport is the transport below authentication. Authentication repeats a request after a 401. The body may
// have been read by then, so baseTransport opens a new body for each attempt. It also inserts the path before /v2/,
// because go-containerregistry has no option for that.
type baseTransport struct {
	next http.RoundTripper
	host string // of the registry
	path string // before /v2/, "" for none

	challenge *Challenge // replayed in place of the first request; nil sends the request
	seen      *observed  // learns from the answers; nil learns nothing
}

// RoundTrip sends req, or answers it from the challenge. It observes how long answers take and how long tokens last,
// bounds answers, and refuses redirects to other hosts, except those of blobs.
func (w baseTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if res, err := w.challenge.replay(req); res != nil || err != nil {
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
	if isTokenRequest(req) {
		req.URL = fewestScopes(req.URL)
	}
	asked := time.Now()
	res, err := w.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if w.seen != nil && req.URL.Host == w.host && req.ContentLength == 0 {
		w.seen.noteAnswer(time.Since(asked))
	}
	if req.URL.Host == w.host && !isTokenRequest(req) {
		asRenewable(res)
	}
	if strings.Contains(req.URL.Path, "/blobs/sha") {
		return res, nil
	}
	if err := ociclient.CheckRedirect(req, res); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	res.Body = http.MaxBytesReader(nil, res.Body, image.MaxManifest)
	if w.seen != nil && res.StatusCode == http.StatusOK && isTokenRequest(req) {
		if err := w.seen.readToken(res, asked); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// observed holds what answers show about a registry and the connection to it. It may be used from several goroutines.
type observed struct {
	tokenHalf atomic.Pointer[time.Time]     // when half of the newest token's life is over; nil without a token
	fastest   atomic.Pointer[time.Duration] // answer of the registry to a request without a body; nil before the first
}

// isTokenAged reports whether the token may expire before a request that is sent now arrives.
func (o *observed) isTokenAged() bool {
	half := o.tokenHalf.Load()
	return half != nil && time.Now().After(*half)
}

// readToken notes how long the token in an answer lasts. The answer can still be read afterwards.
func (o *observed) readToken(res *http.Response, asked time.Time) error {
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(answer))
	half := asked.Add(tokenLife(answer) / 2)
	o.tokenHalf.Store(&half)
	return err
}

// noteAnswer notes how long an answer took.
func (o *observed) noteAnswer(took time.Duration) {
	if known := o.fastest.Load(); known == nil || took < *known {
		o.fastest.Store(&took) // of two at once either will do
	}
}

// slowAnswer is the duration of the fastest answer from which on waiting for answers, not this machine, limits the
// speed of sending small blobs.
const slowAnswer = 50 * time.Millisecond

// isSlow reports whether even the fastest answer took slowAnswer or longer.
func (o *observed) isSlow() bool {
	fastest := o.fastest.Load()
	return fastest != nil && *fastest >= slowAnswer
}

// tokenLife returns how long the token in an answer lasts (distribution's token specification, "Token Response
// Fields").
func tokenLife(answer []byte) time.Duration {
	token := struct {
		Seconds float64 `json:"expires_in"`
	}{Seconds: 60} // if it isn't said
	_ = json.Unmarshal(answer, &token) // what isn't JSON is refused elsewhere
	return time.Duration(min(max(token.Seconds, 0), 24*60*60) * float64(time.Second))
}

package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// maxAnswer bounds every answer that isn't a blob: manifests, tokens, error lists. It is the limit that CNCF
// distribution puts on manifests.
const maxAnswer = 4 << 20

// wire is the transport below authentication. That sends a request again after a 401, with a body that may have been read
// by then, so here every attempt gets a body of its own. And it knows of no path before the registry's own, /v2/.
type wire struct {
	next http.RoundTripper
	host string // of the registry
	path string // before /v2/, "" for none

	challenge *Challenge // answers the question how to authenticate; nil for none
	token     *tokenLife // is told of each token; nil for nothing
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
	if strings.Contains(req.URL.Path, "/blobs/sha") {
		return res, nil
	}
	if err := checkRedirect(req, res); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	if w.token != nil && res.StatusCode == http.StatusOK && req.URL.Query().Has("scope") { // which only token services are sent
		if err := w.token.read(res, asked); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// tokenLife is how long the newest token of a registry's token service lasts.
type tokenLife struct {
	half atomic.Pointer[time.Time] // when half of it is over; nil without a token
}

// isHalfOver reports whether the token may have expired when a request with it arrives.
func (l *tokenLife) isHalfOver() bool {
	half := l.half.Load()
	return half != nil && time.Now().After(*half)
}

// read reads the life of a token from a token service's answer, and leaves the answer to be read again.
func (l *tokenLife) read(res *http.Response, asked time.Time) error {
	answer, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(answer))
	half := asked.Add(lifeOf(answer) / 2)
	l.half.Store(&half)
	return err
}

// lifeOf returns how long a token lasts (distribution's token specification, "Token Response Fields").
func lifeOf(answer []byte) time.Duration {
	token := struct {
		Seconds float64 `json:"expires_in"`
	}{Seconds: 60} // if it isn't said
	_ = json.Unmarshal(answer, &token) // what isn't JSON is refused elsewhere
	return time.Duration(min(max(token.Seconds, 0), 24*60*60) * float64(time.Second))
}

// checkRedirect refuses to be sent to another host. Registries have blobs on other hosts, and reading these takes no
// credentials; whoever else answers in a registry's place could ask for these.
func checkRedirect(req *http.Request, res *http.Response) error {
	to, err := res.Location()
	switch {
	case res.StatusCode/100 != 3 || errors.Is(err, http.ErrNoLocation):
		return nil
	case err != nil:
		return fmt.Errorf("%s sends a %s on to an address that is none: %w", req.URL.Host, req.Method, err)
	case to.Host == req.URL.Host && to.Scheme == req.URL.Scheme:
		return nil
	}
	return fmt.Errorf("%s sends a %s on to %q, another host, which isn't followed",
		req.URL.Host, req.Method, to.Scheme+"://"+to.Host)
}

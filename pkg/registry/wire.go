package registry

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
)

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

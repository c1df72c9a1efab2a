package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// scopeRetrier repeats requests that are refused as beyond the token's scope, although the token was asked for with
// that scope. Charmhub's registry and token service have refused so in passing, for up to a minute. It can't be told
// from a permission that is missing, so that costs a minute too, but only once: after one request was refused for so
// long, others aren't repeated. It leaves requests under transport.Once to their senders, and mounts, which often need
// the scope of a repository that the credentials don't reach.
type scopeRetrier struct {
	next http.RoundTripper
	// repeats reports whether requests of this kind are repeated.
	repeats func(*http.Request) bool
	wait    func(context.Context, time.Duration) error
	// scopes are those that tokens are asked for with.
	scopes  []string
	refused *atomic.Bool // a request was refused for a minute
	log     *zap.Logger
}

// RoundTrip returns the first answer that isn't such a refusal, or the last.
func (s scopeRetrier) RoundTrip(req *http.Request) (*http.Response, error) {
	var failures transport.Failures
	for {
		res, err := s.next.RoundTrip(req)
		if err != nil || !s.isWrong(req, res) {
			return res, err
		}
		pause, again := failures.Count(res)
		if !again {
			s.refused.Store(true)
			s.log.Debug("The registry went on refusing the scope, so later requests aren't repeated for it")
			return res, nil
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxDiagnostics)) // so that the connection is used again
		_ = res.Body.Close()
		s.log.Info(fmt.Sprintf("Trying again in %s: %s %s answered %d insufficient_scope, although the token was asked for "+
			"with the scope; if that is a failure of the registry, it passes within a minute",
			pause.Round(100*time.Millisecond), req.Method, req.URL.Host, res.StatusCode))
		if err := s.wait(req.Context(), pause); err != nil {
			return nil, err
		}
	}
}

// maxDiagnostics bounds what is read of a refusal that is dropped, in bytes.
const maxDiagnostics = 64 << 10

// isWrong reports whether the answer is a refusal after which the request is sent again.
func (s scopeRetrier) isWrong(req *http.Request, res *http.Response) bool {
	return ociclient.IsScopeRefusal(res) && s.repeats(req) && !s.refused.Load() && !transport.IsOnce(req.Context()) &&
		(req.Body == nil || req.Body == http.NoBody || req.GetBody != nil) && s.covers(res)
}

// demanded matches the scopes that a challenge names (RFC 6750, section 3).
var demanded = regexp.MustCompile(`(?i)\bscope="([^"]*)"`)

// covers reports whether tokens are asked for with all scopes that the answer demands.
func (s scopeRetrier) covers(res *http.Response) bool {
	for _, challenge := range res.Header.Values("WWW-Authenticate") {
		for _, match := range demanded.FindAllStringSubmatch(challenge, -1) {
			if !allow(s.scopes, match[1]) {
				return false
			}
		}
	}
	return true
}

// allow reports whether the scopes given allow all that the scopes in wanted do, which have spaces between them.
func allow(given []string, wanted string) bool {
	for scope := range strings.FieldsSeq(wanted) {
		if !slices.ContainsFunc(given, func(given string) bool { return includes(given, scope) }) {
			return false
		}
	}
	return true
}

// includes reports whether the scope given allows all actions of the scope wanted (distribution's token specification,
// "Resource Scope").
func includes(given, wanted string) bool {
	g, w := strings.LastIndex(given, ":"), strings.LastIndex(wanted, ":")
	if g < 0 || w < 0 || given[:g] != wanted[:w] {
		return false
	}
	actions := strings.Split(given[g+1:], ",")
	return !slices.ContainsFunc(strings.Split(wanted[w+1:], ","), func(action string) bool {
		return !slices.Contains(actions, action)
	})
}

// isTokenRequest reports whether req asks a token service for a token.
func isTokenRequest(req *http.Request) bool { return req.URL.Query().Has("scope") }

// fewestScopes returns the URL of a request for a token without the scopes that others of it include. After a refusal,
// go-containerregistry asks for what the challenge names beside what it asked for before, and there are token services
// that read the first scope only.
func fewestScopes(u *url.URL) *url.URL {
	query := u.Query()
	asked := query["scope"]
	var kept []string
	for i, scope := range asked {
		others := strings.Fields(strings.Join(append(slices.Clone(kept), asked[i+1:]...), " "))
		if !allow(others, scope) {
			kept = append(kept, scope)
		}
	}
	query["scope"] = kept
	fewer := *u
	fewer.RawQuery = query.Encode()
	return &fewer
}

// forbidden is the status line of a refusal that asRenewable changed.
const forbidden = "403 "

// asRenewable makes a refusal of the scope that was sent with 403 one with 401, for which authentication gets a new
// token. The text of its status stays, for asAnswered.
func asRenewable(res *http.Response) {
	if ociclient.IsScopeRefusal(res) && res.StatusCode == http.StatusForbidden {
		res.StatusCode, res.Status = http.StatusUnauthorized, forbidden+http.StatusText(http.StatusForbidden)
	}
}

// asAnswered gives answers of the transport that authenticates the status with which they came.
type asAnswered struct{ authenticated http.RoundTripper }

// RoundTrip undoes asRenewable.
func (a asAnswered) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := a.authenticated.RoundTrip(req)
	if err == nil && strings.HasPrefix(res.Status, forbidden) {
		res.StatusCode = http.StatusForbidden
	}
	return res, err
}

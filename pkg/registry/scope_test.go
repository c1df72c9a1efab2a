package registry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// ownScope is the scope of requests that change the test repository.
const ownScope = "repository:" + repoPath + ":pull,push"

// refusals is a transport that refuses the scope of the first requests.
type refusals struct {
	left      int
	status    int
	challenge string
	sent      int
}

func (r *refusals) RoundTrip(req *http.Request) (*http.Response, error) {
	r.sent++
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}
	if r.left > 0 {
		r.left--
		res.StatusCode = r.status
		res.Header.Set("WWW-Authenticate", r.challenge)
	}
	return res, nil
}

// TestWrongScope: a refusal of a scope that the token was asked for with passes within a minute, or is believed.
func TestWrongScope(t *testing.T) {
	t.Parallel()
	const wrong = `Bearer realm="https://x/token",scope="` + ownScope + `",error="insufficient_scope"`
	const ever = 1000
	opaque := io.NopCloser(strings.NewReader("body"))
	with := func(old, other string) string { return strings.Replace(wrong, old, other, 1) }
	for name, test := range map[string]struct {
		refusals
		sent, last int // requests, and the last status
		waits      bool
		url        string
		body       io.Reader
		once       bool
	}{
		"no refusal":          {},
		"a refusal":           {refusals: refusals{1, 401, wrong, 0}, sent: 2, last: 200},
		"by RFC 6750":         {refusals: refusals{1, 403, wrong, 0}, sent: 2, last: 200},
		"with a body":         {refusals: refusals{1, 401, wrong, 0}, sent: 2, last: 200, body: strings.NewReader("x")},
		"a minute":            {refusals: refusals{8, 401, wrong, 0}, sent: 9, last: 200, waits: true},
		"for ever":            {refusals: refusals{ever, 401, wrong, 0}, sent: 9, last: 401, waits: true},
		"less":                {refusals: refusals{1, 401, with(",push", ""), 0}, sent: 2, last: 200},
		"no scope named":      {refusals: refusals{1, 401, `Bearer error="insufficient_scope"`, 0}, sent: 2, last: 200},
		"an expired token":    {refusals: refusals{ever, 401, with("insufficient_scope", "invalid_token"), 0}},
		"another repository":  {refusals: refusals{ever, 401, with("charm", "harm"), 0}},
		"another action":      {refusals: refusals{ever, 401, with("push", "delete"), 0}},
		"a mount":             {refusals: refusals{ever, 401, wrong, 0}, url: "https://x/v2/?mount=sha256:1&from=y"},
		"another host":        {refusals: refusals{ever, 401, wrong, 0}, url: "https://y/v2/"},
		"once":                {refusals: refusals{ever, 401, wrong, 0}, once: true},
		"a body that is gone": {refusals: refusals{ever, 401, wrong, 0}, body: opaque},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, lines := observer.New(zap.InfoLevel)
				s := scopeRetrier{
					next: &test.refusals, wait: transport.Sleep, scopes: []string{ownScope}, refused: new(atomic.Bool),
					repeats: func(req *http.Request) bool { return req.URL.Host == "x" && !req.URL.Query().Has("mount") },
					log:     zap.New(log),
				}
				ctx := t.Context()
				if test.once {
					ctx = transport.Once(ctx)
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodPut, cmp.Or(test.url, "https://x/v2/"), test.body)
				if err != nil {
					t.Fatal(err)
				}
				last := cmp.Or(test.last, test.status, http.StatusOK) // without another try
				began := time.Now()
				res, err := s.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				if test.refusals.sent != max(test.sent, 1) || res.StatusCode != last {
					t.Errorf("%d requests, the last answered %d; want %d, %d", test.refusals.sent, res.StatusCode, test.sent, last)
				}
				took := time.Since(began)
				if test.waits && took < time.Minute || took > 76*time.Second || !test.waits && took > time.Second {
					t.Errorf("it took %s", took)
				}
				if lines.Len() != test.refusals.sent-1 {
					t.Errorf("the log has %d lines about %d repeated requests", lines.Len(), test.refusals.sent-1)
				}
				before := test.refusals.sent
				if test.last != http.StatusUnauthorized {
					return
				}
				if res, err = s.RoundTrip(req); err != nil || test.refusals.sent != before+1 {
					t.Errorf("the next request was sent %d times, %v; want once", test.refusals.sent-before, err)
				}
				_ = res.Body.Close()
			})
		})
	}
}

// TestWrongScopeEndsWithTheRun: at once, also within a pause.
func TestWrongScopeEndsWithTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second/4)
		defer stop()
		s := scopeRetrier{
			next: &refusals{5, 401, `Bearer error="insufficient_scope"`, 0}, wait: transport.Sleep,
			refused: new(atomic.Bool),
			repeats: func(*http.Request) bool { return true }, log: zap.NewNop(),
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://x/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		res, err := s.RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
		}
		if took := time.Since(began); err == nil || took != time.Second/4 {
			t.Errorf("ended after %s, %v", took, err)
		}
	})
}

// TestImageArrivesInSpiteOfWrongScopes: each request of a push is refused three times, by 401 or 403, and each
// time a new token is asked for.
func TestImageArrivesInSpiteOfWrongScopes(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		g := newGuard(t, 1000)
		r, c := g.open(t)
		img := randomImage(t, 2<<20, 2)
		p := mustPlan(t, r, img)
		before, requests := g.issued(), map[string]int{}
		g.spoil(func(w http.ResponseWriter, req *http.Request) bool {
			g.mu.Lock()
			what := req.Method + req.URL.Path
			refuse := requests[what] < 3 && strings.HasPrefix(req.URL.Path, "/v2/")
			requests[what]++
			g.mu.Unlock()
			if !refuse {
				return g.check(w, req)
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope=%q,`+
				`error="insufficient_scope"`, g.URL, ownScope))
			return answer(w, status, "UNAUTHORIZED")
		})
		if _, err := r.Push(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := r.again().image(t.Context(), digestOf(t, img)); err != nil || got == nil {
			t.Errorf("after %d, the image is %v, %v", status, got, err)
		}
		if n := g.issued() - before; n < 3 || len(c.waits) == 0 {
			t.Errorf("after %d, %d tokens and %d pauses", status, n, len(c.waits))
		}
	}
}

// TestRefusalKeepsItsStatus: a refusal of the scope that doesn't pass is reported as the registry answered it.
func TestRefusalKeepsItsStatus(t *testing.T) {
	t.Parallel()
	g := newGuard(t, 1000)
	r, _ := g.open(t)
	g.spoil(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasPrefix(req.URL.Path, "/v2/") {
			return g.check(w, req)
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
		return answer(w, http.StatusForbidden, "DENIED")
	})
	_, err := r.image(t.Context(), aKey)
	wantError(t, err, "answered 403 Forbidden: DENIED")
}

// TestFewestScopes: what another scope includes isn't asked for.
func TestFewestScopes(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{
		"repository:a:pull,push":                                     "repository:a:pull,push",
		"repository:a:pull|repository:a:pull,push":                   "repository:a:pull,push",
		"repository:a:pull,push|repository:a:pull":                   "repository:a:pull,push",
		"repository:a:pull|repository:a:pull":                        "repository:a:pull",
		"repository:a:pull|repository:b:pull":                        "repository:a:pull|repository:b:pull",
		"repository:a:delete|repository:a:pull,push":                 "repository:a:delete|repository:a:pull,push",
		"repository:a:pull,push repository:b:pull|repository:a:pull": "repository:a:pull,push repository:b:pull",
		"repository:a:pull repository:b:pull|repository:b:x":         "repository:a:pull repository:b:pull|repository:b:x",
		"registry:catalog:*":                                         "registry:catalog:*",
		"nonsense":                                                   "nonsense",
	} {
		u := &url.URL{Path: "/token", RawQuery: url.Values{"scope": strings.Split(asked, "|"), "service": {"s"}}.Encode()}
		got := fewestScopes(u).Query()
		if scopes := strings.Join(got["scope"], "|"); scopes != want || got.Get("service") != "s" {
			t.Errorf("%s becomes %s, want %s", asked, scopes, want)
		}
	}
}

package registry

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// connections notes for which hosts connections are opened early.
type connections struct {
	mu    sync.Mutex
	hosts []string
}

// open notes the host of a URL.
func (c *connections) open(_ context.Context, u *url.URL) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts = append(c.hosts, u.Host)
}

// openWith opens the repository of the server with a challenge, and returns a view of it.
func openWith(t *testing.T, s *server, challenge *Challenge) *View {
	t.Helper()
	r, err := Open(t.Context(), Options{
		Image: s.host() + "/" + repoPath, Username: "u", Password: "p", Challenge: challenge,
		Transport: http.DefaultTransport, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return NewView(r, aTokensKey, noProgress)
}

// TestChallenge: a registry that was asked beforehand isn't asked again, and its connections are on their way.
func TestChallenge(t *testing.T) {
	s := newServer(t)
	s.spoil(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="https://tokens.example/token",service="s"`)
		return answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
	})
	var c connections
	challenge := Ask(t.Context(), s.host(), "", http.DefaultTransport, c.open, zap.NewNop())
	<-challenge.answered
	s.spoil(nil)
	s.log()
	r := openWith(t, s, challenge)
	if requests := s.log(); len(requests) > 0 {
		t.Errorf("opening took %q", requests)
	}
	want := append([]string{"tokens.example"}, slices.Repeat([]string{s.host()}, checkers-1)...)
	if !slices.Equal(c.hosts, want) {
		t.Errorf("connections to %q, want %q", c.hosts, want)
	}
	if img, err := r.image(t.Context(), aKey); img != nil || err != nil {
		t.Errorf("%v, %v", img, err)
	}
}

// TestChallengeOfNoUse: what Ask can't answer, Open asks for itself.
func TestChallengeOfNoUse(t *testing.T) {
	s, other := newServer(t), newServer(t)
	failing := newServer(t)
	failing.spoil(func(w http.ResponseWriter, _ *http.Request) bool {
		return answer(w, http.StatusServiceUnavailable, "UNAVAILABLE")
	})
	for name, host := range map[string]string{
		"another registry": other.host(), "a failure": failing.host(), "no host": "::",
	} {
		var c connections
		challenge := Ask(t.Context(), host, "", transport.New(func(string) {}, zap.NewNop()), c.open, zap.NewNop())
		openWith(t, s, challenge)
		if requests := s.log(); !slices.Equal(requests, []string{"GET /v2/"}) {
			t.Errorf("%s: opening took %q, want the registry asked", name, requests)
		}
	}
	if n := len(failing.log()); n != 1 {
		t.Errorf("a failing registry was asked %d times beforehand, want once", n)
	}
}

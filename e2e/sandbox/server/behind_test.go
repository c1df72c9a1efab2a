package server_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestBehind: clients get the address of what is in front of a server, also from the sandbox's own answers.
func TestBehind(t *testing.T) {
	var names []string
	var mu sync.Mutex
	through := map[string]int{}
	s := start(t, server.Options{SeparateTokenService: true, Behind: func(name, addr string) (string, error) {
		names = append(names, name)
		forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			through[name]++
			mu.Unlock()
			forward.ServeHTTP(w, r)
		}))
		t.Cleanup(front.Close)
		return front.Listener.Addr().String(), nil
	}})
	if want := []string{"store", "storage", "registry", "sso", "auth"}; !slices.Equal(names, want) {
		t.Errorf("servers %q are behind something, want %q", names, want)
	}
	image, _, _ := s.RegistryAuth("my-charm", "my-image")
	if host := strings.TrimPrefix(s.RegistryURL, "http://"); !strings.HasPrefix(image, host+"/") {
		t.Errorf("the image's name is %q, want one in %s", image, host)
	}
	answer, err := http.Get(s.RegistryURL + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if challenge := answer.Header.Get("WWW-Authenticate"); !strings.Contains(challenge, s.RealmURL) ||
		through["registry"] != 1 {
		t.Errorf("challenge %q after %v, want one that names %s", challenge, through, s.RealmURL)
	}
}

func TestBehindNothing(t *testing.T) {
	broken := errors.New("no proxy")
	_, err := server.Start(server.Options{Behind: func(string, string) (string, error) { return "", broken }})
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

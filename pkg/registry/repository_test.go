package registry

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"go.uber.org/zap"
)

// guard asks for bearer tokens, as a registry's token authentication does. Each token is good for some requests.
type guard struct {
	*server
	fields string // of a token's answer, each after a comma
	life   int

	mu    sync.Mutex
	used  map[string]int // requests, by Authorization header
	scope []string
}

// newGuard starts a registry that asks for bearer tokens, each of which is good for life requests.
func newGuard(t *testing.T, life int) *guard {
	t.Helper()
	g := &guard{server: newServer(t), life: life, used: map[string]int{}}
	g.spoil(g.check)
	return g
}

// check answers a request for a token, and refuses one without a valid token. It reports whether it answered.
func (g *guard) check(w http.ResponseWriter, r *http.Request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.URL.Path == "/token" {
		g.issue(w, r)
		return true
	}
	token := r.Header.Get("Authorization")
	if used, issued := g.used[token]; issued && used < g.life {
		g.used[token]++
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(
		`Bearer realm="%s/token",service="test",scope="repository:%s:pull,push"`, g.URL, repoPath))
	return answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
}

// issue answers with a new token if the request has the right password.
func (g *guard) issue(w http.ResponseWriter, r *http.Request) {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:hunter2"))
	if r.Header.Get("Authorization") != want {
		answer(w, http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	g.scope = r.URL.Query()["scope"]
	token := fmt.Sprintf("token-%d", len(g.used))
	g.used["Bearer "+token] = 0
	_, _ = fmt.Fprintf(w, `{"token":%q%s}`, token, g.fields)
}

// issued is how many tokens were.
func (g *guard) issued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.used)
}

func TestOpenTakesOneTokenForAll(t *testing.T) {
	g := newGuard(t, 1000)
	r, err := Open(t.Context(), Options{
		Image: g.host() + "/" + repoPath, Username: "user", Password: "hunter2",
		Transport: (&counter{}).transport(), Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.log(); len(got) != 2 {
		t.Errorf("opening took %q, want a ping and a token", got)
	}
	if got, want := strings.Join(g.scope, " "), "repository:"+repoPath+":pull,push"; got != want {
		t.Errorf("scope %q, want %q", got, want)
	}
	mustPush(t, NewView(r, aTokensKey, noProgress), randomImage(t, 100, 3))
	if n := g.issued(); n != 1 {
		t.Errorf("%d tokens issued, want 1", n)
	}
}

func TestOpenRefused(t *testing.T) {
	g := newGuard(t, 1)
	_, err := Open(t.Context(), Options{
		Image: g.host() + "/" + repoPath, Username: "user", Password: "opensesame",
		Transport: http.DefaultTransport, Logger: zap.NewNop(),
	})
	wantError(t, err, "refused the credentials that Charmhub gave", repoPath)
	if strings.Contains(err.Error(), "opensesame") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestOpenWithoutToken(t *testing.T) {
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"refresh_token":"opensesame"}`))
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer s.Close()
	_, err := Open(t.Context(), Options{
		Image: strings.TrimPrefix(s.URL, "http://") + "/" + repoPath, Transport: http.DefaultTransport, Logger: zap.NewNop(),
	})
	wantError(t, err, "answered without a token")
	if strings.Contains(err.Error(), "opensesame") {
		t.Errorf("the error tells a secret: %v", err)
	}
}

func TestOpenNames(t *testing.T) {
	for _, image := range []string{"", "my-image", "host/charm/x@sha256:12", "host/CHARM/x"} {
		_, err := Open(t.Context(), Options{Image: image, Transport: http.DefaultTransport, Logger: zap.NewNop()})
		wantError(t, err, "name that Charmhub gave")
	}
}

func TestManifest(t *testing.T) {
	s := newServer(t)
	img := randomImage(t, 100, 2)
	digest := s.seed(t, repoPath, img)
	r, _ := s.open(t)

	got, err := r.image(t.Context(), digest)
	if err != nil || got == nil || digestOf(t, got) != digest {
		t.Fatalf("Manifest = %v, %v", got, err)
	}
	read, ok := got.(v1.Image)
	if !ok {
		t.Fatalf("an image is a %T", got)
	}
	if err := validate.Image(read); err != nil {
		t.Errorf("its image: %v", err)
	}
	if got, err := r.image(t.Context(), aSource); got != nil || err != nil {
		t.Errorf("an absent manifest: %v, %v", got, err)
	}
}

// TestReadBlob: a blob is read up to a limit, and compared with its digest.
func TestReadBlob(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":some", img)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	absent := v1.Descriptor{Digest: aSource, Size: 1}
	for name, test := range map[string]struct {
		d       v1.Descriptor
		limit   int64
		damaged bool
		want    string // what the error says
	}{
		"as large as the limit": {d: m.Config, limit: m.Config.Size},
		"larger":                {d: m.Config, limit: m.Config.Size - 1, want: "more than"},
		"absent":                {d: absent, limit: 1, want: "BLOB_UNKNOWN"},
		"damaged":               {d: m.Config, limit: m.Config.Size, damaged: true, want: "error verifying"},
	} {
		v, _ := s.open(t)
		s.spoil(func(w http.ResponseWriter, _ *http.Request) bool {
			if test.damaged {
				_, _ = w.Write(make([]byte, m.Config.Size))
			}
			return test.damaged
		})
		got, err := v.readBlob(t.Context(), test.d, test.limit)
		switch {
		case test.want != "":
			wantError(t, err, test.want)
		case err != nil || int64(len(got)) != m.Config.Size:
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		s.spoil(nil)
	}
}

// TestManifestsAreAskedForByType: a registry may have a manifest in several forms. A blob has one.
func TestManifestsAreAskedForByType(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	var accepted string
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		accepted = r.Header.Get("Accept")
		return answer(w, http.StatusNotFound, "UNKNOWN")
	})
	d := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: aSource}
	for kind, want := range map[string]string{kindManifest: string(types.OCIManifestSchema1), kindBlob: ""} {
		if has, err := v.has(t.Context(), kind, d); has || err != nil || accepted != want {
			t.Errorf("%s are asked for as %q, want %q; %t, %v", kind, accepted, want, has, err)
		}
	}
}

func TestManifestSpoiled(t *testing.T) {
	tests := map[string]struct {
		spoil func(w http.ResponseWriter)
		want  string
	}{
		"other bytes": {func(w http.ResponseWriter) { _, _ = w.Write([]byte("{}")) }, "does not match"},
		"refused":     {func(w http.ResponseWriter) { answer(w, 403, "DENIED") }, "refused the credentials"},
		"too large": {func(w http.ResponseWriter) {
			for range 5 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, "too large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			s.spoil(func(w http.ResponseWriter, _ *http.Request) bool { test.spoil(w); return true })
			got, err := r.image(t.Context(), v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)})
			wantError(t, err, "asking for", test.want)
			if got != nil {
				t.Error("found")
			}
		})
	}
}

// TestAnswersAreOneLine: what a registry says can't begin a line of the log.
func TestAnswersAreOneLine(t *testing.T) {
	t.Parallel()
	got := answerText(&registryTransport.Error{StatusCode: http.StatusConflict, Errors: []registryTransport.Diagnostic{
		{Code: "DENIED", Message: "no\n::error::\r\nnever"},
	}})
	if want := "the registry answered 409 Conflict: DENIED: no ::error:: never"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

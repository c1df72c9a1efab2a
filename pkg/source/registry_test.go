package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// testRegistry is a registry on loopback that remembers what was read.
type testRegistry struct {
	http.Handler
	host string

	mu    sync.Mutex
	reads []string
	forge map[string][]byte // manifests served instead, by path
	auth  string            // the only Authorization that is let in, unless empty
}

// newTestRegistry starts an empty registry, which stops when the test ends.
func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), forge: map[string][]byte{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.host = address.Host
	return r
}

func (r *testRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.auth != "" && req.Header.Get("Authorization") != r.auth {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if req.Method == http.MethodGet && req.URL.Path != "/v2/" {
		r.reads = append(r.reads, path.Base(path.Dir(req.URL.Path))+"/"+path.Base(req.URL.Path))
	}
	if forged, ok := r.forge[req.URL.Path]; ok {
		w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
		_, _ = w.Write(forged)
		return
	}
	r.Handler.ServeHTTP(w, req)
}

// put pushes an image or index as repo:1.
func (r *testRegistry) put(t *testing.T, m image.ImageOrIndex) {
	t.Helper()
	ref, err := name.ParseReference(r.host + "/repo:1")
	if err != nil {
		t.Fatal(err)
	}
	if index, ok := m.(v1.ImageIndex); ok {
		err = remote.WriteIndex(ref, index)
	} else {
		err = remote.Write(ref, m.(v1.Image))
	}
	if err != nil {
		t.Fatal(err)
	}
	r.reads = nil
}

// serve pushes a small index as repo:1 and returns what it is made of.
func (r *testRegistry) serve(t *testing.T) (l imagetest.Layout, root v1.Descriptor) {
	t.Helper()
	l = imagetest.NewLayout()
	root = l.Index(imagetest.WithPlatform(l.Image("linux/amd64"), "linux/amd64"),
		imagetest.WithPlatform(l.Image("linux/arm64"), "linux/arm64"))
	r.put(t, openLayout(t, l.Of(root)))
	return l, root
}

// anonymous asks registries without credentials.
var anonymous = RegistryAccess{Transport: http.DefaultTransport}

// openLogged opens a reference, checks its tag, and returns the warnings, too.
func openLogged(t *testing.T, access RegistryAccess, text string) (Source, []string, error) {
	t.Helper()
	ref, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none.sock")
	core, logs := observer.New(zapcore.InfoLevel)
	opener := NewOpener(zap.New(core), access, workspace.Workspace{})
	src, err := opener.Open(t.Context(), ref)
	if err == nil {
		opener.CheckTag(t.Context(), ref)
		t.Cleanup(func() { _ = src.Close() })
	}
	var messages []string
	for _, entry := range logs.All() {
		messages = append(messages, fmt.Sprint(entry.Message, entry.ContextMap()))
	}
	return src, messages, err
}

func TestRegistryOpens(t *testing.T) {
	r := newTestRegistry(t)
	l, root := r.serve(t)
	for _, prefix := range []string{"", "docker://"} {
		r.reads = nil
		text := prefix + r.host + "/repo@" + root.Digest.String()
		src, messages, err := openLogged(t, anonymous, text)
		if err != nil {
			t.Fatal(err)
		}
		if src.Identity().Digest() != root.Digest || unpackedOf(src) != nil || len(messages) != 0 {
			t.Errorf("opened as %+v, saying %q", src, messages)
		}
		if want := []string{"manifests/" + root.Digest.String()}; !slices.Equal(r.reads, want) {
			t.Errorf("%s: read %q, want %q", text, r.reads, want)
		}
		imagetest.SameTree(t, imageOf(t, src), l)
	}
}

// Layers say where they are, so that the target registry can mount them.
func TestRegistryLayersAreMountable(t *testing.T) {
	r := newTestRegistry(t)
	l := imagetest.NewLayout()
	image := l.Image("linux/amd64")
	r.put(t, openLayout(t, l.Of(image)))
	src, _, err := openLogged(t, anonymous, r.host+"/repo@"+image.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	layers, err := imageOf(t, src).(v1.Image).Layers()
	if err != nil || len(layers) != 1 {
		t.Fatal(layers, err)
	}
	digest, _ := layers[0].Digest()
	found, err := imageOf(t, src).(v1.Image).LayerByDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range []v1.Layer{layers[0], found} {
		mountable, ok := layer.(*remote.MountableLayer)
		if !ok || mountable.Reference.Context().String() != r.host+"/repo" {
			t.Errorf("%T says it is in %+v", layer, mountable)
		}
	}
}

func TestRegistryChecksTag(t *testing.T) {
	r := newTestRegistry(t)
	_, root := r.serve(t)
	pinned := r.host + "/repo:1@" + root.Digest.String()
	if _, messages, err := openLogged(t, anonymous, pinned); err != nil || len(messages) != 0 {
		t.Errorf("with the tag in place: %q, %v", messages, err)
	}
	_, messages, err := openLogged(t, anonymous, r.host+"/repo:2@"+root.Digest.String())
	if err != nil || len(messages) != 1 || !strings.Contains(messages[0], "the tag could not be checked") {
		t.Errorf("with no such tag: %q, %v", messages, err)
	}
	l := imagetest.NewLayout()
	other := l.Image("linux/s390x")
	r.put(t, openLayout(t, l.Of(other)))
	src, messages, err := openLogged(t, anonymous, pinned)
	if err != nil || src.Identity().Digest() != root.Digest {
		t.Fatalf("opened as %+v, %v", src, err)
	}
	if len(messages) != 1 || !strings.Contains(messages[0], "the tag has moved on") ||
		!strings.Contains(messages[0], pinned) || !strings.Contains(messages[0], other.Digest.String()) {
		t.Errorf("with a moved tag: %q", messages)
	}
}

func TestRegistryResolve(t *testing.T) {
	r := newTestRegistry(t)
	_, root := r.serve(t)
	if got, err := anonymous.Resolve(t.Context(), r.host+"/repo:1"); err != nil || got != root.Digest {
		t.Errorf("resolved to %s, %v, want %s", got, err, root.Digest)
	}
	for _, tagged := range []string{r.host + "/repo:2", "No Name:1"} {
		if got, err := anonymous.Resolve(t.Context(), tagged); err == nil {
			t.Errorf("%s resolved to %s", tagged, got)
		}
	}
}

func TestRegistryRefused(t *testing.T) {
	r := newTestRegistry(t)
	l, root := r.serve(t)
	digest := root.Digest.String()
	served := "/v2/repo/manifests/" + digest
	for name, try := range map[string]struct {
		manifest []byte
		text     string
		want     string
	}{
		"another manifest": {[]byte(`{"schemaVersion":2}`), "/repo@" + digest,
			"opening |does not match requested digest: \"" + digest},
		"a changed byte": {bytes.Replace(l[imagetest.BlobName(root.Digest)], []byte("amd64"), []byte("amd65"), 1),
			"/repo@" + digest, "does not match"},
		"a huge one": {make([]byte, 16<<20), "/repo@" + digest, "opening |/repo@" + digest + "|larger than"},
		"no such digest": {nil, "/repo@sha256:" + hex64, "opening |MANIFEST_UNKNOWN|; check that name, tag and " +
			"digest are right"},
	} {
		t.Run(name, func(t *testing.T) {
			delete(r.forge, served)
			if try.manifest != nil {
				r.forge[served] = try.manifest
			}
			_, _, err := openLogged(t, anonymous, r.host+try.text)
			imagetest.WantError(t, err, try.want)
		})
	}
}

func TestRegistryCredentials(t *testing.T) {
	r := newTestRegistry(t)
	_, root := r.serve(t)
	r.auth = "Basic dXNlcjpzZWNyZXQ=" // user:secret
	text := r.host + "/repo:1@" + root.Digest.String()
	login := func(registry, password string) RegistryAccess {
		return RegistryAccess{Login: Login{registry, "user", password}, Transport: http.DefaultTransport}
	}
	if _, messages, err := openLogged(t, login(r.host, "secret"), text); err != nil || len(messages) != 0 {
		t.Errorf("with credentials: %q, %v", messages, err)
	}
	_, messages, err := openLogged(t, login(r.host, "hidden"), text)
	if err == nil || strings.Contains(err.Error()+strings.Join(messages, ""), "hidden") {
		t.Errorf("with wrong ones: %q, %v", messages, err)
	}
	imagetest.WantError(t, err, "check that the credentials given for "+r.host)
	_, _, err = openLogged(t, login("registry.example", "secret"), text)
	imagetest.WantError(t, err,
		"give source-username and source-password|source-registry: "+r.host+"|docker login "+r.host)
}

// Where the registry refuses access, the engine's copy does if it is the image
// of that digest. Without a manifest that can't be known.
func TestRegistryFallsBackToEngine(t *testing.T) {
	l := imagetest.NewLayout()
	one := l.Image("linux/amd64")
	several := l.Index(imagetest.WithPlatform(one, "linux/amd64"))
	unpacked := imagetest.Example()
	for name, test := range map[string]struct {
		image  fakeImage
		id     v1.Hash // that the engine calls it by
		digest string
		status int
		want   string // in the error
	}{
		"image":            {containerdStore(l, one), one.Digest, one.Digest.String(), http.StatusUnauthorized, ""},
		"image, forbidden": {containerdStore(l, one), one.Digest, one.Digest.String(), http.StatusForbidden, ""},
		"index": {containerdStore(l, several), several.Digest, several.Digest.String(), http.StatusUnauthorized,
			"of several platforms|give its ID"},
		"image without its manifest": {
			graphDriver(unpacked, "source@sha256:"+hex64), unpacked.ID(), "sha256:" + hex64, http.StatusUnauthorized,
			"docker login|of several platforms|give its ID, " + unpacked.ID().String(),
		},
		"image that the registry lacks": {
			containerdStore(l, one), one.Digest, one.Digest.String(), http.StatusNotFound, "check that name, tag and digest",
		},
		"registry in trouble": {containerdStore(l, one), one.Digest, one.Digest.String(), http.StatusServiceUnavailable,
			"503"},
	} {
		t.Run(name, func(t *testing.T) {
			ref, err := Parse(refusing(t, test.status) + "/image@" + test.digest)
			if err != nil {
				t.Fatal(err)
			}
			engine := &fakeEngine{images: map[string]fakeImage{test.id.String(): test.image}}
			engine.start(t)
			core, logs := observer.New(zapcore.WarnLevel)
			src, err := NewOpener(zap.New(core), anonymous, workspace.Workspace{}).Open(t.Context(), ref)
			if test.want != "" {
				imagetest.WantError(t, err, test.want)
				return
			}
			if err != nil || src.Identity().Digest().String() != test.digest {
				t.Fatalf("opened as %+v, %v", src, err)
			}
			if logs.Len() != 1 || !strings.Contains(logs.All()[0].Message, "using the container engine's copy") {
				t.Errorf("logged %v", logs.All())
			}
		})
	}
}

// refusing starts a registry that answers any request for content with a status.
func refusing(t *testing.T, status int) (host string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(status)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestRegistryRealm: credentials don't go to a token service that the registry
// names without TLS.
func TestRegistryRealm(t *testing.T) {
	t.Parallel()
	for realm, want := range map[string]string{
		"http://[::1/token":           "parsing realm",
		"ftp://auth.example/token":    "not allowed",
		"http://169.254.169.254/meta": "private or link-local",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=\"x\"", realm))
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(server.Close)
		_, err := anonymous.Resolve(t.Context(), strings.TrimPrefix(server.URL, "http://")+"/image:1")
		imagetest.WantError(t, err, want)
	}
}

// TestRegistryRedirects: what signs the address that a registry sends requests
// on to is a secret.
func TestRegistryRedirects(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v2/" {
			http.Redirect(w, req, "http://127.0.0.1:1/storage?signature=confidential", http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(server.Close)
	image := strings.TrimPrefix(server.URL, "http://") + "/image:1"
	_, err := anonymous.Resolve(t.Context(), image)
	_, messages, openErr := openLogged(t, anonymous, image+"@"+imagetest.Sum(nil).String())
	for _, text := range append(messages, fmt.Sprint(err), fmt.Sprint(openErr)) {
		if strings.Contains(text, "confidential") || !strings.Contains(text, "refused") ||
			!strings.Contains(text, "; check that this machine reaches it, by the proxy of HTTPS_PROXY if there is one") {
			t.Errorf("the message is %q", text)
		}
	}
}

// TestRateLimit: a registry that wants to be left alone for hours is told as that, with what helps.
func TestRateLimit(t *testing.T) {
	const limit = `{"errors":[{"code":"TOOMANYREQUESTS",` +
		`"message":"You have reached your\nunauthenticated pull rate limit."}]}`
	for name, test := range map[string]struct {
		retryAfter, body string
		login            bool
		want             string
		hours            int // until another try, 0 if that isn't known
	}{
		"anonymous": {"21600", limit, false, "429 Too Many Requests|" +
			"; log in with source-username, source-password and source-registry: |, or run this again after ", 6},
		"a date": {time.Now().Add(7 * time.Hour).UTC().Format(http.TimeFormat), limit, false, "or run this again after ",
			7},
		"logged in": {"21600", limit, true, "; run this again after ", 6},
		"no date":   {"", "slow down", false, ": 429 Too Many Requests; log in with|, or run this again later", 0},
		"nonsense":  {"-5", "", true, ": 429 Too Many Requests; run this again later", 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				w.Header().Set("Retry-After", test.retryAfter)
				w.WriteHeader(http.StatusTooManyRequests)
				_, _ = io.WriteString(w, test.body)
			}))
			t.Cleanup(server.Close)
			host := server.Listener.Addr().String()
			access := anonymous
			if test.login {
				access.Registry, access.Username, access.Password = host, "me", "secret"
			}
			_, resolveErr := access.Resolve(t.Context(), host+"/image:1")
			_, _, openErr := openLogged(t, access, host+"/image@"+imagetest.Sum(nil).String())
			if test.body == limit {
				imagetest.WantError(t, openErr, ": 429 Too Many Requests: You have reached your unauthenticated pull rate limit.; ")
			}
			for _, err := range []error{resolveErr, openErr} {
				imagetest.WantError(t, err, test.want)
				if strings.ContainsAny(fmt.Sprint(err), "\n") || strings.Contains(fmt.Sprint(err), "http://") {
					t.Errorf("error %q", err)
				}
				_, after, _ := strings.Cut(fmt.Sprint(err), "again after ")
				again, _ := time.Parse("2006-01-02 15:04 UTC", after)
				if wait := time.Until(again); test.hours > 0 && (wait-time.Duration(test.hours)*time.Hour).Abs() > 2*time.Minute {
					t.Errorf("again in %s, want %d hours: %v", wait, test.hours, err)
				}
			}
		})
	}
}

// TestErrorsOnOneLine: some registries answer with texts of several lines.
func TestErrorsOnOneLine(t *testing.T) {
	for _, body := range []string{
		`{"errors":[{"code":"DENIED",` +
			`"message":"Your authorization token has expired.\n\tReauthenticate\r\nand try again.\n"}]}`,
		"<html>\n<body>\n  Reauthenticate and try again.</body>",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(http.StatusForbidden)
				_, _ = io.WriteString(w, body)
			}
		}))
		t.Cleanup(server.Close)
		host := server.Listener.Addr().String()
		_, resolveErr := anonymous.Resolve(t.Context(), host+"/image:1")
		_, _, openErr := openLogged(t, anonymous, host+"/image@"+imagetest.Sum(nil).String())
		for _, err := range []error{resolveErr, openErr} {
			imagetest.WantError(t, err, "Reauthenticate and try again.|give source-username and source-password")
			if strings.ContainsAny(fmt.Sprint(err), "\r\n\t") {
				t.Errorf("error %q", err)
			}
		}
	}
}

// TestCareful: a login isn't repeated elsewhere, and only blobs may be large.
func TestLimitResponses(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", maxManifest+1)
	for name, test := range map[string]struct {
		method, path string
		status       int
		via          string // the path that was redirected here
		fails        bool
	}{
		"a blob":               {http.MethodGet, "/v2/image/blobs/sha256:0", 200, "", false},
		"a blob in a storage":  {http.MethodGet, "/storage", 200, "/v2/image/blobs/sha256:0", false},
		"an error about it":    {http.MethodGet, "/storage", 403, "/v2/image/blobs/sha256:0", true},
		"a manifest":           {http.MethodGet, "/v2/image/manifests/1", 200, "", true},
		"a manifest elsewhere": {http.MethodGet, "/storage", 200, "/v2/image/manifests/1", true},
		"a token":              {http.MethodGet, "/token", 200, "", true},
		"the API":              {http.MethodGet, "/v2/", 200, "", true},
		"a login sent on":      {http.MethodPost, "/token", 307, "", true},
	} {
		answer := roundTripper(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: test.status, Request: req, Body: io.NopCloser(strings.NewReader(large))}, nil
		})
		req := httptest.NewRequest(test.method, test.path, nil)
		if test.via != "" {
			req.Response = &http.Response{Request: httptest.NewRequest(test.method, test.via, nil)}
		}
		res, err := limitResponses{answer, new(atomic.Bool)}.RoundTrip(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		if (err != nil) != test.fails {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// roundTripper is a function that answers requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// carrier counts what it carries, and hands it on.
type carrier struct{ carried atomic.Int32 }

func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	c.carried.Add(1)
	return http.DefaultTransport.RoundTrip(req)
}

// TestRegistryConnectsForBlobs: the connections that the first blobs need are opened with the manifest, unless one
// connection carries many requests.
func TestRegistryConnectsForBlobs(t *testing.T) {
	r := newTestRegistry(t)
	l := imagetest.NewLayout()
	image := l.Image("linux/amd64")
	r.put(t, openLayout(t, l.Of(image)))
	for protocol, want := range map[int]int{1: 3, 2: 0} {
		var connected []string
		access := RegistryAccess{
			Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
				res, err := http.DefaultTransport.RoundTrip(req)
				if err == nil {
					res.ProtoMajor = protocol
				}
				return res, err
			}),
			Connect: func(_ context.Context, u *url.URL) { connected = append(connected, u.String()) },
		}
		if _, _, err := openLogged(t, access, r.host+"/repo@"+image.Digest.String()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(connected, slices.Repeat([]string{"http://" + r.host}, want)) {
			t.Errorf("HTTP/%d: connected to %q, want %d times http://%s", protocol, connected, want, r.host)
		}
	}
}

// TestRegistryTransport: every request goes through the transport that is
// given, with the program's name.
func TestRegistryTransport(t *testing.T) {
	r := newTestRegistry(t)
	l := imagetest.NewLayout()
	image := l.Image("linux/amd64")
	r.put(t, openLayout(t, l.Of(image)))
	var served atomic.Int32
	counting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		served.Add(1)
		if !strings.HasPrefix(req.UserAgent(), "test/1 ") {
			t.Errorf("%s %s came from %q", req.Method, req.URL, req.UserAgent())
		}
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(counting.Close)
	through := &carrier{}
	src, messages, err := openLogged(t, RegistryAccess{UserAgent: "test/1", Transport: through},
		strings.TrimPrefix(counting.URL, "http://")+"/repo:1@"+image.Digest.String())
	if err != nil || len(messages) > 0 {
		t.Fatal(messages, err)
	}
	imagetest.SameTree(t, imageOf(t, src), l)
	// A first try of TLS with a registry on loopback isn't served.
	if got, want := through.carried.Load(), served.Load(); want == 0 || got < want {
		t.Errorf("%d of %d requests went through the transport", got, want)
	}
}

// TestRemoteBlob: what broke off is read on, while more of it comes.
func TestRemoteBlob(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	broken := errors.New("broken")
	// part is the bytes that an answer has, and how it ends.
	type part struct {
		bytes int
		err   error
	}
	for name, test := range map[string]struct {
		parts []part
		want  string
		err   error
	}{
		"whole":                {[]part{{10, nil}}, content, nil},
		"broken twice":         {[]part{{3, broken}, {1, broken}, {6, nil}}, content, nil},
		"ended early":          {[]part{{3, nil}, {7, nil}}, content, nil},
		"broken behind it":     {[]part{{10, broken}}, content, nil},
		"broken at once":       {[]part{{0, broken}}, "", broken},
		"no progress":          {[]part{{3, broken}, {0, broken}}, "012", broken},
		"no more of it":        {[]part{{3, broken}, {0, nil}}, "012", io.ErrUnexpectedEOF},
		"nothing of it":        {[]part{{0, nil}}, "", io.ErrUnexpectedEOF},
		"can't be asked again": {[]part{{3, io.ErrUnexpectedEOF}, {-1, broken}}, "012", broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &remoteBlob{size: int64(len(content))}
			b.open = func(offset int64) (io.ReadCloser, error) {
				next := test.parts[0]
				test.parts = test.parts[1:]
				if next.bytes < 0 {
					return nil, next.err
				}
				body := io.Reader(strings.NewReader(content[offset:][:next.bytes]))
				if next.err != nil {
					body = io.MultiReader(body, iotest.ErrReader(next.err))
				}
				return io.NopCloser(body), nil
			}
			var err error
			if b.ReadCloser, err = b.open(0); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(b)
			if string(got) != test.want || !errors.Is(err, test.err) {
				t.Errorf("read %q, %v; want %q, %v", got, err, test.want, test.err)
			}
		})
	}
}

// TestRemoteBlobOfUnknownSize: it is read on, too, and its end is where an answer ends.
func TestRemoteBlobOfUnknownSize(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	broken := errors.New("broken")
	opened := 0
	b := &remoteBlob{open: func(offset int64) (io.ReadCloser, error) {
		if opened++; opened == 1 {
			return io.NopCloser(io.MultiReader(strings.NewReader(content[:3]), iotest.ErrReader(broken))), nil
		}
		return io.NopCloser(strings.NewReader(content[offset:])), nil
	}}
	var err error
	if b.ReadCloser, err = b.open(0); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != content || err != nil || opened != 2 {
		t.Errorf("read %q, %v, in %d answers", got, err, opened)
	}
	gone := &remoteBlob{
		ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader(content), iotest.ErrReader(broken))),
		open:       func(int64) (io.ReadCloser, error) { return nil, broken },
	}
	_, err = io.ReadAll(gone)
	imagetest.WantError(t, err, "the blob ends after 10 bytes, and can't be read on")
}

// TestRemoteBlobSeek: what was read can be read again, also where it was broken.
func TestRemoteBlobSeek(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	opened := 0
	b := &remoteBlob{size: int64(len(content)), open: func(offset int64) (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader(content[offset:])), nil
	}}
	var err error
	if b.ReadCloser, err = b.open(0); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		offset int64
		opened int
	}{{3, 2}, {7, 2}, {0, 3}, {4, 3}} { // 7 and 4 are where the read before ended
		offset := step.offset
		if _, err := b.Seek(offset, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)[:min(4, int64(len(content))-offset)]
		if _, err := io.ReadFull(b, got); err != nil || !strings.HasPrefix(content[offset:], string(got)) {
			t.Errorf("at %d: %q, %v", offset, got, err)
		}
		if opened != step.opened {
			t.Errorf("at %d: opened %d times, want %d", offset, opened, step.opened)
		}
	}
	if _, err := b.Seek(0, io.SeekEnd); err == nil {
		t.Error("the end was found")
	}
}

// TestRemoteBlobRange: a server may give the range, more of it, or the whole.
func TestRemoteBlobRange(t *testing.T) {
	t.Parallel()
	const content = "0123456789"
	for name, test := range map[string]struct {
		status int
		header string
		body   string
		fails  bool
	}{
		"the range":     {http.StatusPartialContent, "bytes 4-9/10", content[4:], false},
		"more":          {http.StatusPartialContent, "bytes 2-9/10", content[2:], false},
		"the whole":     {http.StatusOK, "", content, false},
		"a later range": {http.StatusPartialContent, "bytes 5-9/10", content[5:], true},
		"no range":      {http.StatusPartialContent, "", content[4:], true},
		"less":          {http.StatusOK, "", content[:3], true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := &http.Response{StatusCode: test.status, Header: http.Header{},
				Body: io.NopCloser(strings.NewReader(test.body))}
			res.Header.Set("Content-Range", test.header)
			err := skipTo(res, 4)
			if (err != nil) != test.fails {
				t.Fatalf("error %v, want one: %v", err, test.fails)
			}
			if rest, _ := io.ReadAll(res.Body); err == nil && string(rest) != content[4:] {
				t.Errorf("the rest is %q", rest)
			}
		})
	}
}

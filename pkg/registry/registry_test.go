package registry

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/klauspost/compress/gzip"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

const repoPath = "charm/abc123/my-image"

// server is CNCF distribution on loopback, with what tests need to see and to spoil.
type server struct {
	*httptest.Server
	handler http.Handler // distribution itself

	mu        sync.Mutex
	requests  []string                                          // "METHOD path", in the order of arrival
	intercept func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

// newServer starts an empty registry in memory, which stops when the test ends.
func newServer(t *testing.T) *server {
	t.Helper()
	logrus.SetOutput(io.Discard)
	config := &configuration.Configuration{Storage: configuration.Storage{"inmemory": {}}}
	config.HTTP.Secret = "not a secret"
	config.Log.AccessLog.Disabled = true
	config.Validation.Manifests.URLs.Allow = []string{"^https://example.com/"}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{handler: handlers.NewApp(ctx, config)}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() { s.Close(); cancel() })
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	intercept := s.intercept
	s.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	s.handler.ServeHTTP(w, r)
}

// spoil puts a handler before distribution; it says whether it answered.
func (s *server) spoil(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = f
}

// log returns the requests since the last call.
func (s *server) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

// count returns how many of the requests begin with the prefix.
func count(requests []string, prefix string) int {
	return len(slices.DeleteFunc(slices.Clone(requests), func(r string) bool { return !strings.HasPrefix(r, prefix) }))
}

// host returns the registry's host and port.
func (s *server) host() string { return strings.TrimPrefix(s.URL, "http://") }

// aTokensKey is the key of proofs of the store token that tests publish with, unless they say otherwise.
var aTokensKey = []byte("a key that is derived from a store token")

// noProgress is a Progress that shows nothing.
func noProgress(string, int64) (func(int64), func()) { return func(int64) {}, func() {} }

// open opens a view of the test repository over a transport that counts the bytes of request bodies.
func (s *server) open(t *testing.T) (*View, *counter) {
	t.Helper()
	c := &counter{}
	r := s.connect(t, c)
	s.log()
	return r, c
}

// connect opens it without a change to the log.
func (s *server) connect(t *testing.T, c *counter) *View {
	t.Helper()
	r, err := Open(t.Context(), Options{
		Image: s.host() + "/" + repoPath, Username: "user", Password: "hunter2",
		Transport: c.transport(), Logger: zap.NewNop(), Decompress: gunzip,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.wait = func(ctx context.Context, d time.Duration) error { c.waited(d); return ctx.Err() }
	return NewView(r, aTokensKey, noProgress)
}

// again returns a view of the next run, with the same token.
func (v *View) again() *View { return NewView(v.Repository, v.prover.proofKey, v.progress) }

// gunzip reads a layer that is compressed by gzip, or not at all.
func gunzip(blob io.Reader) (io.ReadCloser, bool, error) {
	buffered := bufio.NewReader(blob)
	if magic, err := buffered.Peek(2); err != nil || string(magic) != "\x1f\x8b" {
		return io.NopCloser(buffered), false, nil //nolint:nilerr // too short to be compressed
	}
	layer, err := gzip.NewReader(buffered)
	return layer, true, err
}

// seed stores an image as another tool would, and returns its digest.
func (s *server) seed(t *testing.T, ref string, img v1.Image) v1.Hash {
	t.Helper()
	parsed, err := name.ParseReference(s.host() + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, img); err != nil {
		t.Fatal(err)
	}
	return digestOf(t, img)
}

// counter counts what is written to connections, and how long was waited.
type counter struct {
	sent  atomic.Int64
	mu    sync.Mutex
	waits []time.Duration
}

// transport returns a transport whose connections count what is written to them.
func (c *counter) transport() *http.Transport {
	return &http.Transport{
		ExpectContinueTimeout: 10 * time.Second,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return countedConn{conn, c}, err
		},
	}
}

// waited notes a pause.
func (c *counter) waited(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, d)
}

// countedConn is a connection that counts what is written to it.
type countedConn struct {
	net.Conn
	c *counter
}

func (c countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.c.sent.Add(int64(n))
	return n, err
}

// digestOf returns the digest of an image, index or layer.
func digestOf(t *testing.T, img interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// randomImage returns an image of random layers, each of size bytes.
func randomImage(t *testing.T, size, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// mustAppend returns an image of the layers.
func mustAppend(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// mustPlan plans with a view of its own.
func mustPlan(t *testing.T, v *View, img image.ImageOrIndex) *Plan {
	t.Helper()
	p, err := v.again().Plan(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mustPush plans and pushes an image, and returns the plan. It fails the test on an error.
func mustPush(t *testing.T, v *View, img image.ImageOrIndex) *Plan {
	t.Helper()
	p := mustPlan(t, v, img)
	if _, err := v.Push(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// recordImage records one image with its sources, without moving the tag latest.
func recordImage(t *testing.T, v *View, img image.ImageOrIndex, compared bool, sources ...v1.Hash) error {
	t.Helper()
	return v.Record(t.Context(), false, Recorded{img, compared, sources})
}

// moveLatest records nothing but moves the tag latest to the image.
func moveLatest(t *testing.T, v *View, img image.ImageOrIndex) error {
	t.Helper()
	return v.Record(t.Context(), true, Recorded{Image: img})
}

// pushError pushes a plan and returns the error. It fails the test if a failed push reports a comparison.
func pushError(t *testing.T, v *View, p *Plan) error {
	t.Helper()
	compared, err := v.Push(t.Context(), p, nil)
	if compared && err != nil {
		t.Errorf("compared, though pushing failed: %v", err)
	}
	return err
}

// wantError fails the test unless the error contains all parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// answer is what a registry answers with an error code.
func answer(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"a test said so"}]}`, code)
	return true
}

// jsonOf returns a value as JSON.
func jsonOf(value any) []byte {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return raw
}

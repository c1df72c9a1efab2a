package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// file is content that can be read anywhere; a stream hides that.
type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func newContent(b []byte, stream bool) io.ReadCloser {
	if stream {
		return io.NopCloser(struct{ io.Reader }{bytes.NewReader(b)})
	}
	return file{bytes.NewReader(b)}
}

func mustAppend(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.New(rand.NewSource(1)).Read(b)
	return b
}

// oneLayer plans an image with one layer of n bytes.
func oneLayer(t *testing.T, r *View, n int, stream bool) *Plan {
	t.Helper()
	content := noise(n)
	return mustPlan(t, r, mustAppend(t, bytesLayer{static.NewLayer(content, types.DockerLayer), content, stream}))
}

// smallMax is the size in bytes up to which a blob is sent at once.
const smallMax = 128 << 10

var sources = map[string]bool{"file": false, "stream": true}

// breakAt lets a chunk through until so many bytes of it were read, then resets the connection.
func breakAt(s *server, w http.ResponseWriter, r *http.Request, n int64) {
	r.Body = io.NopCloser(io.LimitReader(r.Body, n))
	s.handler.ServeHTTP(discard{w}, r)
	panic(http.ErrAbortHandler)
}

// discard is a response that never arrives.
type discard struct{ w http.ResponseWriter }

func (d discard) Header() http.Header         { return http.Header{} }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func TestFiveResetsInALargeLayer(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 100 MB")
	}
	const size = 100 << 20
	for name, keeps := range map[string]bool{"kept": true, "dropped": false} {
		t.Run("what arrived is "+name, func(t *testing.T) {
			s := newServer(t)
			r, c := s.open(t)
			var chunks atomic.Int64
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPatch {
					return false
				}
				if n := chunks.Add(1); n%3 == 0 && n <= 15 {
					if keeps {
						breakAt(s, w, r, r.ContentLength/2)
					}
					_, _ = io.Copy(io.Discard, r.Body)
					panic(http.ErrAbortHandler)
				}
				return false
			})
			var received int64
			if _, err := r.Push(t.Context(), oneLayer(t, r, size, false), func(n int64) { received += n }); err != nil {
				t.Fatal(err)
			}
			if sent := c.sent.Load(); sent > size*11/10 {
				t.Errorf("%d bytes sent, more than 1.1 times the layer", sent)
			}
			if len(c.waits) != 5 || received <= size {
				t.Errorf("%d waits, want 5; progress of %d bytes", len(c.waits), received)
			}
		})
	}
}

func TestResume(t *testing.T) {
	for name, stream := range sources {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, c := s.open(t)
			var broken atomic.Bool
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPatch && r.ContentLength > 1<<20 && !broken.Swap(true) {
					breakAt(s, w, r, 3<<20)
				}
				return false
			})
			if _, err := r.Push(t.Context(), oneLayer(t, r, 6<<20, stream), nil); err != nil {
				t.Fatal(err)
			}
			if sent := c.sent.Load(); sent > 8<<20 {
				t.Errorf("%d bytes sent of 6 MiB, want it to go on from the third", sent)
			}
		})
	}
}

// As long as every try brings the registry some bytes, there is another.
func TestProgressEarnsTries(t *testing.T) {
	s := newServer(t)
	r, c := s.open(t)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && r.ContentLength > 1000 {
			breakAt(s, w, r, r.ContentLength/2)
		}
		return false
	})
	if _, err := r.Push(t.Context(), oneLayer(t, r, 1<<20, false), nil); err != nil {
		t.Fatal(err)
	}
	if len(c.waits) <= 6 {
		t.Errorf("%d waits, the test proves nothing", len(c.waits))
	}
}

func TestLostSessionStartsOver(t *testing.T) {
	codes := map[string]int{"BLOB_UPLOAD_UNKNOWN": http.StatusNotFound, "BLOB_UPLOAD_INVALID": http.StatusBadRequest}
	for code, status := range codes {
		for name, stream := range sources {
			t.Run(code+" "+name, func(t *testing.T) {
				s := newServer(t)
				r, _ := s.open(t)
				var chunks atomic.Int64
				s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
					return r.Method == http.MethodPatch && r.ContentLength > 1000 && chunks.Add(1) == 2 && answer(w, status, code)
				})
				if _, err := r.Push(t.Context(), oneLayer(t, r, 9<<20, stream), nil); err != nil {
					t.Fatal(err)
				}
				if n := count(s.log(), "POST"); n != 3 {
					t.Errorf("%d uploads begun, want the config's and two", n)
				}
			})
		}
	}
}

// A registry that forgets an upload in which a connection broke, as distribution 2 does, gets it again, as long as bytes
// get through.
func TestBrokenUploadsAreForgotten(t *testing.T) {
	const breaks = 12
	for name, stream := range sources {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			var chunks atomic.Int64
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				n := chunks.Load()
				switch {
				case r.Method == http.MethodPatch && r.ContentLength > 1000 && n < 3*breaks:
					if chunks.Add(1)%3 == 0 {
						_, _ = io.Copy(io.Discard, r.Body)
						panic(http.ErrAbortHandler)
					}
				case r.Method == http.MethodGet && n > 0 && n%3 == 0 && strings.Contains(r.URL.Path, "/uploads/"):
					return answer(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
				}
				return false
			})
			var received int64
			p := oneLayer(t, r, 9<<20, stream)
			if _, err := r.Push(t.Context(), p, func(n int64) { received += n }); err != nil {
				t.Fatal(err)
			}
			if n := count(s.log(), "POST"); n != 2+breaks {
				t.Errorf("%d uploads begun, want the config's, and the layer's %d", n, 1+breaks)
			}
			if want := Size(p.Missing); received != want {
				t.Errorf("progress of %d bytes, want %d", received, want)
			}
		})
	}
}

// A registry that stands before what a stream can give again is one to start over with.
func TestStreamStartsOverWhenTheRegistryForgot(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	var chunks atomic.Int64
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || r.ContentLength < 1000 || chunks.Add(1) != 2 {
			return false
		}
		w.Header().Set("Location", r.URL.String())
		w.Header().Set("Range", "0-99")
		w.WriteHeader(http.StatusAccepted)
		return true
	})
	if _, err := r.Push(t.Context(), oneLayer(t, r, 9<<20, true), nil); err != nil {
		t.Fatal(err)
	}
}

func TestTokenExpiresInsideALayer(t *testing.T) {
	const size = 30 << 20
	for name, stream := range sources {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, 4)
			r, c := g.open(t)
			if _, err := r.Push(t.Context(), oneLayer(t, r, size, stream), nil); err != nil {
				t.Fatal(err)
			}
			if sent := c.sent.Load(); sent > size+1<<20 {
				t.Errorf("%d bytes sent of %d: some twice", sent, size)
			}
			if n := g.issued(); n < 4 {
				t.Errorf("%d tokens, the test proves nothing", n)
			}
		})
	}
}

// Without waiting for the registry's consent the chunk is under way when the 401 comes; it must be sent whole again.
func TestTokenExpiresWithoutExpect(t *testing.T) {
	g := newGuard(t, 4)
	r, _ := g.open(t)
	c := &counter{}
	transport := c.transport()
	transport.ExpectContinueTimeout = 0
	opened, err := Open(t.Context(), Options{
		Image: r.Name(), Username: "user", Password: "hunter2", Transport: transport, Logger: r.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	opened.wait = r.wait
	mustPush(t, NewView(opened, aTokensKey, noProgress), mustAppend(t, static.NewLayer(noise(9<<20), types.DockerLayer)))
}

func TestGivesUp(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "7"); w.WriteHeader(code) }
	}
	header := func(key, value string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.String())
			w.Header().Set(key, value)
			w.WriteHeader(http.StatusAccepted)
		}
	}
	for name, test := range map[string]struct {
		method string
		spoil  func(http.ResponseWriter, *http.Request)
		want   string
		waits  int
	}{
		"busy":             {"PATCH", status(503), "given up after 6 tries", 5},
		"limited":          {"PATCH", status(429), "given up after 6 tries", 5},
		"busy at start":    {"POST", status(503), "503", 0}, // the transport has repeated these
		"busy at the end":  {"PUT", status(503), "503", 0},
		"too large":        {"PATCH", status(413), "413", 0},
		"always lost":      {"PATCH", status(404), "lost the upload 4 times", 0},
		"another host":     {"POST", header("Location", "http://192.0.2.1/v2/x"), `another host, "192.0.2.1"`, 0},
		"no location":      {"POST", header("Location", ""), "doesn't say where", 0},
		"too far":          {"PATCH", header("Range", "0-999999999"), "lost the upload 4 times", 0},
		"nonsense":         {"PATCH", header("Range", "half of it"), "lost the upload 4 times", 0},
		"never in order":   {"PATCH", status(416), "lost the upload 4 times", 4},
		"taken and gone":   {"PATCH", header("Range", "0-0"), "given up after 6 tries without progress", 5},
		"stored otherwise": {"PUT", header("Docker-Content-Digest", "sha256:0"), `stored it as "sha256:0"`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, c := s.open(t)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != test.method {
					return false
				}
				test.spoil(w, r)
				return true
			})
			p := oneLayer(t, r, smallMax+1, false)
			wantError(t, pushError(t, r, p), "sending the blob", test.want)
			if len(c.waits) != test.waits {
				t.Errorf("%d waits, want %d", len(c.waits), test.waits)
			}
			for _, d := range c.waits {
				if name == "busy" && (d < 7*time.Second || d > 9*time.Second) {
					t.Errorf("waited %v, the registry asked for 7 s", d)
				}
			}
		})
	}
}

func TestRegistryDies(t *testing.T) {
	s := newServer(t)
	r, c := s.open(t)
	var dead atomic.Bool
	s.spoil(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch || dead.Load() {
			dead.Store(true)
			_, _ = io.Copy(io.Discard, r.Body) // else the client waits for consent to send it
			panic(http.ErrAbortHandler)
		}
		return false
	})
	p := oneLayer(t, r, smallMax+1, false)
	p.Missing = p.Missing[1:] // without the config, which would fail otherwise
	wantError(t, pushError(t, r, p), "sending the blob", "asking how many bytes arrived")
	if len(c.waits) != 1 {
		t.Errorf("%d waits, want one: asking again is the transport's", len(c.waits))
	}
}

func TestPushCancelled(t *testing.T) {
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		t.Run(method, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			p := oneLayer(t, r, smallMax+1, false)
			stopped := errors.New("stopped by a test")
			ctx, cancel := context.WithCancelCause(t.Context())
			s.spoil(func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == method {
					_, _ = io.Copy(io.Discard, r.Body) // else the server doesn't notice that the client has gone
					cancel(stopped)
					<-r.Context().Done()
				}
				return false
			})
			if _, err := r.Push(ctx, p, nil); !errors.Is(err, stopped) {
				t.Errorf("%v, want %v", err, stopped)
			}
		})
	}
}

func TestChunkSizes(t *testing.T) {
	for name, test := range map[string]struct {
		size, minimum, want int
	}{
		"small blobs need none":     {smallMax, 0, 0},
		"larger ones go at once":    {smallMax + 1, 0, 1},
		"in chunks of 4 MiB":        {9 << 20, 0, 3},
		"of the registry's minimum": {9 << 20, 6 << 20, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost && test.minimum > 0 {
					w.Header().Set("OCI-Chunk-Min-Length", "6291456")
				}
				return false
			})
			p := oneLayer(t, r, test.size, true)
			s.log()
			if _, err := r.Push(t.Context(), p, nil); err != nil {
				t.Fatal(err)
			}
			if n := count(s.log(), "PATCH"); n != test.want {
				t.Errorf("%d chunks, want %d", n, test.want)
			}
		})
	}
}

package source

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containers/image/v5/docker/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/client"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// pipes is a listener whose connections stay within the process, so that they
// wait in the time of a test.
type pipes chan net.Conn

// dial returns the client's end of a new connection, whose other end Accept returns.
func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p <- there
	return here, nil
}

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestSilentRegistry: a registry that falls silent within a blob, and then for
// good, ends the run. It isn't parallel to others, whose transport it changes.
func TestSilentRegistry(t *testing.T) {
	base := http.DefaultTransport.(*http.Transport)
	dial := base.DialContext
	defer func() { base.DialContext = dial }()
	synctest.Test(t, func(t *testing.T) {
		listener := make(pipes)
		base.DialContext = listener.dial
		server := &http.Server{ReadHeaderTimeout: time.Hour,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v2/" {
					return
				}
				if r.Header.Get("Range") == "" {
					w.Header().Set("Content-Length", "4194304")
					_, _ = w.Write(make([]byte, 2<<20))
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
			})}
		served := make(chan error)
		go func() { served <- server.Serve(listener) }()

		named, err := reference.ParseNormalizedNamed("127.0.0.1:5000/image")
		if err != nil {
			t.Fatal(err)
		}
		repo, err := RegistryAccess{Transport: transport.New(func(string) {}, zap.NewNop())}.open(t.Context(), named)
		if err != nil {
			t.Fatal(err)
		}
		store := &remoteStore{sourceRepository: repo, image: repo.name.Digest(imagetest.Sum(nil).String())}
		blob, err := store.fetch(t.Context(), v1.Descriptor{Digest: imagetest.Sum([]byte("a blob")), Size: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = io.Copy(io.Discard, blob)
		imagetest.WantError(t, err, "the blob ends after 2097152 of 4194304 bytes|the connection fell silent: nothing from "+
			"127.0.0.1:5000")
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("that took %s", took)
		}
		_ = blob.Close()
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		time.Sleep(time.Hour) // for connections that idle
	})
}

// TestSilentEngine: an engine that falls silent within an export, or never answers, ends the run.
func TestSilentEngine(t *testing.T) {
	saved := imagetest.Example()
	inspected := graphDriver(saved).inspect
	for name, test := range map[string]struct {
		silent string // the call that gets no answer
		export []byte // what comes before the silence
		want   string
	}{
		"inspect": {"json", nil, "failed to inspect image|no answer within 15m0s"},
		"before export": {"get", nil, "failed to export image " + saved.ID().String() +
			"|the connection fell silent: nothing from tcp://127.0.0.1:2375 for 15m0s"},
		"within export": {"get", graphDriver(saved).export[:2<<20], "failed to export image " + saved.ID().String() +
			"|nothing from tcp://127.0.0.1:2375 for 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := make(pipes)
				server := &http.Server{ReadHeaderTimeout: time.Hour,
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						switch {
						case r.URL.Path == "/_ping":
							return
						case path.Base(r.URL.Path) == test.silent:
							if len(test.export) > 0 {
								_, _ = w.Write(test.export)
								w.(http.Flusher).Flush()
							}
							<-r.Context().Done()
						default:
							answer(w, http.StatusOK, inspected)
						}
					})}
				served := make(chan error)
				go func() { served <- server.Serve(listener) }()
				api, err := client.New(client.WithHost("tcp://127.0.0.1:2375"), client.WithDialContext(listener.dial))
				if err != nil {
					t.Fatal(err)
				}
				e := &engine{api: api, host: api.DaemonHost()}
				began := time.Now()
				src, err := e.inspect(t.Context(), saved.ID().String())
				if err == nil {
					err = readLayers(t, unpackedOf(src))
				}
				imagetest.WantError(t, err, "the container engine at tcp://127.0.0.1:2375|"+test.want)
				if took := time.Since(began); took > 20*time.Minute {
					t.Errorf("that took %s", took)
				}
				_ = api.Close()
				_ = server.Close()
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		})
	}
}

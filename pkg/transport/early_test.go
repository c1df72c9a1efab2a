package transport

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// listening is a server that counts its connections.
func listening(t *testing.T, start func(*httptest.Server)) (*url.URL, *atomic.Int32) {
	t.Helper()
	connections := new(atomic.Int32)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Proto))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	start(server)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u, connections
}

func TestConnect(t *testing.T) {
	t.Parallel()
	u, connections := listening(t, (*httptest.Server).Start)
	transport := New(ignore, zap.NewNop())
	transport.Connect(t.Context(), u)
	for range 2 {
		res, err := transport.RoundTrip(request(t, http.MethodGet, u.String(), nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want the one that was opened early", n)
	}
}

func TestConnectKeepsNothingStale(t *testing.T) {
	t.Parallel()
	u, _ := listening(t, (*httptest.Server).Start)
	transport := New(ignore, zap.NewNop())
	transport.Connect(t.Context(), u)
	o := transport.early.ready["http"+u.Host][0]
	<-o.done
	o.begun = o.begun.Add(-time.Hour)
	_ = o.conn.Close() // as a server does
	res, err := transport.RoundTrip(request(t, http.MethodGet, u.String(), nil))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

func TestConnectFails(t *testing.T) {
	t.Parallel()
	u, connections := listening(t, (*httptest.Server).Start)
	transport := New(ignore, zap.NewNop())
	for _, target := range []string{"ftp://" + u.Host, "http://127.0.0.1:1"} {
		dead, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		transport.Connect(t.Context(), dead)
	}
	// As if the first try had failed.
	failed := &opening{begun: time.Now(), done: make(chan struct{})}
	close(failed.done)
	transport.early.ready["http"+u.Host] = []*opening{failed}
	res, err := transport.RoundTrip(request(t, http.MethodGet, u.String(), nil))
	if err != nil || connections.Load() != 1 {
		t.Fatalf("%v, %d connections", err, connections.Load())
	}
	_ = res.Body.Close()
}

// TestConnectIsSafe: no connection is opened to where no request would go.
func TestConnectIsSafe(t *testing.T) {
	t.Parallel()
	transport := New(ignore, zap.NewNop())
	for _, target := range []string{"http://10.0.0.1/token", "http://registry.example", "ftp://localhost"} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		transport.Connect(t.Context(), u)
	}
	if n := len(transport.early.ready); n > 0 {
		t.Errorf("%d connections were opened", n)
	}
}

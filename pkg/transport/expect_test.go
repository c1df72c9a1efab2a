package transport

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestExpect: a host that leaves a question unanswered is asked no more; one that answers, and one that refuses, is.
func TestExpect(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		handler http.HandlerFunc
		asked   []string // Expect of two requests
	}{
		"answered": {
			func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
			[]string{"100-continue", "100-continue"},
		},
		"refused": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
			[]string{"100-continue", "100-continue"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Header.Get("Expect"))
				test.handler(w, r)
			}))
			defer s.Close()
			askTwice(t, s.URL)
			if strings.Join(asked, ",") != strings.Join(test.asked, ",") {
				t.Errorf("asked %q, want %q", asked, test.asked)
			}
		})
	}
	t.Run("unanswered", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		heard := make(chan string, 2)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				heard <- mute(conn)
			}
		}()
		askTwice(t, "http://"+listener.Addr().String())
		if first, second := <-heard, <-heard; !strings.Contains(first, "Expect: 100-continue") ||
			strings.Contains(second, "Expect") {
			t.Errorf("the requests were %q and %q", first, second)
		}
	})
}

// mute reads one request to its end, then answers it.
func mute(conn net.Conn) string {
	defer func() { _ = conn.Close() }()
	var text strings.Builder
	for buffer := make([]byte, 1024); !strings.HasSuffix(text.String(), "body"); {
		n, err := conn.Read(buffer)
		if err != nil {
			break
		}
		text.Write(buffer[:n])
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	return text.String()
}

// askTwice sends a body to url twice, each time with the request to wait for 100 Continue first.
func askTwice(t *testing.T, url string) {
	t.Helper()
	base := &http.Transport{ExpectContinueTimeout: 100 * time.Millisecond}
	defer base.CloseIdleConnections()
	carry := expect{base, new(sync.Map)}
	for range 2 {
		req := request(t, http.MethodPatch, url, strings.NewReader("body"))
		req.Header.Set("Expect", "100-continue")
		res, err := carry.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
}

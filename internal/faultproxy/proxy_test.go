package faultproxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/internal/faultproxy"
)

// start returns a proxy of a server that answers each connection with what it is sent.
func start(t *testing.T) *faultproxy.Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	proxy, err := faultproxy.Start(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	return proxy
}

// dial connects to the proxy. The connection times out after a minute and is closed when the test ends.
func dial(t *testing.T, proxy *faultproxy.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// echo sends data and returns what came back until it was complete or the connection ended.
func echo(c net.Conn, data []byte) ([]byte, error) {
	go func() { _, _ = c.Write(data) }()
	back := make([]byte, len(data))
	n, err := io.ReadFull(c, back)
	return back[:n], err
}

func TestPass(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 20_000)
	for name, faults := range map[string][]faultproxy.Fault{
		"nothing":   nil,
		"latency":   {{Kind: faultproxy.Latency, Time: time.Millisecond, Jitter: time.Millisecond}},
		"bandwidth": {{Kind: faultproxy.Bandwidth, Bytes: 4_000_000}},
		"slices":    {{Kind: faultproxy.Slices, Bytes: 7777, Time: time.Microsecond, Downstream: true}},
		"limit":     {{Kind: faultproxy.Limit, Bytes: len(data) + 1}},
		"several": {
			{Kind: faultproxy.Slices, Bytes: 7777}, {Kind: faultproxy.Latency, Downstream: true}, {Kind: faultproxy.SlowClose},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := start(t)
			for _, fault := range faults {
				defer proxy.Add(fault)()
			}
			back, err := echo(dial(t, proxy), data)
			if err != nil || !bytes.Equal(back, data) {
				t.Errorf("%d of %d bytes came back: %v", len(back), len(data), err)
			}
		})
	}
}

func TestBreak(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 20_000)
	for name, test := range map[string]struct {
		fault faultproxy.Fault
		bytes int
		reset bool
	}{
		"limit of the server's": {fault: faultproxy.Fault{Kind: faultproxy.Limit, Bytes: 12_345, Downstream: true},
			bytes: 12_345},
		"limit of nothing": {fault: faultproxy.Fault{Kind: faultproxy.Limit}},
		"silence":          {fault: faultproxy.Fault{Kind: faultproxy.Silence, Time: time.Millisecond}},
		"reset":            {fault: faultproxy.Fault{Kind: faultproxy.Reset}, reset: true},
		"late reset": {fault: faultproxy.Fault{Kind: faultproxy.Reset, Time: time.Millisecond, Downstream: true},
			reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := start(t)
			defer proxy.Add(test.fault)()
			back, err := echo(dial(t, proxy), data)
			if err == nil || len(back) != test.bytes || !bytes.Equal(back, data[:len(back)]) {
				t.Errorf("%d bytes came back, want %d; %v", len(back), test.bytes, err)
			}
			if test.reset && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the connection ended with %v, want a reset", err)
			}
		})
	}
}

// TestOpenConnections: a fault meets the connections that are open, and ends when it is removed.
func TestOpenConnections(t *testing.T) {
	t.Parallel()
	proxy := start(t)
	c := dial(t, proxy)
	if _, err := echo(c, []byte("before")); err != nil {
		t.Fatal(err)
	}
	remove := proxy.Add(faultproxy.Fault{Kind: faultproxy.Silence, Downstream: true})
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	remove()
	remove()
	if back, err := echo(dial(t, proxy), []byte("after")); err != nil || string(back) != "after" {
		t.Errorf("%q came back, %v", back, err)
	}
}

// TestStuckConnections: faults come and go, and the proxy closes, while clients neither read nor end their
// connections.
func TestStuckConnections(t *testing.T) {
	t.Parallel()
	proxy := start(t)
	data := make([]byte, 16<<20) // more than the system's buffers take
	var wg sync.WaitGroup
	for range 8 {
		c := dial(t, proxy)
		wg.Go(func() { _, _ = c.Write(data) })
	}
	for range 100 {
		for _, fault := range []faultproxy.Fault{
			{Kind: faultproxy.Bandwidth, Bytes: 1000}, {Kind: faultproxy.Silence}, {Kind: faultproxy.Latency, Downstream: true},
		} {
			defer proxy.Add(fault)()
			proxy.Add(fault)()
		}
	}
	proxy.Close()
	wg.Wait()
}

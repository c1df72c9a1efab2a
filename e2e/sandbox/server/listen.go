package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// listen returns n listeners: on the address and the ports after it, or, when its port is 0, on n free ports.
func listen(addr string, n int) ([]net.Listener, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("the sandbox's address %q isn't host:port: %w", addr, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the sandbox's address %q has no port number: %w", addr, err)
	}
	var listeners []net.Listener
	for i := range n {
		listener, err := listenLoopback(host, nth(int(port), i))
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

// nth returns the port of the server i, counted from port; 0, a free one, stays 0.
func nth(port, i int) int {
	if port == 0 {
		return 0
	}
	return port + i
}

// listenLoopback refuses every address but 127.0.0.1: the sandbox speaks plain HTTP and hands out tokens, and its realm
// is named localhost.
func listenLoopback(host string, port int) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("the sandbox can't listen: %w", err)
	}
	if addr, ok := listener.Addr().(*net.TCPAddr); !ok || !addr.IP.Equal(net.IPv4(127, 0, 0, 1)) {
		closeAll([]net.Listener{listener})
		return nil, fmt.Errorf("the sandbox listens on 127.0.0.1 only, not on %q", host)
	}
	return listener, nil
}

// closeAll closes the listeners.
func closeAll(listeners []net.Listener) {
	for _, listener := range listeners {
		_ = listener.Close()
	}
}

// serve answers on the listener until Close, recording each request under the server's name.
func (s *Server) serve(listener net.Listener, name string, handler http.Handler) {
	server := &http.Server{Handler: s.observe(name, handler), ReadHeaderTimeout: time.Minute}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(listener) }()
}

// Package faultproxy disturbs TCP connections on purpose, for tests of what a client does then.
//
// A [Proxy] forwards connections to one address. A [Fault] can be added at any time and meets the connections that are
// open as well as new ones. Adding and removing never waits for a connection, so a test can do both from within a
// handler of the server that it disturbs.
package faultproxy

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Kind says what a fault does to the bytes of a connection.
type Kind string

// The kinds of faults.
const (
	// Latency delays each read's bytes by Fault.Time and up to Fault.Jitter more.
	Latency Kind = "latency"
	// Bandwidth passes at most Fault.Bytes a second on each connection.
	Bandwidth Kind = "bandwidth"
	// Slices passes at most Fault.Bytes at once and pauses for Fault.Time between two slices.
	Slices Kind = "slices"
	// Reset resets the connection Fault.Time after the next byte arrives.
	Reset Kind = "reset"
	// Silence passes nothing and closes the connection after Fault.Time, or, if that is 0, when the fault is removed.
	Silence Kind = "silence"
	// Limit closes the connection after Fault.Bytes more bytes.
	Limit Kind = "limit"
	// SlowClose waits for Fault.Time before it passes on that one side closed the connection.
	SlowClose Kind = "slow close"
)

// Fault disturbs one direction of a proxy's connections.
type Fault struct {
	Kind         Kind
	Downstream   bool          // disturbs what the server sends; otherwise, what the client sends
	Time, Jitter time.Duration // see Kind
	Bytes        int           // see Kind
}

// Proxy forwards connections to one address until it is closed.
type Proxy struct {
	listener net.Listener
	upstream string
	wg       sync.WaitGroup

	mu     sync.Mutex
	faults []*active
	open   map[*connection]bool // nil once the proxy is closed
}

// active is a fault that was added. Its channel is closed when the fault is removed.
type active struct {
	Fault

	removed chan struct{}
}

// connection is a client's connection and the one to the server that belongs to it.
type connection struct {
	client, server net.Conn
	once           sync.Once
	closed         chan struct{}
}

// Start returns a proxy that listens on a free port of 127.0.0.1 and forwards to upstream, a host and port.
func Start(upstream string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed by Close
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, upstream: upstream, open: map[*connection]bool{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr returns the host and port at which the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close closes the proxy and all its connections, and returns when they are closed.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	open := p.open
	p.open = nil
	p.mu.Unlock()
	for c := range open {
		c.close()
	}
	p.wg.Wait()
}

// Add disturbs all connections until remove is called, which may be called twice.
func (p *Proxy) Add(fault Fault) (remove func()) {
	added := &active{Fault: fault, removed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(slices.Clip(p.faults), added)
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = slices.DeleteFunc(slices.Clone(p.faults), func(f *active) bool { return f == added })
		close(added.removed)
	})
}

// current returns the faults that disturb a direction now, in the order in which they were added.
func (p *Proxy) current(downstream bool) []*active {
	p.mu.Lock()
	defer p.mu.Unlock()
	var current []*active
	for _, fault := range p.faults {
		if fault.Downstream == downstream {
			current = append(current, fault)
		}
	}
	return current
}

// accept forwards each connection of a client until the listener closes.
func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(client) })
	}
}

// forward connects a client to the server and returns when either side has closed its connection.
func (p *Proxy) forward(client net.Conn) {
	server, err := net.Dial("tcp", p.upstream) //nolint:noctx // answers or refuses at once on this machine
	if err != nil {
		_ = client.Close()
		return
	}
	c := &connection{client: client, server: server, closed: make(chan struct{})}
	p.mu.Lock()
	stopped := p.open == nil
	if !stopped {
		p.open[c] = true
	}
	p.mu.Unlock()
	if stopped {
		c.close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(c, client, server, false) })
	both.Go(func() { p.carry(c, server, client, true) })
	both.Wait()
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
}

// carry passes on what one side sends until that side closes its connection or a fault does. Then it closes both.
func (p *Proxy) carry(c *connection, from, to net.Conn, downstream bool) {
	defer c.close()
	passed := map[*active]int{} // bytes, for faults of the kind Limit
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !p.pass(c, to, buffer[:n], p.current(downstream), passed) {
			return
		}
		if err == nil {
			continue
		}
		for _, fault := range p.current(downstream) {
			if fault.Kind == SlowClose && !errors.Is(err, net.ErrClosed) {
				c.sleep(fault.Time, nil)
			}
		}
		return
	}
}

// pass writes data as the faults allow. It reports whether the connection goes on.
func (p *Proxy) pass(c *connection, to net.Conn, data []byte, faults []*active, passed map[*active]int) bool {
	size, pause, last := len(data), time.Duration(0), false
	for _, fault := range faults {
		switch fault.Kind {
		case Latency:
			wait := fault.Time
			if fault.Jitter > 0 {
				wait += rand.N(fault.Jitter) //nolint:gosec // no secret
			}
			c.sleep(wait, nil)
		case Bandwidth:
			size = min(size, max(1, fault.Bytes/10))
			pause += time.Duration(size) * time.Second / time.Duration(max(1, fault.Bytes))
		case Slices:
			size, pause = min(size, max(1, fault.Bytes)), pause+fault.Time
		case Reset:
			c.sleep(fault.Time, nil)
			c.reset()
			return false
		case Silence:
			c.sleep(fault.Time, fault.removed)
			return false
		case Limit:
			left := max(0, fault.Bytes-passed[fault])
			last = last || left <= len(data)
			data = data[:min(left, len(data))]
			passed[fault] += len(data)
		case SlowClose:
		}
	}
	for len(data) > 0 {
		piece := data[:min(size, len(data))]
		data = data[len(piece):]
		c.sleep(pause, nil)
		if _, err := to.Write(piece); err != nil {
			return false
		}
	}
	return !last
}

// sleep returns after a time, or earlier when the connection closes. With until, a time of 0 has no end, and a closed
// until ends it, too.
func (c *connection) sleep(d time.Duration, until <-chan struct{}) {
	if d == 0 && until == nil {
		return
	}
	var passed <-chan time.Time
	if d > 0 {
		passed = time.After(d)
	}
	select {
	case <-passed:
	case <-until:
	case <-c.closed:
	}
}

// close closes both sides. Later calls do nothing.
func (c *connection) close() {
	c.once.Do(func() {
		close(c.closed)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}

// reset makes both sides see a reset instead of the connection's end.
func (c *connection) reset() {
	for _, side := range []net.Conn{c.client, c.server} {
		if tcp, ok := side.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	c.close()
}

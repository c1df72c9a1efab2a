package main

import (
	"net"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
)

// link is the network between this machine and Charmhub. The zero value is
// loopback itself.
type link struct {
	rtt      time.Duration
	rate     float64 // bytes a second each way, for all connections together; 0 for no limit
	up, down lane
}

// String is the condition that a table names.
func (l *link) String() string {
	text := "loopback"
	if l.rtt > 0 {
		text += " with round trips of " + l.rtt.String()
	}
	if l.rate > 0 {
		text += ", " + humanize.Bytes(uint64(l.rate)) + "/s each way"
	}
	return text
}

// before puts the link before the server at addr, and returns the listener at which
// clients find it from now on, until that closes.
func (l *link) before(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // listening on loopback doesn't wait
	if err != nil {
		return nil, err
	}
	go func() {
		for client, err := listener.Accept(); err == nil; client, err = listener.Accept() {
			go l.carry(client.(*net.TCPConn), addr)
		}
	}()
	return listener, nil
}

// carry carries one connection until both sides have ended it.
func (l *link) carry(client *net.TCPConn, addr string) {
	defer func() { _ = client.Close() }()
	open := time.Now().Add(2 * l.rtt)
	conn, err := net.Dial("tcp", addr) //nolint:noctx // neither does connecting there
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	server := conn.(*net.TCPConn)
	var ways sync.WaitGroup
	ways.Go(func() { l.pipe(server, client, &l.up, open) })
	ways.Go(func() { l.pipe(client, server, &l.down, open) })
	ways.Wait()
}

// pipe carries bytes one way. None leaves before the connection is open; each
// arrives half a round trip after the lane let it through.
func (l *link) pipe(to, from *net.TCPConn, through *lane, open time.Time) {
	type chunk struct {
		bytes []byte
		due   time.Time
	}
	chunks := make(chan chunk, 1024) // on the way
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				time.Sleep(time.Until(open))
				through.wait(n, l.rate)
				chunks <- chunk{buffer[:n], time.Now().Add(l.rtt / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range chunks {
		time.Sleep(time.Until(c.due))
		if _, err := to.Write(c.bytes); err != nil {
			_ = from.Close() // ends the loop above; what is on the way is lost
		}
	}
	_ = to.CloseWrite()
}

// lane is one direction of a link.
type lane struct {
	mu   sync.Mutex
	free time.Time
}

// wait returns when n bytes have passed, after those that came before.
func (l *lane) wait(n int, rate float64) {
	if rate == 0 {
		return
	}
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / rate * float64(time.Second)))
	passed := l.free
	l.mu.Unlock()
	time.Sleep(time.Until(passed))
}

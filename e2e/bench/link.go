package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/time/rate"
)

// link is the network between this machine and Charmhub's servers: a round trip,
// and a rate each way that all connections share.
type link struct {
	rtt      time.Duration
	up, down *rate.Limiter // bytes a second
}

// newLink returns a link with a round trip of rtt and a rate of bytesPerSecond in each direction. A rate of 0 is
// unlimited.
func newLink(rtt time.Duration, bytesPerSecond uint64) *link {
	limit := rate.Inf
	if bytesPerSecond > 0 {
		limit = rate.Limit(bytesPerSecond)
	}
	const burst = 256 << 10 // makes up for a timer that rings late
	return &link{rtt, rate.NewLimiter(limit, burst), rate.NewLimiter(limit, burst)}
}

// loopback is the link that does nothing.
const loopback = "loopback"

// String is the condition that a table names.
func (l *link) String() string {
	text := loopback
	if l.rtt > 0 {
		text = fmt.Sprintf("%v ms", l.rtt.Seconds()*1e3)
	}
	if l.up.Limit() != rate.Inf {
		text += ", " + humanize.Bytes(uint64(l.up.Limit())) + "/s"
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

// carry carries one connection until both sides have ended it. The first two
// round trips pass as TCP and TLS need them.
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
	ways.Go(func() { l.pipe(server, client, l.up, open) })
	ways.Go(func() { l.pipe(client, server, l.down, open) })
	ways.Wait()
}

// pipe carries bytes one way. None leaves before the connection is open; each
// arrives half a round trip after the rate let it through.
//
// The servers have no TLS. Some tools try it first on any registry: they get the
// answer of Go's servers at once, or each would pay three round trips for what is
// part of a connection's opening where a registry has TLS.
func (l *link) pipe(to, from *net.TCPConn, limit *rate.Limiter, open time.Time) {
	const tlsHandshake = 0x16 // the first byte that a client sends over TLS
	type chunk struct {
		bytes []byte
		due   time.Time
	}
	chunks := make(chan chunk, 1024) // on the way
	go func() {
		defer close(chunks)
		for first := true; ; first = false {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if first && buffer[0] == tlsHandshake {
				_, _ = from.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
				_ = from.Close()
				return
			}
			time.Sleep(time.Until(open))
			_ = limit.WaitN(context.Background(), n)
			chunks <- chunk{buffer[:n], time.Now().Add(l.rtt / 2)}
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

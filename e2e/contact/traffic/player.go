package traffic

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Player answers requests as it was recorded, whatever host they are for: those of the same method and URL in their
// order, and the last one for ever. The zero Player knows no answer.
type Player struct {
	mu      sync.Mutex
	answers map[string][]Exchange
}

// NewPlayer returns a player of recorded exchanges. A text without its secrets has another SHA-256: where an answer
// names the digest of such a text, the player names that of the text that it gives.
func NewPlayer(exchanges []Exchange) *Player {
	var digests []string
	for _, e := range exchanges {
		digest := sha256.Sum256([]byte(e.Response.Body))
		if now := hex.EncodeToString(digest[:]); e.Response.Body != "" && e.Response.SHA256 != "" &&
			e.Response.SHA256 != now {
			digests = append(digests, e.Response.SHA256, now)
		}
	}
	now := strings.NewReplacer(digests...)
	p := &Player{answers: map[string][]Exchange{}}
	for _, e := range exchanges {
		e.Response.Body = now.Replace(e.Response.Body)
		key := e.Method + " " + e.URL
		p.answers[key] = append(p.answers[key], e)
	}
	return p
}

// RoundTrip gives the next answer to a request.
func (p *Player) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := req.Method + " " + req.URL.String()
	answers := p.answers[key]
	if len(answers) == 0 {
		return nil, fmt.Errorf("no answer to %s was recorded", key)
	}
	if len(answers) > 1 {
		p.answers[key] = answers[1:]
	}
	e := answers[0]
	if e.Status == 0 {
		return nil, errors.New(e.Failure)
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)), StatusCode: e.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: e.Response.Header.Clone(), Body: io.NopCloser(strings.NewReader(e.Response.Body)),
		ContentLength: int64(len(e.Response.Body)),
	}, nil
}

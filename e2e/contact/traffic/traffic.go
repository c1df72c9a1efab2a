// Package traffic records the requests of a client with their answers, without the secrets in them, and plays recorded
// answers back.
package traffic

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Exchange is a request and its answer. Secrets are replaced by words of the same length.
type Exchange struct {
	Method   string        `json:"method"`
	URL      string        `json:"url"`
	Request  Message       `json:"request"`
	Status   int           `json:"status"`            // 0 without an answer
	Failure  string        `json:"failure,omitempty"` // why there is none
	Response Message       `json:"response"`
	Took     time.Duration `json:"took"` // until the whole answer was there, in nanoseconds
}

// Message is a header and a body. A body that isn't a text is known by its size and digest alone.
type Message struct {
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body,omitempty"`
	Size   int64       `json:"size,omitempty"`
	SHA256 string      `json:"sha256,omitempty"` // of the body as it was, with its secrets
}

// keptText is how much of a text is kept, in bytes, and maxBody how much of a body is read.
const (
	keptText = 256 << 10
	maxBody  = 16 << 20
)

// Recorder sends requests by Base, and records them. It reads bodies and answers as a whole, so it isn't for large
// ones.
type Recorder struct {
	Base http.RoundTripper

	mu            sync.Mutex
	exchanges     []Exchange
	secrets       secrets
	authorization map[string]string
}

// Authorization returns the last header Authorization that a host was sent. It is a secret.
func (r *Recorder) Authorization(host string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.authorization[host]
}

// RoundTrip records what Base does.
func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	exchange := Exchange{Method: req.Method, URL: req.URL.String(), Request: Message{Header: req.Header.Clone()}}
	r.learn(req.Header, nil)
	r.remember(req)
	for name, values := range req.URL.Query() {
		if sensitive(name) {
			r.Hide(values...)
		}
	}
	if req.Body != nil && req.Body != http.NoBody {
		body, err := io.ReadAll(io.LimitReader(req.Body, maxBody))
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		exchange.Request.keep(body, req.Header.Get("Content-Type") == "application/json")
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	began := time.Now()
	res, err := r.Base.RoundTrip(req)
	if err == nil {
		err = exchange.read(res)
		r.learn(res.Header, []byte(exchange.Response.Body))
	}
	exchange.Took = time.Since(began)
	if err != nil {
		exchange.Failure = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = append(r.exchanges, exchange)
	return res, err
}

// remember keeps the request's Authorization as the last one of its host.
func (r *Recorder) remember(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if header := req.Header.Get("Authorization"); header != "" {
		if r.authorization == nil {
			r.authorization = map[string]string{}
		}
		r.authorization[req.URL.Host] = header
	}
}

// read reads an answer, which can be read again afterwards.
func (e *Exchange) read(res *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(body))
	e.Status, e.Response.Header = res.StatusCode, res.Header.Clone()
	e.Response.keep(body, utf8.Valid(body) && !bytes.ContainsRune(body, 0))
	return err
}

// keep stores the size and digest of a body, and the body itself if it is a short text.
func (m *Message) keep(body []byte, text bool) {
	if m.Size = int64(len(body)); m.Size == 0 {
		return
	}
	digest := sha256.Sum256(body)
	m.SHA256 = hex.EncodeToString(digest[:])
	if text && len(body) <= keptText {
		m.Body = string(body)
	}
}

// Hide adds secrets that must not be kept.
func (r *Recorder) Hide(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets.add(secrets...)
}

// learn finds the secrets in a header and in JSON.
func (r *Recorder) learn(header http.Header, body []byte) {
	if _, secret, ok := strings.Cut(header.Get("Authorization"), " "); ok {
		r.Hide(secret)
	}
	r.Hide(header.Values("Set-Cookie")...)
	if at, err := url.Parse(header.Get("Location")); err == nil {
		for name, values := range at.Query() {
			if sensitive(name) {
				r.Hide(values...)
			}
		}
	}
	var content any
	if json.Unmarshal(body, &content) == nil {
		r.Hide(secretsOf(content)...)
	}
}

// Exchanges returns what was recorded, without secrets.
func (r *Recorder) Exchanges() []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	hide := r.secrets.replacer()
	clean := make([]Exchange, len(r.exchanges))
	for i, e := range r.exchanges {
		e.URL, e.Failure = hide.Replace(e.URL), hide.Replace(e.Failure)
		e.Request.Body, e.Response.Body = hide.Replace(e.Request.Body), hide.Replace(e.Response.Body)
		e.Request.Header, e.Response.Header = cleanHeader(e.Request.Header, hide), cleanHeader(e.Response.Header, hide)
		clean[i] = e
	}
	return clean
}

// Clean returns a text without the secrets that are known by now.
func (r *Recorder) Clean(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.secrets.replacer().Replace(text)
}

// cleanHeader returns a copy of header without secrets.
func cleanHeader(header http.Header, hide *strings.Replacer) http.Header {
	clean := http.Header{}
	for name, values := range header {
		for _, value := range values {
			clean.Add(name, hide.Replace(value))
		}
	}
	return clean
}

// Write writes exchanges as lines of JSON.
func Write(w io.Writer, exchanges []Exchange) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, e := range exchanges {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

// Read reads what Write wrote.
func Read(r io.Reader) (exchanges []Exchange, err error) {
	decoder := json.NewDecoder(r)
	for {
		var e Exchange
		switch err := decoder.Decode(&e); {
		case err == io.EOF:
			return exchanges, nil
		case err != nil:
			return nil, fmt.Errorf("reading recorded traffic: exchange %d: %w", len(exchanges)+1, err)
		}
		exchanges = append(exchanges, e)
	}
}

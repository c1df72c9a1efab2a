package blobupload

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"
)

const repository = "/v2/some/repository/blobs/"

// fakeRegistry stores blobs in memory. It keeps what it was sent of a request that broke, as distribution 3 does.
type fakeRegistry struct {
	*httptest.Server
	forgets bool // an upload in which a request broke, as distribution 2 does
	// spoil is called with each request first; true means that it answered.
	spoil func(w http.ResponseWriter, r *fakeRequest) bool
	// minimum is announced as the size of the smallest chunk.
	minimum string

	mu       sync.Mutex
	uploads  map[string][]byte // by path
	blobs    map[string][]byte // by digest
	requests []*fakeRequest

	written atomic.Int64 // bytes that clients wrote to their connections
}

// fakeRequest is a request with what came of it.
type fakeRequest struct {
	*http.Request
	received atomic.Int64 // bytes of its body
}

// newFake starts a registry without blobs, which stops when the test ends.
func newFake(t *testing.T) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{uploads: map[string][]byte{}, blobs: map[string][]byte{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.Start()
	t.Cleanup(f.Close)
	return f
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(r.Context()) // a copy: net/http looks at its own request's body again
	request := &fakeRequest{Request: r}
	r.Body = countedBody{r.Body, request}
	f.mu.Lock()
	f.requests = append(f.requests, request)
	f.mu.Unlock()
	if f.spoil != nil && f.spoil(w, request) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handle(w, r)
}

// countedBody is a request's body that counts what is read of it.
type countedBody struct {
	io.ReadCloser
	request *fakeRequest
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.request.received.Add(int64(n))
	return n, err
}

// handle answers a request as the distribution specification says.
func (f *fakeRegistry) handle(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	content, known := f.uploads[path]
	switch {
	case r.Method == http.MethodHead:
		if _, has := f.blobs[strings.TrimPrefix(path, repository)]; !has {
			w.WriteHeader(http.StatusNotFound)
		}
	case r.Method == http.MethodPost:
		if _, has := f.blobs[r.URL.Query().Get("mount")]; has {
			w.WriteHeader(http.StatusCreated)
			return
		}
		path = fmt.Sprint(repository, "uploads/", len(f.requests))
		f.uploads[path] = []byte{}
		if f.minimum != "" {
			w.Header().Set("OCI-Chunk-Min-Length", f.minimum)
		}
		accept(w, path, nil, http.StatusAccepted)
	case !known:
		refuse(w, http.StatusNotFound, registryTransport.BlobUploadUnknownErrorCode)
	case r.Method == http.MethodGet:
		accept(w, path, content, http.StatusNoContent)
	case r.Method == http.MethodPatch && !strings.HasPrefix(r.Header.Get("Content-Range"), fmt.Sprint(len(content), "-")):
		refuse(w, http.StatusRequestedRangeNotSatisfiable, registryTransport.BlobUploadInvalidErrorCode)
	default:
		more, err := io.ReadAll(r.Body)
		f.uploads[path] = append(content, more...)
		switch {
		case err != nil && f.forgets:
			delete(f.uploads, path)
			fallthrough
		case err != nil:
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodPatch:
			accept(w, path, f.uploads[path], http.StatusAccepted)
		default:
			f.store(w, path, r.URL.Query().Get("digest"))
		}
	}
}

// store ends an upload. It keeps the bytes as a blob if they have the digest.
func (f *fakeRegistry) store(w http.ResponseWriter, path, digest string) {
	content := f.uploads[path]
	delete(f.uploads, path)
	if got, _, err := v1.SHA256(bytes.NewReader(content)); err != nil || got.String() != digest {
		refuse(w, http.StatusBadRequest, registryTransport.DigestInvalidErrorCode)
		return
	}
	f.blobs[digest] = content
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

// accept answers that an upload goes on at the location and has the content so far.
func accept(w http.ResponseWriter, location string, content []byte, status int) {
	w.Header().Set("Location", location+"?_state=secret")
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(len(content)-1, 0)))
	w.WriteHeader(status)
}

// refuse answers with an error of the code. It returns true, for tests that handle a request with it.
func refuse(w http.ResponseWriter, status int, code registryTransport.ErrorCode) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"a test said so"}]}`, code)
	return true
}

// cut lets the registry have so many bytes of a request's body, then breaks the connection.
func (f *fakeRegistry) cut(r *fakeRequest, n int64) {
	r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, n), brokenBody{}))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handle(httptest.NewRecorder(), r.Request)
}

// brokenBody is a body that can't be read.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// log returns the requests that came, as "METHOD bytes received", and forgets them.
func (f *fakeRegistry) log() (requests []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		requests = append(requests, fmt.Sprint(r.Method, " ", r.received.Load()))
	}
	f.requests = nil
	return requests
}

// received returns the bytes of bodies that came.
func (f *fakeRegistry) received() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		n += r.received.Load()
	}
	return n
}

// has reports whether the registry has stored the blob.
func (f *fakeRegistry) has(b Blob) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, has := f.blobs[b.Descriptor.Digest.String()]
	return has
}

// destination is the fake for senders. Pauses are recorded, not made.
type destination struct {
	Destination
	pauses   []time.Duration
	progress int64
}

// destination returns a destination at the registry, which notes its pauses without pausing.
func (f *fakeRegistry) destination(t *testing.T) *destination {
	t.Helper()
	base := &http.Transport{
		ExpectContinueTimeout: 10 * time.Second,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return writtenConn{conn, f}, err
		},
	}
	t.Cleanup(base.CloseIdleConnections)
	d := &destination{}
	d.Destination = Destination{
		Uploads: f.URL + repository + "uploads/", Hosts: new(Hosts), Do: doer(base), Log: zap.NewNop(),
		Has: func(ctx context.Context, blob v1.Descriptor) (bool, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodHead, f.URL+repository+blob.Digest.String(), nil)
			if err != nil {
				return false, err
			}
			_, err = doer(base)(req, http.StatusOK)
			return err == nil, err
		},
		Wait: func(ctx context.Context, pause time.Duration) error {
			d.pauses = append(d.pauses, pause)
			return ctx.Err()
		},
	}
	return d
}

// send sends a blob and counts its progress.
func (d *destination) send(t *testing.T, b Blob) (Sent, error) {
	t.Helper()
	d.progress = 0
	return d.Send(t.Context(), b, func(n int64) { d.progress += n })
}

// mustSend sends a blob, and fails the test on an error or a progress other than its size.
func (d *destination) mustSend(t *testing.T, b Blob) {
	t.Helper()
	if _, err := d.send(t, b); err != nil {
		t.Fatal(err)
	}
	if d.progress != b.Descriptor.Size {
		t.Errorf("progress of %d bytes, want %d", d.progress, b.Descriptor.Size)
	}
}

// doer returns a function that sends a request over a transport. It fails for a status that isn't expected.
func doer(over http.RoundTripper) func(*http.Request, ...int) (Head, error) {
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: over, CheckRedirect: noRedirects}
	return func(req *http.Request, statuses ...int) (Head, error) {
		res, err := client.Do(req)
		if err != nil {
			return Head{}, err
		}
		defer func() { _ = res.Body.Close() }()
		if err := registryTransport.CheckError(res, statuses...); err != nil {
			return Head{res}, err
		}
		_, err = io.Copy(io.Discard, res.Body)
		return Head{res}, err
	}
}

// writtenConn is a connection that tells the fake registry what is written to it.
type writtenConn struct {
	net.Conn
	fake *fakeRegistry
}

func (c writtenConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.fake.written.Add(int64(n))
	return n, err
}

// noise returns n bytes that look random.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// sources are how a blob can be read: a file can be sought in, a stream is opened again.
var sources = map[string]func(content []byte) io.ReadCloser{
	"file": func(content []byte) io.ReadCloser {
		return struct {
			io.ReadSeeker
			io.Closer
		}{bytes.NewReader(content), io.NopCloser(nil)}
	},
	"stream": func(content []byte) io.ReadCloser {
		return io.NopCloser(struct{ io.Reader }{bytes.NewReader(content)})
	},
}

// newBlob returns a blob whose bytes are read from a source.
func newBlob(t *testing.T, content []byte, source func([]byte) io.ReadCloser) Blob {
	t.Helper()
	digest, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return Blob{
		Descriptor: v1.Descriptor{MediaType: types.OCILayer, Digest: digest, Size: size},
		Open:       func() (io.ReadCloser, error) { return source(content), nil },
	}
}

// hostOf returns what was learned of the registry.
func (d *destination) hostOf(t *testing.T) *host {
	t.Helper()
	at, err := url.Parse(d.Uploads)
	if err != nil {
		t.Fatal(err)
	}
	return d.Hosts.of(at.Host)
}

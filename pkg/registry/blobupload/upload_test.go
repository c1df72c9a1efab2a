package blobupload

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry/layercheck"
)

const mb = 1 << 20

// TestRequests: a sound host gets one request with the whole blob, a careful one chunks, neither more than fits.
func TestRequests(t *testing.T) {
	t.Parallel()
	type learned struct {
		careful bool
		limit   int64
		minimum string
	}
	chunks := func(n int, size int) []string { return slices.Repeat([]string{fmt.Sprint("PATCH ", size)}, n) }
	for name, test := range map[string]struct {
		size    int
		learned learned
		want    []string // between POST and PUT, and the PUT
	}{
		"empty":                        {0, learned{}, []string{"PUT 0"}},
		"a byte":                       {1, learned{}, []string{"PUT 1"}},
		"small":                        {mb, learned{}, []string{"PUT 1048576"}},
		"larger":                       {mb + 1, learned{}, []string{"PATCH 1048577", "PUT 0"}},
		"large":                        {40 * mb, learned{}, append(chunks(1, 40*mb), "PUT 0")},
		"large, with a smallest chunk": {9 * mb, learned{minimum: "6291456"}, append(chunks(1, 9*mb), "PUT 0")},
		"small, careful":               {mb, learned{careful: true}, []string{"PUT 1048576"}},
		"careful":                      {12 * mb, learned{careful: true}, append(chunks(3, 4*mb), "PUT 0")},
		"careful, smallest chunk": {9 * mb, learned{careful: true, minimum: "6291456"},
			[]string{"PATCH 6291456", "PATCH 3145728", "PUT 0"}},
		"careful, a large smallest one": {80 * mb, learned{careful: true, minimum: "52428800"},
			[]string{"PATCH 52428800", "PATCH 31457280", "PUT 0"}},
		"limited":                 {5 * mb, learned{limit: 2 * mb}, append(chunks(2, 2*mb), "PATCH 1048576", "PUT 0")},
		"small, limited":          {mb, learned{limit: mb / 2}, append(chunks(2, mb/2), "PUT 0")},
		"small, within the limit": {mb, learned{limit: mb}, []string{"PUT 1048576"}},
		"careful and limited":     {6 * mb, learned{careful: true, limit: 3 * mb}, append(chunks(2, 3*mb), "PUT 0")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.minimum = test.learned.minimum
			d := f.destination(t)
			d.hostOf(t).careful.Store(test.learned.careful)
			d.hostOf(t).limit.Store(test.learned.limit)
			d.mustSend(t, newBlob(t, noise(test.size), sources["stream"]))
			if diff := cmp.Diff(append([]string{"POST 0"}, test.want...), f.log()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBreaks: after a broken connection a blob goes on in chunks. A registry that keeps what arrived is sent nothing
// twice; one that forgets the upload is sent the blob again, as long as bytes get through.
func TestBreaks(t *testing.T) {
	t.Parallel()
	const size = 40 * mb
	for name, test := range map[string]struct {
		forgets bool
		at      []int64 // of the bytes that arrived, over all uploads
		most    int64   // bytes that arrive in the end
	}{
		"kept": {false, []int64{36 * mb}, size},
		"kept, 10 times": {false,
			[]int64{mb, 3 * mb, 7 * mb, 11 * mb, 15 * mb, 19 * mb, 23 * mb, 27 * mb, 31 * mb, 35 * mb}, size},
		"forgotten": {true, []int64{36 * mb}, size + 36*mb},
		"forgotten, 10 times": {
			true, []int64{mb, 2 * mb, 3 * mb, 4 * mb, 5 * mb, 6 * mb, 7 * mb, 8 * mb, 9 * mb, 10 * mb}, size + 10*mb,
		},
	} {
		for kind, source := range sources {
			t.Run(name+", from a "+kind, func(t *testing.T) {
				t.Parallel()
				f := newFake(t)
				f.forgets = test.forgets
				left := test.at
				f.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
					if before := f.received(); r.Method == http.MethodPatch && len(left) > 0 && before+r.ContentLength > left[0] {
						n := left[0] - before
						left = left[1:]
						f.cut(r, n)
					}
					return false
				}
				d := f.destination(t)
				b := newBlob(t, noise(size), source)
				d.mustSend(t, b)
				if !f.has(b) || len(left) > 0 || len(d.pauses) != len(test.at) {
					t.Errorf("stored: %t; %d breaks are left; %d pauses", f.has(b), len(left), len(d.pauses))
				}
				if got := f.received(); got > test.most {
					t.Errorf("%d bytes arrived, want %d", got, test.most)
				}
				if over := f.written.Load() - test.most; over > int64(len(test.at))*(4*mb)+36*mb {
					t.Errorf("%d bytes were written beyond those that arrived", over)
				}
				if !d.hostOf(t).careful.Load() {
					t.Error("the host isn't treated with care")
				}
			})
		}
	}
}

// TestCarefulForOneHost: what one host can't do is nothing against others.
func TestCarefulForOneHost(t *testing.T) {
	t.Parallel()
	broken, sound := newFake(t), newFake(t)
	var once atomic.Bool
	broken.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
		if r.Method == http.MethodPatch && !once.Swap(true) {
			broken.cut(r, 5*mb)
		}
		return false
	}
	first, second := broken.destination(t), sound.destination(t)
	second.Hosts = first.Hosts
	b := newBlob(t, noise(9*mb), sources["file"])
	first.mustSend(t, b)
	broken.log()
	first.mustSend(t, b)
	second.mustSend(t, b)
	if got := broken.log(); len(got) != 5 {
		t.Errorf("the broken host was sent %q, want three chunks", got)
	}
	if got := sound.log(); len(got) != 3 {
		t.Errorf("the sound host was sent %q, want one PATCH", got)
	}
}

// TestProgressEarnsTries: as long as every try brings the registry some bytes, there is another.
func TestProgressEarnsTries(t *testing.T) {
	t.Parallel()
	for _, size := range []int{mb, 2 * mb} {
		f := newFake(t)
		f.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
			if r.ContentLength > 1000 {
				f.cut(r, r.ContentLength/2)
			}
			return false
		}
		d := f.destination(t)
		d.mustSend(t, newBlob(t, noise(size), sources["file"]))
		if len(d.pauses) <= 8 { // as many as there are without progress
			t.Errorf("%d pauses, the test proves nothing", len(d.pauses))
		}
	}
}

// TestTooLarge: a request that doesn't fit is halved until it does; later blobs know. Only the first one that is
// refused brings bytes.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	const size, largest = 40 * mb, 3 * mb
	f := newFake(t)
	f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
		if r.ContentLength <= largest {
			return false
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	}
	d := f.destination(t)
	d.mustSend(t, newBlob(t, noise(size), sources["stream"]))
	var refused, asked int
	f.mu.Lock()
	for _, r := range f.requests {
		if r.ContentLength > largest {
			refused++
			if r.Header.Get("Expect") != "" {
				asked++
			}
		}
	}
	f.mu.Unlock()
	if refused != 5 || asked != 4 { // 40, 32, 16, 8 and 4
		t.Errorf("%d requests were refused, %d asked before they sent bytes; want 5, 4", refused, asked)
	}
	if limit := d.hostOf(t).limit.Load(); limit != 2*mb || d.hostOf(t).careful.Load() {
		t.Errorf("the limit is %d, want 2 MiB and no care beyond that", limit)
	}
	f.log()
	d.mustSend(t, newBlob(t, noise(4*mb), sources["stream"]))
	if diff := cmp.Diff([]string{"POST 0", "PATCH 2097152", "PATCH 2097152", "PUT 0"}, f.log()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestSmallBlobTooLarge: a front may refuse even what is small.
func TestSmallBlobTooLarge(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
		if r.ContentLength <= 300_000 {
			return false
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	}
	d := f.destination(t)
	d.mustSend(t, newBlob(t, noise(900_000), sources["stream"]))
	want := []string{
		"POST 0", "PUT 0", "HEAD 0", "PATCH 0", "PATCH 262144", "PATCH 262144", "PATCH 262144", "PATCH 113568", "PUT 0",
	}
	if diff := cmp.Diff(want, f.log()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestTokens: a token that may expire is offered before bytes are sent. Refused when all was sent, a blob goes on in
// chunks, which are short enough.
func TestTokens(t *testing.T) {
	t.Parallel()
	const size = 20 * mb
	unauthorized := func(r *fakeRequest) bool {
		return r.Method == http.MethodPatch && r.Header.Get("Authorization") == ""
	}
	for name, test := range map[string]struct {
		expires, late bool
		twice         int64 // bytes that are sent twice
	}{
		"offered":              {true, false, 0},
		"refused late":         {false, true, size},
		"offered, but refused": {true, true, size},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
				if !unauthorized(r) {
					return false
				}
				if test.late {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				return refuse(w, http.StatusUnauthorized, registryTransport.UnauthorizedErrorCode)
			}
			d := f.destination(t)
			d.TokenExpires = func() bool { return test.expires }
			var renewed atomic.Bool
			send := d.Do
			d.Do = func(req *http.Request, statuses ...int) (Head, error) { // as an authenticating transport does
				if renewed.Load() {
					req.Header.Set("Authorization", "Bearer new")
				}
				head, err := send(req, statuses...)
				if head.Response == nil || head.StatusCode != http.StatusUnauthorized {
					return head, err
				}
				renewed.Store(true)
				req.Header.Set("Authorization", "Bearer new")
				if req.Body, err = req.GetBody(); err != nil {
					return Head{}, err
				}
				return send(req, statuses...)
			}
			b := newBlob(t, noise(size), sources["stream"])
			d.mustSend(t, b)
			if got := f.received() - size; !f.has(b) || got != test.twice {
				t.Errorf("stored: %t; %d bytes came twice, want %d", f.has(b), got, test.twice)
			}
			if careful := d.hostOf(t).careful.Load(); careful != (test.twice > 0) {
				t.Errorf("chunks: %t", careful)
			}
		})
	}
}

// TestLostUploads: a registry that forgets an upload by itself gets another.
func TestLostUploads(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w http.ResponseWriter, r *fakeRequest) bool{
		"unknown": func(w http.ResponseWriter, _ *fakeRequest) bool {
			return refuse(w, http.StatusNotFound, registryTransport.BlobUploadUnknownErrorCode)
		},
		"invalid": func(w http.ResponseWriter, _ *fakeRequest) bool {
			return refuse(w, http.StatusBadRequest, registryTransport.BlobUploadInvalidErrorCode)
		},
		"other bytes": func(w http.ResponseWriter, _ *fakeRequest) bool {
			return refuse(w, http.StatusBadRequest, registryTransport.DigestInvalidErrorCode)
		},
		"more than was sent": func(w http.ResponseWriter, r *fakeRequest) bool {
			accept(w, r.URL.Path, make([]byte, 9*mb), http.StatusAccepted)
			return true
		},
	} {
		for kind, source := range sources {
			for _, size := range []int{1000, 9 * mb} {
				t.Run(fmt.Sprint(name, ", from a ", kind, " of ", size), func(t *testing.T) {
					t.Parallel()
					f := newFake(t)
					lost := 0
					f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
						if name == "more than was sent" && r.Method == http.MethodPut || r.ContentLength != int64(size) || lost == 1 {
							return false
						}
						lost++
						_, _ = io.CopyN(io.Discard, r.Body, 100)
						return spoil(w, r)
					}
					d := f.destination(t)
					d.mustSend(t, newBlob(t, noise(size), source))
					posts := 0
					for _, r := range f.log() {
						if r == "POST 0" {
							posts++
						}
					}
					if posts != 1+lost || len(d.pauses) > 0 {
						t.Errorf("%d uploads begun for %d lost; %d pauses", posts, lost, len(d.pauses))
					}
				})
			}
		}
	}
}

// TestAnswerLost: a blob that was stored though the answer got lost isn't sent again.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, mb + 1} {
		f := newFake(t)
		f.spoil = lateBreak(f)
		d := f.destination(t)
		d.mustSend(t, newBlob(t, noise(size), sources["file"]))
		if n := len(slices.DeleteFunc(f.log(), func(r string) bool { return r != "POST 0" })); n != 1 {
			t.Errorf("%d uploads begun, want 1", n)
		}
	}
}

// lateBreak stores what a PUT brings and drops the answer.
func lateBreak(f *fakeRegistry) func(http.ResponseWriter, *fakeRequest) bool {
	return func(_ http.ResponseWriter, r *fakeRequest) bool {
		if r.Method != http.MethodPut {
			return false
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.handle(discard{}, r.Request)
		panic(http.ErrAbortHandler)
	}
}

// discard is an answer that never arrives.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func TestGivesUp(t *testing.T) {
	t.Parallel()
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "7"); w.WriteHeader(code) }
	}
	header := func(key, value string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.String())
			w.Header().Set(key, value)
			w.WriteHeader(http.StatusAccepted)
		}
	}
	wrongScope := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="x",error="insufficient_scope"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	for name, test := range map[string]struct {
		method string
		spoil  func(http.ResponseWriter, *http.Request)
		want   string
		pauses int
	}{
		"busy":             {"PATCH", status(503), "given up after 9 tries", 8},
		"limited":          {"PATCH", status(429), "given up after 9 tries", 8},
		"busy at start":    {"POST", status(503), "503", 0}, // the transport has repeated these
		"busy at the end":  {"PUT", status(503), "503", 0},
		"too large":        {"PATCH", status(413), "raise the limit of the registry's front", 0},
		"refused":          {"PATCH", status(403), "403", 0},
		"wrong scope":      {"PATCH", wrongScope, "given up after 9 tries without progress", 8},
		"always lost":      {"PATCH", status(404), "lost the upload 4 times", 0},
		"another host":     {"POST", header("Location", "http://192.0.2.1/v2/x"), `another host, "192.0.2.1"`, 0},
		"no location":      {"POST", header("Location", ""), "doesn't say where", 0},
		"too far":          {"PATCH", header("Range", "0-999999999"), "lost the upload 4 times", 0},
		"nonsense":         {"PATCH", header("Range", "half of it"), "lost the upload 4 times", 0},
		"never in order":   {"PATCH", status(416), "lost the upload 4 times", 4},
		"taken and gone":   {"PATCH", header("Range", "0-0"), "given up after 6 tries without progress", 5},
		"stored otherwise": {"PUT", header("Docker-Content-Digest", "sha256:0"), `stored it as "sha256:0"`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
				if r.Method == test.method {
					_, _ = io.Copy(io.Discard, r.Body)
					test.spoil(w, r.Request)
				}
				return r.Method == test.method
			}
			d := f.destination(t)
			_, err := d.send(t, newBlob(t, noise(mb+1), sources["stream"]))
			wantError(t, err, test.want)
			if strings.Contains(err.Error(), "=secret") {
				t.Errorf("the error shows the upload's state: %v", err)
			}
			if len(d.pauses) != test.pauses {
				t.Errorf("%d pauses, want %d", len(d.pauses), test.pauses)
			}
			if name == "busy" && (slices.Min(d.pauses) < 7*time.Second || d.pauses[0] > 9*time.Second) {
				t.Errorf("waited %v, the registry asked for 7 s each time", d.pauses)
			}
		})
	}
}

// TestSmallestChunkTooLarge: a front may refuse what the registry behind it demands.
func TestSmallestChunkTooLarge(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.minimum = strconv.Itoa(2 * mb)
	f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
		if r.ContentLength > mb {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
		return r.ContentLength > mb
	}
	_, err := f.destination(t).send(t, newBlob(t, noise(9*mb), sources["file"]))
	wantError(t, err, "sending 2097152 bytes in one request", "413")
}

func TestRegistryDies(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var dead atomic.Bool
	f.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
		if r.Method == http.MethodPatch || dead.Load() {
			dead.Store(true)
			panic(http.ErrAbortHandler)
		}
		return false
	}
	d := f.destination(t)
	_, err := d.send(t, newBlob(t, noise(mb+1), sources["file"]))
	wantError(t, err, "asking how many bytes arrived")
	if len(d.pauses) != 1 {
		t.Errorf("%d pauses, want one: asking again is the transport's", len(d.pauses))
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodPatch, http.MethodPut} {
		f := newFake(t)
		stopped := errors.New("stopped by a test")
		ctx, cancel := context.WithCancelCause(t.Context())
		f.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
			if r.Method == method {
				_, _ = io.Copy(io.Discard, r.Body) // else the server doesn't notice that the client has gone
				cancel(stopped)
				<-r.Context().Done()
			}
			return false
		}
		_, err := f.destination(t).Send(ctx, newBlob(t, noise(mb+1), sources["file"]), func(int64) {})
		if !errors.Is(err, stopped) {
			t.Errorf("%s: %v, want %v", method, err, stopped)
		}
	}
	f := newFake(t)
	f.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
		if r.Method == http.MethodPatch {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	d := f.destination(t)
	stopped := errors.New("stopped while waiting")
	d.Wait = func(context.Context, time.Duration) error { return stopped }
	if _, err := d.send(t, newBlob(t, noise(mb+1), sources["file"])); !errors.Is(err, stopped) {
		t.Errorf("%v, want %v", err, stopped)
	}
}

// TestDamaged: a blob that isn't what it should be is not stored.
func TestDamaged(t *testing.T) {
	t.Parallel()
	unreadable := errors.New("the disk is on fire")
	for _, size := range []int{5000, 2 * mb} { // in one request, and in three
		content := noise(size)
		wrong := slices.Clone(content)
		wrong[4000] ^= 1
		for name, test := range map[string]struct {
			content []byte
			want    string
		}{
			"a wrong byte": {wrong, fmt.Sprintf("the blob is damaged: its %d bytes hash to sha256:", size)},
			"cut short":    {content[:4000], fmt.Sprintf("reading the blob: the blob ends after 4000 of %d bytes", size)},
			"empty":        {nil, fmt.Sprintf("reading the blob: the blob ends after 0 of %d bytes", size)},
		} {
			for kind, source := range sources {
				b := newBlob(t, content, source)
				b.Open = func() (io.ReadCloser, error) { return source(test.content), nil }
				t.Run(fmt.Sprintf("%s in a %s of %d", name, kind, size), func(t *testing.T) {
					t.Parallel()
					notStored(t, b, test.want)
				})
			}
		}
		b := newBlob(t, content, sources["file"])
		b.Open = func() (io.ReadCloser, error) { return nil, unreadable }
		t.Run(fmt.Sprintf("unreadable of %d", size), func(t *testing.T) {
			t.Parallel()
			notStored(t, b, "reading the blob: the disk is on fire")
		})
	}
	b := newBlob(t, nil, sources["file"])
	b.Descriptor.Digest.Algorithm = "md4"
	notStored(t, b, "md4")
}

// notStored sends a blob, and fails the test unless that fails as wanted and the registry isn't asked to store it.
func notStored(t *testing.T, b Blob, want string) {
	t.Helper()
	f := newFake(t)
	_, err := f.destination(t).send(t, b)
	wantError(t, err, want)
	for _, r := range f.log() {
		if strings.HasPrefix(r, "PUT") {
			t.Error("the registry was asked to store it")
		}
	}
}

// TestStreamCannotBeReadAgain: what the registry lost can't be had once more.
func TestStreamCannotBeReadAgain(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.forgets = true
	f.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
		if r.Method == http.MethodPatch {
			f.cut(r, 100)
		}
		return false
	}
	b := newBlob(t, noise(2*mb), sources["stream"])
	first := b.Open
	b.Open = func() (io.ReadCloser, error) {
		defer func() { first = func() (io.ReadCloser, error) { return nil, errors.New("it can be read once") } }()
		return first()
	}
	_, err := f.destination(t).send(t, b)
	wantError(t, err, "reading the blob: it can be read once")
}

// TestDiffIDs: a layer is looked into while it is sent, and compared with its diff ID if that is known.
func TestDiffIDs(t *testing.T) {
	t.Parallel()
	plain := func(blob io.Reader) (io.ReadCloser, bool, error) { return io.NopCloser(blob), false, nil }
	crash := func(io.Reader) (io.ReadCloser, bool, error) { panic("a layer of nobody's making") }
	const gzip, zstd = "\x1f\x8b\x08\x00", "\x28\xb5\x2f\xfd"
	compressions := map[string]string{gzip: "gzip", zstd: "zstd"}
	for name, test := range map[string]struct {
		decompress layercheck.Decompressor
		begins     string
		diffID     string // "right", "wrong", or unknown
		inspected  bool
		err        string
	}{
		"right":                    {plain, gzip, "right", true, ""},
		"of zstd":                  {plain, zstd, "right", true, ""},
		"of another format":        {plain, "BZh", "right", true, ""},
		"unknown":                  {plain, gzip, "", true, ""},
		"not compared":             {nil, gzip, "right", false, ""},
		"wrong":                    {plain, gzip, "wrong", false, "the image's config gives the layer the diff ID"},
		"the decompressor crashes": {crash, gzip, "right", false, "nobody's making"},
	} {
		for _, size := range []int{1000, 3 * mb} {
			t.Run(fmt.Sprint(name, " of ", size), func(t *testing.T) {
				t.Parallel()
				f := newFake(t)
				d := f.destination(t)
				d.Decompress = test.decompress
				b := newBlob(t, append([]byte(test.begins), noise(size)...), sources["stream"])
				switch test.diffID {
				case "right":
					b.DiffID = b.Descriptor.Digest
				case "wrong":
					b.DiffID = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
				default:
					b.Inspect = true
				}
				sent, err := d.send(t, b)
				if test.err != "" {
					wantError(t, err, test.err)
				} else if err != nil {
					t.Fatal(err)
				}
				want := Sent{}
				if test.err == "" {
					want.Compression = compressions[test.begins]
				}
				if test.inspected {
					want.DiffID = b.Descriptor.Digest
				}
				if sent != want || f.has(b) != (test.err == "") {
					t.Errorf("sent: %+v, want %+v; stored: %t", sent, want, f.has(b))
				}
				var panicked *parallel.PanicError
				if errors.As(err, &panicked) != (name == "the decompressor crashes") {
					t.Errorf("%v tells of a panic, or doesn't", err)
				}
			})
		}
	}
}

// TestMount: a blob of another repository is mounted if these credentials reach it.
func TestMount(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		there, refuse bool
		want          []string
	}{
		"granted":   {true, false, []string{"POST 0"}},
		"not there": {false, false, []string{"POST 0", "PUT 100"}},
		"refused":   {true, true, []string{"POST 0", "POST 0", "PUT 100"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
				return test.refuse && r.URL.Query().Get("from") == "other" &&
					refuse(w, http.StatusForbidden, registryTransport.DeniedErrorCode)
			}
			b := newBlob(t, noise(100), sources["file"])
			b.From = "other"
			if test.there {
				f.blobs[b.Descriptor.Digest.String()] = nil
			}
			if _, err := f.destination(t).send(t, b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, f.log()); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReadFromBehind: bytes that are read again come from the same place, and count once.
func TestReadFromBehind(t *testing.T) {
	t.Parallel()
	content := noise(300_000)
	for kind, open := range sources {
		var progress []int64
		b := newBlob(t, content, open)
		opened := 0
		b.Open = func() (io.ReadCloser, error) { opened++; return open(content), nil }
		s, err := newSource(b, nil, func(reach int64) { progress = append(progress, reach) })
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][2]int64{{0, 200_000}, {100_000, 250_000}, {50_000, 60_000}, {250_000, 300_000}} {
			old := s.open(0, 1)
			got, err := io.ReadAll(s.open(part[0], part[1]))
			if err != nil || !bytes.Equal(got, content[part[0]:part[1]]) {
				t.Errorf("%s: bytes %d to %d are others, %v", kind, part[0], part[1], err)
			}
			if _, err := old.Read(make([]byte, 1)); !errors.Is(err, errRevoked) {
				t.Errorf("%s: an older reader: %v, want %v", kind, err, errRevoked)
			}
		}
		if err := s.verify(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if !slices.IsSorted(progress) || progress[len(progress)-1] != int64(len(content)) {
			t.Errorf("%s: progress %v", kind, progress)
		}
		if want := map[string]int{"file": 1, "stream": 3}[kind]; opened != want {
			t.Errorf("%s: opened %d times, want %d", kind, opened, want)
		}
		s.close()
	}
}

// wantError fails the test unless the error contains all parts.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// TestOpensAhead: a blob is opened while the upload begins, once, and closed also if nothing of it is read.
func TestOpensAhead(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"sent": false, "refused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			opened, closed := make(chan struct{}), make(chan struct{})
			f.spoil = func(w http.ResponseWriter, r *fakeRequest) bool {
				if r.Method == http.MethodPost {
					<-opened // or the test doesn't end
				}
				return refused && refuse(w, http.StatusForbidden, registryTransport.DeniedErrorCode)
			}
			b := newBlob(t, noise(3*mb), sources["stream"])
			open := b.Open
			b.Open = func() (io.ReadCloser, error) {
				close(opened)
				content, err := open()
				return closing{content, func() { close(closed) }}, err
			}
			if _, err := f.destination(t).send(t, b); (err != nil) != refused {
				t.Fatal(err)
			}
			<-closed
		})
	}
}

// closing is a reader that calls a function when it is closed.
type closing struct {
	io.Reader
	closed func()
}

func (c closing) Close() error { c.closed(); return nil }

// TestRequestsWaitForTheDecompressor: it may wait for memory that other layers have, and no request waits with it.
func TestRequestsWaitForTheDecompressor(t *testing.T) {
	t.Parallel()
	for kind, source := range sources {
		for _, size := range []int{mb, 3 * mb} {
			f := newFake(t)
			var begun atomic.Bool
			f.spoil = func(_ http.ResponseWriter, r *fakeRequest) bool {
				if r.ContentLength > 0 && !begun.Load() {
					t.Errorf("%d bytes from a %s: a %s is sent before the decompressor has begun", size, kind, r.Method)
				}
				return false
			}
			d := f.destination(t)
			d.Decompress = func(blob io.Reader) (io.ReadCloser, bool, error) {
				start := bufio.NewReaderSize(blob, headerSize)
				_, err := start.Peek(headerSize)
				begun.Store(true)
				return io.NopCloser(start), true, err
			}
			b := newBlob(t, noise(size), source)
			b.DiffID = b.Descriptor.Digest
			opened, open := 0, b.Open
			b.Open = func() (io.ReadCloser, error) { opened++; return open() }
			d.mustSend(t, b)
			if opened != 1 {
				t.Errorf("%d bytes from a %s: the blob was opened %d times", size, kind, opened)
			}
		}
	}
}

// TestStoppedBeforeTheDecompressorBegins: a run that is stopped doesn't wait for memory.
func TestStoppedBeforeTheDecompressorBegins(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.destination(t)
	stopped := errors.New("a test stopped it")
	ctx, stop := context.WithCancelCause(t.Context())
	memory := make(chan struct{})
	d.Decompress = func(blob io.Reader) (io.ReadCloser, bool, error) {
		stop(stopped)
		<-memory
		return io.NopCloser(blob), true, nil
	}
	b := newBlob(t, noise(3*mb), sources["stream"])
	b.DiffID = b.Descriptor.Digest
	if _, err := d.Send(ctx, b, func(int64) {}); !errors.Is(err, stopped) {
		t.Errorf("error %v, want %v", err, stopped)
	}
	close(memory)
}

package blobupload

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

var errReset = errors.New("connection reset by peer")

// Error codes of the OCI distribution specification, "Error Codes".
const (
	unknownUpload = registryTransport.BlobUploadUnknownErrorCode
	invalidUpload = registryTransport.BlobUploadInvalidErrorCode
	invalidDigest = registryTransport.DigestInvalidErrorCode
)

// refusal is the error of an answer.
func refusal(status int, codes ...registryTransport.ErrorCode) *registryTransport.Error {
	e := &registryTransport.Error{StatusCode: status}
	for _, code := range codes {
		e.Errors = append(e.Errors, registryTransport.Diagnostic{Code: code})
	}
	return e
}

func TestClassify(t *testing.T) {
	t.Parallel()
	all, brings := []step{begin, send, ask, finish, whole}, []step{send, whole}
	for name, test := range map[string]struct {
		steps []step
		err   error
		again bool
		want  verdict
	}{
		"taken":                 {all, nil, false, goOn},
		"taken after a refusal": {all, nil, true, goOn},
		"a broken body":         {brings, errReset, false, resume},
		// The transport has repeated them.
		"other broken requests":          {[]step{begin, ask, finish}, errReset, false, giveUp},
		"no progress":                    {[]step{send}, errStuck, false, resume},
		"busy at a body":                 {brings, refusal(503), false, resume},
		"busy":                           {[]step{begin, ask, finish}, refusal(503), false, giveUp},
		"limited at a body":              {brings, refusal(429), false, resume},
		"too slow a body":                {brings, refusal(408), false, resume},
		"too large":                      {brings, refusal(413), false, shrink},
		"too large without a body":       {[]step{begin, ask, finish}, refusal(413), false, giveUp},
		"refused":                        {all, refusal(403, registryTransport.DeniedErrorCode), false, giveUp},
		"refused, wrapped":               {all, fmt.Errorf("asking: %w", refusal(403)), false, giveUp},
		"refused in passing":             {brings, &passingError{refusal(401)}, false, resume},
		"refused for ever":               {[]step{begin, ask, finish}, &passingError{refusal(401)}, false, giveUp},
		"lost":                           {[]step{send, ask, finish}, errLost, false, restart},
		"nothing there":                  {[]step{send, ask, finish}, refusal(404), false, restart},
		"nothing there, wrapped":         {[]step{send, ask, finish}, fmt.Errorf("asking: %w", refusal(404)), false, restart},
		"no such repository":             {[]step{begin}, refusal(404), false, giveUp},
		"unknown upload":                 {[]step{send, ask, finish}, refusal(400, unknownUpload), false, restart},
		"invalid upload":                 {[]step{send, ask, finish}, refusal(400, invalidUpload), false, restart},
		"other bytes":                    {[]step{finish, whole}, refusal(400, invalidDigest), false, restart},
		"lost by a failing registry":     {[]step{send, finish}, refusal(500, unknownUpload), false, restart},
		"a chunk out of order":           {[]step{send}, refusal(416), false, resume},
		"the same chunk out of order":    {[]step{send}, refusal(416), true, restart},
		"anything else out of order":     {[]step{ask, finish}, refusal(416), false, restart},
		"unreadable":                     {all, &finalError{io.ErrUnexpectedEOF}, false, giveUp},
		"unreadable, and out of order":   {all, &finalError{refusal(416)}, true, giveUp},
		"another blob than it should be": {[]step{finish}, &finalError{errors.New("damaged")}, false, giveUp},
	} {
		for _, s := range test.steps {
			if got := classify(s, test.err, test.again); got != test.want {
				t.Errorf("%s at step %d: %d, want %d", name, s, got, test.want)
			}
		}
	}
}

const uploads = "https://registry.example/v2/charm/uploads/"

// head is an answer with a header given as name, value, name, value.
func head(status int, header ...string) Head {
	at, _ := url.Parse(uploads)
	h := Head{&http.Response{StatusCode: status, Header: http.Header{}, Request: &http.Request{URL: at}}}
	for i := 0; i < len(header); i += 2 {
		h.Header.Set(header[i], header[i+1])
	}
	return h
}

// begun is the state of a blob's upload that the registry agreed to.
func begun(t *testing.T, size int64) *state {
	t.Helper()
	s := newState(size, new(host))
	next, _, err := s.take(result{step: begin, head: head(202, "Location", uploads+"1")})
	if want := s.following(result{step: ask}); err != nil || next != want {
		t.Fatalf("began with step %d, %v; want %d", next, err, want)
	}
	return s
}

// TestTake: results of requests, one after another, and what follows each.
func TestTake(t *testing.T) {
	t.Parallel()
	const size = 10 << 20
	type taken struct {
		result   result
		next     step
		received int64
		err      string
	}
	broken := result{step: send, end: size, err: errReset}
	for name, steps := range map[string][]taken{
		"in one chunk": {
			{result{step: send, end: size, head: head(202)}, finish, size, ""},
			{result{step: finish}, done, size, ""},
		},
		"by Range": {
			{result{step: send, end: 8 << 20, head: head(202, "Range", "0-4194303")}, send, 4 << 20, ""},
			{result{step: send, end: size, head: head(202, "Range", "0-10485759")}, finish, size, ""},
		},
		"broken and resumed": {
			{broken, ask, 0, ""},
			{result{step: ask, head: head(204, "Range", "0-99")}, send, 100, ""},
			{result{step: send, end: size, head: head(202)}, finish, size, ""},
		},
		"arrived all the same": {
			{broken, ask, 0, ""},
			{result{step: ask, head: head(204, "Range", "0-10485759")}, finish, size, ""},
		},
		"broken and lost": {
			{result{step: send, end: 100, head: head(202)}, send, 100, ""},
			{broken, ask, 100, ""},
			{result{step: ask, err: refusal(404)}, begin, 100, ""},
			{result{step: begin, head: head(202, "Location", uploads+"2")}, send, 0, ""},
		},
		"dead": {
			{broken, ask, 0, ""},
			{result{step: ask, err: errReset}, done, 0, "asking how many bytes arrived: connection reset"},
		},
		"more than was sent": {
			{result{step: send, end: 100, head: head(202, "Range", "0-100")}, begin, 0, ""},
		},
		"out of order once": {
			{result{step: send, end: 100, head: head(416), err: refusal(416)}, ask, 0, ""},
			{result{step: ask, head: head(204, "Range", "0-49")}, send, 50, ""},
			{result{step: send, end: 100, head: head(416), err: refusal(416)}, ask, 50, ""},
			{result{step: ask, head: head(204)}, send, 50, ""},
			{result{step: send, end: 100, head: head(416), err: refusal(416)}, begin, 50, ""},
		},
		"another host": {
			{result{step: begin, head: head(202, "Location", "https://other.example/1")}, done, 0,
				`another host, "other.example"`},
		},
		"mounted": {{result{step: begin, head: head(201)}, done, 0, ""}},
		"stalling": append(repeated(taken{broken, ask, 0, ""}, taken{result{step: ask, head: head(204)}, send, 0, ""}, 5),
			taken{broken, done, 0, "given up after 6 tries"}),
		"forgetful": append(repeated(taken{result{step: send, err: refusal(404)}, begin, 0, ""},
			taken{result{step: begin, head: head(202, "Location", uploads+"2")}, send, 0, ""}, 3),
			taken{result{step: send, err: refusal(404)}, done, 0, "lost the upload 4 times"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begun(t, size)
			for i, want := range steps {
				next, _, err := s.take(want.result)
				if (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
					t.Fatalf("result %d: error %v, want %q", i, err, want.err)
				}
				if next != want.next || s.received != want.received {
					t.Fatalf("result %d: step %d with %d bytes, want %d with %d", i, next, s.received, want.next, want.received)
				}
			}
		})
	}
}

// repeated returns a and b, n times in turn.
func repeated[T any](a, b T, n int) (all []T) {
	for range n {
		all = append(all, a, b)
	}
	return all
}

// TestSmallBlobsTakeTwoRequests: and so does an empty one.
func TestSmallBlobsTakeTwoRequests(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]step{0: whole, smallMax: whole, smallMax + 1: send} {
		s := newState(size, new(host))
		if next, _, err := s.take(result{step: begin, head: head(202, "Location", uploads+"1")}); next != want || err != nil {
			t.Errorf("%d bytes: step %d, %v; want %d", size, next, err, want)
		}
	}
}

// TestLostBlobsEarnUploads: an upload that is lost for a broken connection is worth more than one that is lost without.
func TestLostBlobsEarnUploads(t *testing.T) {
	t.Parallel()
	s := begun(t, 10<<20)
	for range maxLostBroken - 1 {
		for _, r := range []result{
			{step: send, end: 100, err: errReset}, {step: ask, err: refusal(404)},
			{step: begin, head: head(202, "Location", uploads+"2")},
		} {
			if _, _, err := s.take(r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPauseAskedFor: what a registry asks for has bounds, also in numbers of seconds that a Duration can't hold.
func TestPauseAskedFor(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ least, most time.Duration }{
		"0":                   {0, 0},
		"7":                   {7 * time.Second, 9 * time.Second},
		"604800":              {maxPause, maxPause},
		"9223372036854775807": {maxPause, maxPause},
		"soon":                {time.Millisecond, time.Second},
		"":                    {time.Millisecond, time.Second},
	}
	for header, want := range tests {
		s := begun(t, 10<<20)
		_, pause, err := s.take(result{step: send, head: head(429, "Retry-After", header), err: refusal(429)})
		if err != nil || pause < want.least || pause > want.most {
			t.Errorf("Retry-After %q makes the pause %s, %v; want %s to %s", header, pause, err, want.least, want.most)
		}
	}
}

// TestChunksGrowAgain: with chunks that arrive, up to the first size.
func TestChunksGrowAgain(t *testing.T) {
	t.Parallel()
	s := begun(t, 200<<20)
	s.host.careful.Store(true)
	s.chunk = chunkMin
	for next := send; next == send; {
		end := s.received + s.length()
		var err error
		if next, _, err = s.take(result{step: send, length: s.length(), end: end, head: head(202)}); err != nil {
			t.Fatal(err)
		}
	}
	if want := firstChunk(s.size); s.chunk != want {
		t.Errorf("a chunk is %d bytes in the end, want %d", s.chunk, want)
	}
}

// TestBrokenChunksShrink: a chunk is as large as ever after a request with the whole blob broke, and a quarter after a
// chunk did.
func TestBrokenChunksShrink(t *testing.T) {
	t.Parallel()
	s := begun(t, 100<<20)
	for i, want := range []int64{100 << 20, 5 << 20, 5 << 18, 5 << 16, chunkMin} {
		if got := s.length(); got != want {
			t.Errorf("after %d breaks a request has %d bytes, want %d", i, got, want)
		}
		if _, _, err := s.take(result{step: send, length: s.length(), err: errReset}); err != nil {
			t.Fatal(err)
		}
	}
}

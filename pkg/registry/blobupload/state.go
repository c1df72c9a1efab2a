package blobupload

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

const (
	// smallMax is the size in bytes up to which a blob is sent by the request that ends its upload, which saves a round
	// trip.
	smallMax = 1 << 20

	// Once a request to the host broke, a blob is sent in chunks. A chunk is a twentieth of its blob within these bounds,
	// a quarter of the last one after every failure. So five broken connections within a large blob cost less than a tenth
	// of it, even with a registry that forgets what it received of a broken chunk.
	firstChunkMin, firstChunkMax = 4 << 20, 32 << 20
	chunkMin                     = 256 << 10
	chunkGrowth                  = 16 // a chunk that arrives makes the next larger by this part, up to the first size

	limitMin = 64 << 10 // bytes of the smallest request that is tried after one that was too large

	// After so many failures in a row that broke the connection without a byte of progress, a blob is given up. That is
	// fewer than the transport tries, which repeats the question after each of them.
	maxBroken = 6

	maxPause = 2 * time.Minute // that a registry may ask for by Retry-After

	// After so many lost uploads that got no further than one before, a blob is given up: often when a connection broke in
	// them, seldom when the registry forgets by itself, as several do that don't share their storage.
	maxLostBroken, maxLostByItself = 32, 4
)

var (
	// errLost is an upload that the registry doesn't know any longer, or has other bytes of than it was sent.
	errLost = errors.New("the registry lost the upload")
	// errStuck is an answer that says that bytes were taken, and that none of them arrived.
	errStuck = errors.New("the registry says that it took a chunk, but has no more bytes than before")
)

// Hosts remember what registries' hosts can't do, during a run. The zero value is empty and ready to use.
type Hosts struct{ byName sync.Map }

// of returns what is known about a host.
func (h *Hosts) of(name string) *host {
	known, _ := h.byName.LoadOrStore(name, new(host))
	return known.(*host)
}

// host is what is known about one host. Its uploads share it.
type host struct {
	careful atomic.Bool  // a request broke: blobs are sent in chunks
	limit   atomic.Int64 // bytes of the largest request that may fit; 0 if none was too large
}

// step is a request of an upload (OCI distribution spec, "Pushing a blob in chunks").
type step int

const (
	begin  step = iota // POST: begin an upload, or mount the blob
	send               // PATCH: send the rest of the blob, or a chunk of it
	ask                // GET: ask how many bytes the registry has
	finish             // PUT: store the upload under the blob's digest
	whole              // PUT: send a small blob, and store it
	done               // the repository has the blob
)

// verdict is what an upload does after a request.
type verdict int

const (
	goOn    verdict = iota // the registry took it
	resume                 // ask how many bytes the registry has, and go on from there
	shrink                 // send less at once
	restart                // begin another upload
	giveUp
)

// classify returns the verdict on a request, based on its step and error. Again is true if the last chunk from the same
// byte was refused as out of order, too. The transport has already repeated requests that carry no bytes of the blob.
func classify(s step, err error, again bool) verdict {
	var answer *registryTransport.Error
	answered := errors.As(err, &answer)
	var final *finalError
	var passing *passingError
	brings := s == send || s == whole
	switch {
	case err == nil:
		return goOn
	case errors.Is(err, errLost):
		return restart
	case s == begin, errors.As(err, &final):
		return giveUp
	case answered && isLost(answer):
		return restart
	case answered && answer.StatusCode == http.StatusRequestedRangeNotSatisfiable && (!brings || again):
		// Of a body that the transport sent again, the registry may have a part, which makes the body out of order.
		return restart
	case answered && answer.StatusCode == http.StatusRequestEntityTooLarge && brings:
		return shrink
	case brings && (!answered || isTemporary(answer.StatusCode) || errors.As(err, &passing)):
		return resume
	}
	return giveUp
}

// isLost reports whether the registry answered that it doesn't know the upload, or that it has other bytes than were
// sent.
func isLost(answer *registryTransport.Error) bool {
	return answer.StatusCode == http.StatusNotFound ||
		slices.ContainsFunc(answer.Errors, func(d registryTransport.Diagnostic) bool {
			return d.Code == registryTransport.BlobUploadUnknownErrorCode ||
				d.Code == registryTransport.BlobUploadInvalidErrorCode ||
				d.Code == registryTransport.DigestInvalidErrorCode
		})
}

// isTemporary reports whether the registry may answer another request with another status.
func isTemporary(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusRequestTimeout ||
		status == http.StatusTooManyRequests || status == http.StatusRequestedRangeNotSatisfiable
}

// state is the progress of a blob's upload. Only take changes it.
type state struct {
	size     int64    // of the blob
	host     *host    // of the registry
	location *url.URL // where the registry takes the upload's next request
	minimum  int64    // bytes of the smallest chunk that the registry takes, but for the last

	received int64 // bytes that the registry has
	reached  int64 // the most bytes it had in this upload
	best     int64 // the most bytes it had in any upload of the blob
	sent     int64 // bytes that were sent in this upload, arrived or not
	refused  int64 // offset of the chunk last refused as out of order, -1 for none
	tooLarge bool  // the last request was

	chunk  int64              // bytes of the next chunk
	failed transport.Failures // since the last progress
	broke  bool               // a request of this upload broke
	lost   int                // uploads that the registry lost since best grew
}

// newState returns the state before the first request for a blob of size bytes.
func newState(size int64, h *host) *state {
	return &state{size: size, host: h, refused: -1, chunk: firstChunk(size)}
}

// firstChunk returns the size of the first chunk in bytes.
func firstChunk(size int64) int64 { return min(max(size/20, firstChunkMin), firstChunkMax) }

// length returns the number of bytes of the blob that the next request carries.
func (s *state) length() int64 {
	rest := s.size - s.received
	n := rest
	if s.host.careful.Load() {
		n = s.chunk
	}
	if limit := s.host.limit.Load(); limit > 0 {
		n = min(n, limit)
	}
	return min(max(n, s.minimum), rest)
}

// result is the outcome of a request.
type result struct {
	step   step
	length int64 // bytes of the blob that the request brings
	end    int64 // offset behind the bytes that were sent of these
	head   Head
	err    error // a *registryTransport.Error for an answer that refuses
}

// take updates the state with the result of a request. It returns the next step and the pause before it.
func (s *state) take(r result) (next step, pause time.Duration, err error) {
	s.sent = max(s.sent, r.end)
	if r.err == nil {
		r.err = s.advance(r)
	}
	verdict := classify(r.step, r.err, s.refused == s.received)
	s.tooLarge = verdict == shrink
	switch verdict {
	case goOn:
		return s.following(r), 0, nil
	case resume:
		return s.resume(r)
	case shrink:
		// A power of two, as many limits are.
		limit := max(1<<bits.Len64(uint64(max(r.length-1, 0)))/2, s.minimum)
		if limit < limitMin || limit >= r.length {
			return done, 0, fmt.Errorf(
				"sending %d bytes in one request: %w; raise the limit of the registry's front",
				r.length,
				r.err,
			)
		}
		if known := s.host.limit.Load(); known == 0 || limit < known {
			s.host.limit.Store(limit)
		}
		return s.following(r), 0, nil
	case restart:
		// Distribution 2 discards an upload in whose chunk a connection broke, with the chunks before: its Location says how
		// many bytes came with answers, and it has more. So a blob takes as many uploads as it needs to get through in one,
		// and the bytes that came with the failure are progress.
		s.lost++
		limit := maxLostByItself
		if s.broke {
			limit, s.failed = maxLostBroken, transport.Failures{}
		}
		if s.lost >= limit {
			return done, 0, fmt.Errorf("%w %d times; try again later", errLost, s.lost)
		}
		return begin, 0, nil
	}
	if r.step == ask {
		return done, 0, fmt.Errorf("asking how many bytes arrived: %w", r.err)
	}
	return done, 0, r.err
}

// resume updates the state after a failure from which the upload may continue.
func (s *state) resume(r result) (next step, pause time.Duration, err error) {
	switch {
	case r.head.Response != nil && r.head.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		s.refused = s.received
	case r.head.Response != nil && r.head.StatusCode == http.StatusTooManyRequests: // chunks would be more
	default:
		s.broke = true
		s.host.careful.Store(true)
	}
	if r.length <= s.chunk {
		s.chunk = max(s.chunk/4, chunkMin)
	}
	answer := r.head.Response
	if errors.Is(r.err, errStuck) { // no server in trouble answers so
		answer = nil
	}
	pause, again := s.failed.Count(answer)
	if !again || s.failed.Unanswered() == maxBroken {
		return done, 0, fmt.Errorf("given up after %d tries without progress: %w", s.failed.All(), r.err)
	}
	return ask, min(pause, maxPause), nil
}

// following returns the step after one that the registry accepted, or found too large.
func (s *state) following(r result) step {
	switch {
	case r.err == nil &&
		(r.step == finish || r.step == whole || r.step == begin && r.head.StatusCode == http.StatusCreated):
		return done
	case s.received == 0 && s.size <= smallMax && s.length() == s.size:
		return whole
	case s.received < s.size:
		return send
	}
	return finish
}

// advance updates the state with what an answer says about the upload.
func (s *state) advance(r result) error {
	start := s.received
	switch r.step {
	case begin:
		s.received, s.reached, s.sent, s.refused, s.broke = 0, 0, 0, -1, false
		if r.head.StatusCode == http.StatusCreated {
			return nil
		}
		s.minimum, _ = strconv.ParseInt(r.head.Header.Get("OCI-Chunk-Min-Length"), 10, 64) // 0 if there is none
		return s.follow(r.head)
	case finish, whole:
		return nil
	}
	received, err := parseRange(r.head, max(start, r.end))
	if err != nil || received > s.sent {
		return fmt.Errorf("%w: the answer names the bytes %q", errLost, r.head.Header.Get("Range"))
	}
	s.received = received
	if received > s.reached {
		s.reached, s.failed = received, transport.Failures{}
		// Chunks grow again, so that one bad minute doesn't slow down the rest of a large blob by its round trips.
		s.chunk = min(s.chunk+s.chunk/chunkGrowth, firstChunk(s.size))
	}
	if received > s.best {
		s.best, s.lost = received, 0
	}
	if err := s.follow(r.head); err != nil {
		return err
	}
	if r.step == send && received <= start {
		return errStuck
	}
	return nil
}

// parseRange parses the Range header of an upload, "0-<last byte>", and returns the number of bytes. Without the header
// it returns silent. Registries say "0-0" for one byte as well as for none. It counts as none unless one byte is
// expected.
func parseRange(head Head, silent int64) (int64, error) {
	header := head.Header.Get("Range")
	if header == "" {
		return silent, nil
	}
	var last int64
	if _, err := fmt.Sscanf(header, "0-%d", &last); err != nil || last < 0 || last == math.MaxInt64 {
		return 0, errors.Join(err, errLost)
	}
	if last == 0 && silent != 1 {
		return 0, nil
	}
	return last + 1, nil
}

// follow updates the URL at which the upload continues. It fails for another host.
func (s *state) follow(head Head) error {
	next, err := head.Location()
	if errors.Is(err, http.ErrNoLocation) && s.location != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the registry doesn't say where to send the blob: %w", err)
	}
	at := head.Request.URL
	if strings.TrimSuffix(next.Host, ":443") != strings.TrimSuffix(at.Host, ":443") {
		return fmt.Errorf("the registry wants the blob sent to another host, %q", next.Host)
	}
	// Behind a proxy that ends TLS some say http; the transport would correct that too.
	next.Scheme = at.Scheme
	s.location = next
	return nil
}

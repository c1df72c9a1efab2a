package blobupload

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// streamChunkMax bounds what is held in memory of a blob that can't be read twice.
const streamChunkMax = 8 << 20

// errRewound is reading what a stream has given and isn't held: the upload must start over with a new stream.
var errRewound = errors.New("the blob can't be read again from that byte")

// readError is a failure on this side: the blob can't be read, or isn't what it should be.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// source gives the bytes of a blob by offset and verifies them on their way. In a file the offset is sought; of a stream,
// the last bytes are held, so that what got lost can be given again. It may be read from several goroutines, as
// HTTP transports do with the body of a request they have given up.
type source struct {
	desc    v1.Descriptor
	content io.ReadCloser
	seeker  io.Seeker // content, if it is one
	next    int64     // offset of the byte that content gives next

	mu     sync.Mutex
	hash   hash.Hash
	hashed int64        // bytes that went into hash
	start  []byte       // the first of these, as many as gzipMagic has
	check  *diffIDCheck // nil for none
	held   []byte       // the last bytes of a stream
	base   int64        // offset of held[0]
	err    error        // why the source can't be read
}

// newSource opens a blob. Of a stream up to window bytes are held. What is read is given to check, too.
func newSource(b Blob, window int64, check *diffIDCheck) (*source, error) {
	hasher, err := v1.Hasher(b.Descriptor.Digest.Algorithm)
	if err != nil {
		return nil, &readError{err}
	}
	content, err := b.Open()
	if err != nil {
		return nil, &readError{fmt.Errorf("opening the blob: %w", err)}
	}
	s := &source{desc: b.Descriptor, content: content, hash: hasher, check: check}
	if s.seeker, _ = content.(io.Seeker); s.seeker == nil {
		s.held = make([]byte, 0, max(0, min(window, b.Descriptor.Size)))
	}
	return s, nil
}

// window is how many bytes can be read again.
func (s *source) window() int64 {
	if s.seeker != nil {
		return s.desc.Size
	}
	return int64(cap(s.held))
}

// release says that bytes before off will not be asked for again.
func (s *source) release(off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if used := off - s.base; s.seeker == nil && 0 < used && used <= int64(len(s.held)) {
		s.held = s.held[:copy(s.held, s.held[used:])]
		s.base = off
	}
}

// ReadAt implements io.ReaderAt for offsets that have been read, are next, and weren't released. It may give fewer
// bytes than are asked for.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.read(p, off)
	if n == 0 {
		s.err = errors.Join(s.err, err)
		return 0, err
	}
	if beyond := off + int64(n) - s.hashed; beyond > 0 {
		fresh := p[int64(n)-beyond : n]
		_, _ = s.hash.Write(fresh)
		s.check.write(fresh)
		s.hashed += beyond
		s.start = append(s.start, fresh[:min(len(fresh), len(gzipMagic)-len(s.start))]...)
	}
	return n, nil
}

func (s *source) read(p []byte, off int64) (n int, err error) {
	switch p = p[:min(int64(len(p)), s.desc.Size-off)]; {
	case off > s.hashed || off < s.base:
		return 0, errRewound
	case s.seeker != nil:
		n, err = s.seekAndRead(p, off)
	case off < s.base+int64(len(s.held)):
		n = copy(p, s.held[off-s.base:])
	default:
		n, err = s.readAndHold(p)
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the blob ends after %d of %d bytes", off, s.desc.Size)
	}
	return n, err
}

// seekAndRead reads from a file.
func (s *source) seekAndRead(p []byte, off int64) (int, error) {
	if off != s.next {
		if _, err := s.seeker.Seek(off, io.SeekStart); err != nil {
			return 0, err
		}
		s.next = off
	}
	n, err := io.ReadAtLeast(s.content, p, 1)
	s.next += int64(n)
	return n, err
}

// readAndHold reads from the stream, through what is held.
func (s *source) readAndHold(p []byte) (int, error) {
	free := s.held[len(s.held):cap(s.held)]
	free = free[:min(len(free), len(p))]
	n, err := io.ReadAtLeast(s.content, free, 1)
	s.held = s.held[:len(s.held)+n]
	return copy(p, free[:n]), err
}

// verify fails unless all of the blob was read, and has its digest and, if that is checked, its diff ID.
func (s *source) verify() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := fmt.Sprintf("%s:%x", s.desc.Digest.Algorithm, s.hash.Sum(nil))
	if s.hashed != s.desc.Size || got != s.desc.Digest.String() {
		return fmt.Errorf("the blob is damaged: its %d bytes hash to %s; build or pull the image again", s.hashed, got)
	}
	return s.check.finish()
}

// gzipMagic is what gzip's format begins with (RFC 1952, section 2.3.1).
const gzipMagic = "\x1f\x8b"

// isGzip reports whether the blob begins like that.
func (s *source) isGzip() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.start) == gzipMagic
}

// failure is why reading failed, nil if it didn't.
func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *source) close() {
	s.check.abandon()
	_ = s.content.Close() // nothing was written
}

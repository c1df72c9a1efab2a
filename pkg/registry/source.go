package registry

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// errRewound is reading what a stream has given and nobody kept: the upload must start over with a new stream.
var errRewound = errors.New("the source can't be read again from there")

// source gives the bytes of a blob by offset and verifies them on their way. A file is read where it is asked for; of
// a stream, a window of the last bytes is kept, so that what got lost can be given again. It may be read from one
// goroutine after another, and overlapping, as HTTP transports do with the body of a request they have given up.
type source struct {
	desc    v1.Descriptor
	content io.ReadCloser
	file    io.ReaderAt // content, if it is one

	mu     sync.Mutex
	hash   hash.Hash
	hashed int64        // bytes that went into hash
	start  []byte       // the first of these, as many as gzipMagic has
	check  *diffIDCheck // nil where there is nothing to check
	window []byte
	base   int64 // offset of window[0]
	err    error // why the source can't be read
}

// newSource opens a blob. A stream keeps up to window bytes. What is read is given to check, too.
func newSource(l v1.Layer, desc v1.Descriptor, window int64, check *diffIDCheck) (*source, error) {
	hasher, err := v1.Hasher(desc.Digest.Algorithm)
	if err != nil {
		return nil, err
	}
	content, err := l.Compressed()
	if err != nil {
		return nil, fmt.Errorf("opening it: %w", err)
	}
	s := &source{desc: desc, content: content, hash: hasher, check: check}
	if s.file, _ = content.(io.ReaderAt); s.file == nil {
		s.window = make([]byte, 0, max(0, min(window, desc.Size)))
	}
	return s, nil
}

// release says that nothing before off will be asked for again.
func (s *source) release(off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if used := off - s.base; s.file == nil && 0 < used && used <= int64(len(s.window)) {
		s.window = s.window[:copy(s.window, s.window[used:])]
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

// given is how many bytes of the blob were read so far.
func (s *source) given() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hashed
}

func (s *source) read(p []byte, off int64) (n int, err error) {
	switch p = p[:min(int64(len(p)), s.desc.Size-off)]; {
	case off > s.hashed || off < s.base:
		return 0, errRewound
	case s.file != nil:
		n, err = s.file.ReadAt(p, off)
	case off < s.base+int64(len(s.window)):
		n = copy(p, s.window[off-s.base:])
	default:
		n, err = s.next(p)
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("it ends after %d of %d bytes", off, s.desc.Size)
	}
	return n, err
}

// next reads from the stream, through the window.
func (s *source) next(p []byte) (int, error) {
	free := s.window[len(s.window):cap(s.window)]
	free = free[:min(len(free), len(p))]
	n, err := io.ReadAtLeast(s.content, free, 1)
	s.window = s.window[:len(s.window)+n]
	return copy(p, free[:n]), err
}

// verify tells whether all of the blob was read and was what its digest says, and, if it is to be checked, its diff ID.
func (s *source) verify() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := fmt.Sprintf("%s:%x", s.desc.Digest.Algorithm, s.hash.Sum(nil))
	if s.hashed != s.desc.Size || got != s.desc.Digest.String() {
		return fmt.Errorf("it is damaged: its %d bytes hash to %s", s.hashed, got)
	}
	return s.check.finish()
}

// gzipMagic is what gzip's format begins with (RFC 1952, section 2.3.1).
const gzipMagic = "\x1f\x8b"

// isGzip tells whether what was read began like that.
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

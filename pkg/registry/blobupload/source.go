package blobupload

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/registry/layercheck"
)

// errRevoked ends a read by a transport that was given up.
var errRevoked = errors.New("the request was given up")

// finalError is an error that no other request can correct: the blob can't be read, or its content is wrong.
type finalError struct{ error }

// Unwrap returns the error itself.
func (e *finalError) Unwrap() error { return e.error }

// passingError is a refusal that the registry may take back by itself.
type passingError struct{ error }

// Unwrap returns the refusal.
func (e *passingError) Unwrap() error { return e.error }

// maxRead bounds the bytes of a read, and so what a check may hold in memory.
const maxRead = 64 << 10

// source reads a blob from any offset, and verifies each byte when it is read for the first time. To read bytes again,
// it seeks if the content is an io.Seeker. Otherwise it opens the blob again and skips to the offset.
type source struct {
	blob  Blob
	check *layercheck.Check // nil for none
	fresh func(reach int64) // is called with the end of the bytes that were read for the first time

	ahead func() (io.ReadCloser, error) // gives what openAhead opens; nil if it didn't, or was taken

	mu      sync.Mutex
	content io.ReadCloser // nil before the first read
	next    int64         // offset of the byte that content gives next
	current *sourceReader // the only one that may read
	hash    hash.Hash
	hashed  int64  // bytes that went into hash
	start   []byte // the first bytes, from prepare
	err     error  // why the source can't be read

	compression string // of the blob, by its first bytes
}

// newSource returns a source whose blob is opened by openAhead, or by the first read. A layer is looked into, if
// decompress isn't nil.
func newSource(b Blob, decompress layercheck.Decompressor, fresh func(reach int64)) (*source, error) {
	hasher, err := v1.Hasher(b.Descriptor.Digest.Algorithm)
	if err != nil {
		return nil, err
	}
	s := &source{blob: b, fresh: fresh, hash: hasher}
	if (b.Inspect || b.DiffID != v1.Hash{}) && decompress != nil {
		s.check = layercheck.Start(b.DiffID, decompress)
	}
	return s, nil
}

// openAhead starts to open the blob, so that its first bytes are ready when the registry asks for them.
func (s *source) openAhead() {
	s.ahead = sync.OnceValues(s.blob.Open)
	go ignore(s.ahead) // the first read gets the same
}

// ignore calls open and discards its result, even a panic.
func ignore(open func() (io.ReadCloser, error)) {
	_ = parallel.Guard(func() error { _, err := open(); return err })
}

// headerSize is more than the header of any compressed stream, in bytes.
const headerSize = 2 * maxRead

// prepare reads the start of a layer and waits until its decompressor has started. The decompressor may wait for memory
// longer than a registry waits for the rest of a request.
func (s *source) prepare(ctx context.Context) error {
	if s.check == nil || s.hashed > 0 || s.blob.Descriptor.Size <= headerSize {
		return nil
	}
	start := make([]byte, headerSize) // by few reads: a check that hasn't begun takes no more than layercheck.MaxBlocks
	if _, err := io.ReadFull(s.open(0, headerSize), start); err != nil {
		return err
	}
	s.start = start
	return s.check.WaitBegun(ctx)
}

// open returns a reader of the bytes [start, end), and makes earlier readers fail.
func (s *source) open(start, end int64) *sourceReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = &sourceReader{source: s, off: start, end: end}
	return s.current
}

// revoke makes all readers fail and returns the error of an earlier read, nil if there was none. An HTTP transport may
// continue to read the body of a request that it has given up. After revoke returns, it can't.
func (s *source) revoke() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = nil
	return s.err
}

// sourceReader reads a range of a source.
type sourceReader struct {
	source   *source
	off, end int64
}

// Read implements [io.Reader]. It fails after revoke.
func (r *sourceReader) Read(p []byte) (int, error) {
	s := r.source
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.current != r:
		return 0, errRevoked
	case r.off == r.end:
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.off, maxRead)]
	if r.off < int64(len(s.start)) {
		n := copy(p, s.start[r.off:])
		r.off += int64(n)
		return n, nil
	}
	n, err := s.read(p, r.off)
	r.off += int64(n)
	return n, err
}

// offset returns the offset of the next byte.
func (r *sourceReader) offset() int64 {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	return r.off
}

// Close leaves the source to the next reader.
func (r *sourceReader) Close() error { return nil }

// read reads bytes at an offset.
func (s *source) read(p []byte, off int64) (n int, err error) {
	if err = s.moveTo(off); err == nil {
		n, err = io.ReadAtLeast(s.content, p, min(len(p), layercheck.MagicSize))
		s.next += int64(n)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("the blob ends after %d of %d bytes", s.next, s.blob.Descriptor.Size)
		fallthrough
	case err != nil:
		s.err = &finalError{fmt.Errorf("reading the blob: %w", err)}
		return 0, s.err
	}
	if beyond := s.next - s.hashed; beyond > 0 {
		fresh := p[int64(n)-beyond : n]
		_, _ = s.hash.Write(fresh) // it never fails
		s.check.Write(fresh)
		if s.hashed == 0 {
			s.compression = layercheck.CompressionOf(fresh)
		}
		s.hashed += beyond
		s.fresh(s.hashed)
	}
	return n, nil
}

// moveTo moves the content to an offset.
func (s *source) moveTo(off int64) (err error) {
	if s.content != nil && off == s.next {
		return nil
	}
	if seeker, ok := s.content.(io.Seeker); ok {
		s.next, err = seeker.Seek(off, io.SeekStart)
		return err
	}
	if s.content != nil && off < s.next {
		_, s.content = s.content.Close(), nil
	}
	if s.content == nil {
		open := s.blob.Open
		if s.ahead != nil {
			open, s.ahead = s.ahead, nil
		}
		if s.content, err = open(); err != nil {
			return err
		}
		s.next = 0
	}
	skipped, err := io.CopyN(io.Discard, s.content, off-s.next)
	s.next += skipped
	return err
}

// verify returns an error unless the whole blob was read and has its digest and, if it is checked, its diff ID.
func (s *source) verify() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := fmt.Sprintf("%s:%x", s.blob.Descriptor.Digest.Algorithm, s.hash.Sum(nil))
	if s.hashed != s.blob.Descriptor.Size || got != s.blob.Descriptor.Digest.String() {
		return &finalError{
			fmt.Errorf("the blob is damaged: its %d bytes hash to %s; build or pull the image again", s.hashed, got),
		}
	}
	if err := s.check.Finish(); err != nil {
		return &finalError{err}
	}
	return nil
}

// close closes the content and ends the check.
func (s *source) close() {
	s.check.Abandon()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.content != nil {
		_ = s.content.Close() // nothing was written
	}
	if s.ahead != nil {
		go ignore(func() (io.ReadCloser, error) {
			content, err := s.ahead()
			if err == nil {
				err = content.Close()
			}
			return nil, err
		})
	}
}

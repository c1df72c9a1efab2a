package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// spool is a blob on its way: bytes written once, hashed as they come, and
// read again by offset. Its file has no name, so nothing is left of it
// however the process ends.
type spool struct {
	file *os.File
	hash hash.Hash
	size int64
}

// newSpool creates a spool in dir, or in the system's folder for temporary
// files if dir is empty. A container from scratch has no such folder yet.
func newSpool(dir string) (*spool, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder for compressed layers; set TMPDIR to one that can be written: %w", err)
	}
	file, err := os.CreateTemp(dir, "upload-resource-*")
	if err != nil {
		return nil, fmt.Errorf("cannot make a file for compressed layers; set TMPDIR to a folder that can be written: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("cannot hide the file for compressed layers: %w", err)
	}
	return &spool{file: file, hash: sha256.New()}, nil
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("cannot write compressed layers; make room or set TMPDIR to a folder with more of it: %w", err)
	}
	return n, nil
}

// spoolAll returns a spool with all that r has.
func spoolAll(r io.Reader) (*spool, error) {
	s, err := newSpool("")
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(s, r); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot read it to its end: %w", err), s.close())
	}
	return s, nil
}

// digest returns the digest of what was written so far.
func (s *spool) digest() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(s.hash.Sum(nil))}
}

// open returns a reader over all that was written; it is also an
// [io.ReaderAt] and an [io.Seeker], and any number of them work at once.
func (s *spool) open() io.ReadCloser { return spoolReader{s.section()} }

func (s *spool) section() *io.SectionReader { return io.NewSectionReader(s.file, 0, s.size) }

func (s *spool) close() error { return s.file.Close() }

type spoolReader struct{ *io.SectionReader }

func (spoolReader) Close() error { return nil }

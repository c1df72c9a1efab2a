// Package spool stores bytes in temporary files without names: written once,
// and read again by offset. However the process ends, the system frees their space.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// File is bytes in a temporary file without a name. Close it to free its space.
type File struct {
	file *os.File
	size int64
}

// another says how to choose another folder. A container action sees the workspace, whose disk is the runner's; a
// folder that doesn't exist is created.
const another = " (in a workflow, TMPDIR: ${{ github.workspace }}/tmp below env: of the step)"

// New creates an empty file in the system's folder for temporary files, TMPDIR.
// A container from scratch has no such folder yet.
func New() (*File, error) {
	dir := os.TempDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create the folder for temporary files: %w; set TMPDIR to one that can be written"+another, err)
	}
	file, err := os.CreateTemp(dir, "upload-resource-*")
	if err != nil {
		return nil, fmt.Errorf("cannot create a temporary file: %w; set TMPDIR to a folder that can be written"+another, err)
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("cannot remove the name of a temporary file: %w; set TMPDIR to another folder"+another, err)
	}
	return &File{file: file}, nil
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.size += int64(n)
	if err != nil {
		return n, &writeError{err}
	}
	return n, nil
}

// writeError is about the file, whatever was copied to it.
type writeError struct{ error }

func (e *writeError) Error() string {
	return fmt.Sprintf("cannot write a temporary file: %v; free disk space, or set TMPDIR to a folder that has more of it"+another, e.error)
}

func (e *writeError) Unwrap() error { return e.error }

// Copy returns a file with everything that r has.
func Copy(r io.Reader) (*File, error) {
	f, err := New()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, r); err != nil {
		if _, full := errors.AsType[*writeError](err); !full {
			err = fmt.Errorf("cannot read the content to its end: %w", err)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Size returns how many bytes were written so far.
func (f *File) Size() int64 { return f.size }

// Open returns a reader over all that was written. Any number of them work at
// once; closing one leaves the file as it is.
func (f *File) Open() Reader { return Reader{io.NewSectionReader(f.file, 0, f.size)} }

// Close frees the file's space.
func (f *File) Close() error { return f.file.Close() }

// Reader reads a File from its beginning, or by offset.
type Reader struct{ *io.SectionReader }

// Close does nothing.
func (Reader) Close() error { return nil }

// Package spool stores data in temporary files that have no name. A file is written once and can then be read any
// number of times. The operating system frees its disk space when the process ends, even if the process is killed.
package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// File is a temporary file without a name. Close it to free its disk space. Its methods must not be called
// concurrently, but the readers that [File.Open] returns are independent of each other.
type File struct {
	file *os.File
	size int64 // bytes written
}

// tmpdirHint tells the author of a workflow how to choose another folder. The workspace is on the runner's disk, and a
// container action can write to it. New creates the folder if it doesn't exist.
const tmpdirHint = " (in a workflow, TMPDIR: ${{ github.workspace }}/tmp below env: of the step)"

// New creates an empty file in the folder that TMPDIR names, by default /tmp. It creates the folder if necessary,
// because an image that was built from scratch has none. Errors say how to choose another folder.
func New() (*File, error) {
	dir := os.TempDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create the folder for temporary files: %w; "+
			"set TMPDIR to one that can be written"+tmpdirHint, err)
	}
	file, err := os.CreateTemp(dir, "upload-resource-*")
	if err != nil {
		return nil, fmt.Errorf("cannot create a temporary file: %w; "+
			"set TMPDIR to a folder that can be written"+tmpdirHint, err)
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("cannot remove the name of a temporary file: %w; "+
			"set TMPDIR to another folder"+tmpdirHint, err)
	}
	return &File{file: file}, nil
}

// Write appends p to the file. An error suggests how to get more disk space. It implements [io.Writer].
func (f *File) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.size += int64(n)
	if err != nil {
		return n, &writeError{err}
	}
	return n, nil
}

// writeError is a failure to write the file, as opposed to a failure to read the data that is copied to it.
type writeError struct{ error }

// Error returns the cause with advice about disk space.
func (e *writeError) Error() string {
	return fmt.Sprintf("cannot write a temporary file: %v; "+
		"free disk space, or set TMPDIR to a folder that has more of it"+tmpdirHint, e.error)
}

// Unwrap returns the cause.
func (e *writeError) Unwrap() error { return e.error }

// Copy returns a new file that holds all data of r. An error is either r's or about disk space. After an error no file
// is left.
func Copy(r io.Reader) (*File, error) {
	f, err := New()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, r); err != nil {
		if _, ok := errors.AsType[*writeError](err); !ok {
			err = fmt.Errorf("cannot read the content to its end: %w", err)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Size returns the number of bytes that were written so far.
func (f *File) Size() int64 { return f.size }

// Open returns a reader of the bytes that were written so far. Several readers can be used at the same time. They are
// usable until the file is closed.
func (f *File) Open() Reader { return Reader{io.NewSectionReader(f.file, 0, f.size)} }

// Close frees the file's disk space. Readers fail afterwards.
func (f *File) Close() error { return f.file.Close() }

// Reader reads a [File] sequentially or by offset.
type Reader struct{ *io.SectionReader }

// Close implements [io.Closer] and does nothing: the file stays open for other readers.
func (Reader) Close() error { return nil }

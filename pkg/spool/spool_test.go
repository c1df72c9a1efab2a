package spool

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// TestFileIsReadByOffset checks that readers see the data that was written before they were opened, independently of
// each other.
func TestFileIsReadByOffset(t *testing.T) {
	file, err := Copy(strings.NewReader("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := file.Open(), file.Open()
	if _, err := io.CopyN(io.Discard, first, 5); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("closing a reader: %v", err)
	}
	if got, err := io.ReadAll(second); err != nil || string(got) != "0123456789" {
		t.Errorf("the second reader has %q, %v", got, err)
	}
	middle := make([]byte, 3)
	if _, err := second.ReadAt(middle, 4); err != nil || string(middle) != "456" {
		t.Errorf("bytes 4 to 6 are %q, %v", middle, err)
	}
	if _, err := file.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	if got := [3]int64{file.Size(), file.Open().Size(), second.Size()}; got != [3]int64{12, 12, 10} {
		t.Errorf("sizes of the file, a new reader and an old one are %d, want 12, 12, 10", got)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if _, err := file.Open().Read(middle); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading a closed file: error %v, want %v", err, os.ErrClosed)
	}
}

// TestFilesHaveNoNames checks that a missing TMPDIR is created, and that nothing is left in it.
func TestFilesHaveNoNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	t.Setenv("TMPDIR", dir)
	file, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("the folder has %v, %v; want nothing", names, err)
	}
}

// TestErrorsSayWhatToDo checks the advice of each error, and that errors of the source have none about disk space.
func TestErrorsSayWhatToDo(t *testing.T) {
	broken := errors.New("broken")
	_, err := Copy(iotest.ErrReader(broken))
	if !errors.Is(err, broken) || strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("a source that fails: error %q, want it without advice about TMPDIR", err)
	}
	file, err := New()
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	_, err = file.Write([]byte("x"))
	if !errors.Is(err, os.ErrClosed) || !strings.Contains(err.Error(), "free disk space, or set TMPDIR") {
		t.Errorf("a write that fails: error %q, want advice about disk space", err)
	}
	occupied := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", occupied)
	_, err = New()
	if err == nil || !strings.Contains(err.Error(), "set TMPDIR to one that can be written (in a workflow, TMPDIR: ") {
		t.Errorf("TMPDIR is a file: error %v, want advice about TMPDIR", err)
	}
}

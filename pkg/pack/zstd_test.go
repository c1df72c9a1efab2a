package pack

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// failingWriter is a writer that always fails with err.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestZstdStopsWithItsWriter: nothing is compressed for a disk that is full.
func TestZstdStopsWithItsWriter(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	w, err := newZstdWriter(failingWriter{full})
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(w, io.LimitReader(rand.NewChaCha8([32]byte{}), 1<<30))
	if !errors.Is(err, full) || n > 256<<20 {
		t.Errorf("%d bytes were compressed, error %v", n, err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("closed with %v", err)
	}
}

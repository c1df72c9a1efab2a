package upload

import (
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync/atomic"
)

// Verified returns a function that opens content and verifies its digest. Reading fails at the end if the content
// changed after it was hashed. Progress is called with the number of bytes read; opening the content again first takes
// back what it counted.
func Verified[H hash.Hash](
	open func() (io.ReadCloser, error), newHash func() H, want string, progress func(bytes int64),
) func() (io.ReadCloser, error) {
	var read atomic.Int64
	return func() (io.ReadCloser, error) {
		file, err := open()
		if err != nil {
			return nil, err
		}
		progress(-read.Swap(0))
		return &verifiedContent{file, newHash(), want, func(n int64) { read.Add(n); progress(n) }}, nil
	}
}

// verifiedContent is a reader that [Verified] opens.
type verifiedContent struct {
	io.ReadCloser
	hash     hash.Hash
	want     string
	progress func(bytes int64)
}

// Read implements [io.Reader]. At the end it fails if the content doesn't have the wanted digest.
func (v *verifiedContent) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.progress(int64(n))
	_, _ = v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(v.hash.Sum(nil)) != v.want {
		return n, errors.New("the content changed after its digest was computed; let nothing write to it during the run")
	}
	return n, err
}

package upload

import (
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync/atomic"
)

// Verified opens content to be sent. Reading it fails at its end if it is not what
// was hashed, since a file may be written to in between. Progress is called with
// what is read; content that is opened anew is sent from its start.
func Verified[H hash.Hash](open func() (io.ReadCloser, error), newHash func() H, want string, progress func(bytes int64)) func() (io.ReadCloser, error) {
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

type verifiedContent struct {
	io.ReadCloser
	hash     hash.Hash
	want     string
	progress func(bytes int64)
}

func (v *verifiedContent) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.progress(int64(n))
	_, _ = v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && hex.EncodeToString(v.hash.Sum(nil)) != v.want {
		return n, errors.New("the content changed after its digest was computed; let nothing write to it during the run")
	}
	return n, err
}

package blobupload

import (
	"net/http"
	"testing"
)

// FuzzRange: whatever a registry says that it has of an upload, it is no negative number of bytes.
func FuzzRange(f *testing.F) {
	for _, header := range []string{
		"0-0", "0-1023", "0-9223372036854775807", "0--1", "bytes=0-5", "1-2", "0-99999999999999999999",
	} {
		f.Add(header, int64(0))
		f.Add(header, int64(1))
	}
	f.Fuzz(func(t *testing.T, header string, silent int64) {
		answer := Head{&http.Response{Header: http.Header{"Range": {header}}}}
		if received, err := parseRange(answer, max(silent, 0)); err == nil && received < 0 {
			t.Errorf("%q is %d bytes", header, received)
		}
	})
}

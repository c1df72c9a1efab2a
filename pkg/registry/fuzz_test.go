package registry

import (
	"net/http"
	"testing"
)

// FuzzRange: however a registry says where an upload stands, that is no place
// before its beginning.
func FuzzRange(f *testing.F) {
	for _, header := range []string{"0-0", "0-1023", "0-9223372036854775807", "0--1", "bytes=0-5", "1-2", "0-99999999999999999999"} {
		f.Add(header, int64(0))
		f.Add(header, int64(1))
	}
	f.Fuzz(func(t *testing.T, header string, silent int64) {
		answer := &http.Response{Header: http.Header{"Range": {header}}}
		if stands, err := standing(reply{answer}, max(silent, 0)); err == nil && stands < 0 {
			t.Errorf("%q stands at %d", header, stands)
		}
	})
}

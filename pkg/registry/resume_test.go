package registry

import (
	"net/http"
	"testing"
	"time"
)

// TestPauseAskedFor: what a registry asks for is kept within bounds, also in
// numbers of seconds that time can't count.
func TestPauseAskedFor(t *testing.T) {
	t.Parallel()
	tests := map[string]time.Duration{
		"0":                   0,
		"7":                   7 * time.Second,
		"604800":              maxRetryAfter,
		"9223372036854775807": 0,
		"-1":                  firstWait,
		"soon":                firstWait,
		"":                    firstWait,
	}
	for header, want := range tests {
		res := reply{&http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {header}}}}
		if got := pause(1, res); got < want || got > want*5/4 {
			t.Errorf("Retry-After %q makes the pause %s, want %s and up to a quarter more", header, got, want)
		}
	}
}

// TestChunksGrowAgain: after many chunks that arrived, up to the first size.
func TestChunksGrowAgain(t *testing.T) {
	t.Parallel()
	u := &upload{chunk: chunkMin}
	u.desc.Size = 200 << 20
	for range soundChunks - 1 {
		u.grow()
	}
	if u.chunk != chunkMin {
		t.Errorf("a chunk is %d bytes after %d, want %d", u.chunk, soundChunks-1, chunkMin)
	}
	for range 10 * soundChunks {
		u.grow()
	}
	if want := firstChunk(u.desc.Size); u.chunk != want {
		t.Errorf("a chunk is %d bytes in the end, want %d", u.chunk, want)
	}
}

package e2e

import (
	"strconv"
	"sync"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// allAtOnce runs tests beside each other, however many processors there are.
func allAtOnce(t *testing.T, n int, test func(t *testing.T, n int)) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { t.Run(strconv.Itoa(i), func(t *testing.T) { test(t, i) }) })
	}
	wg.Wait()
}

// TestSameImageAtOnce: all agree on one revision.
func TestSameImageAtOnce(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testSameImageAtOnce)
}

func testSameImageAtOnce(t *testing.T, options server.Options) {
	t.Helper()
	options.ReviewDelay, options.ListLag = 5, 3
	archive := writeArchive(t, 200_000, 3)
	sandbox := startSandbox(t, options)
	var digests [20]string
	allAtOnce(t, len(digests), func(t *testing.T, n int) {
		t.Helper()
		r := action(t, sandbox, "resource="+imageResource, "image="+archive)
		r.succeeded(t)
		r.has(t, map[string]string{"revision": "1"})
		digests[n] = r.outputs["remote-digest"]
	})
	for n, digest := range digests {
		if digest == "" || digest != digests[0] {
			t.Errorf("run %d ended in digest %q, the first in %q", n, digest, digests[0])
		}
	}
	if n := len(sandbox.Revisions(charm, imageResource)); n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

// TestDifferentImagesAtOnce: each has its own revision.
func TestDifferentImagesAtOnce(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testDifferentImagesAtOnce)
}

func testDifferentImagesAtOnce(t *testing.T, options server.Options) {
	t.Helper()
	options.ReviewDelay = 3
	archives := []string{writeArchive(t, 200_000, 2), writeArchive(t, 200_000, 2), writeArchive(t, 200_000, 2)}
	sandbox := startSandbox(t, options)
	var mu sync.Mutex
	made := map[string]string{} // digests by revision
	allAtOnce(t, len(archives), func(t *testing.T, n int) {
		t.Helper()
		r := action(t, sandbox, "resource="+imageResource, "image="+archives[n])
		r.succeeded(t)
		r.has(t, map[string]string{"revision-created": "true"})
		mu.Lock()
		defer mu.Unlock()
		made[r.outputs["revision"]] = r.outputs["remote-digest"]
	})
	if len(made) != len(archives) || len(sandbox.Revisions(charm, imageResource)) != len(archives) {
		t.Errorf("the runs made %v, want a revision each", made)
	}
}

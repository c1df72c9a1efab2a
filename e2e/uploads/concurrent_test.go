package uploads

import (
	"sync"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestSameImageAtOnce: all agree on one revision.
func TestSameImageAtOnce(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testSameImageAtOnce)
}

// testSameImageAtOnce uploads one image in many runs at once, and checks that they end with the same single revision.
func testSameImageAtOnce(t *testing.T, options server.Options) {
	t.Helper()
	options.ReviewDelay, options.ListLag = 5, 3
	archive := harness.WriteImageArchive(t, 200_000, 3)
	sandbox := harness.StartSandbox(t, options)
	var digests [20]string
	harness.AllAtOnce(t, len(digests), func(t *testing.T, n int) {
		t.Helper()
		r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"revision": "1"})
		digests[n] = r.Outputs["remote-digest"]
	})
	for n, digest := range digests {
		if digest == "" || digest != digests[0] {
			t.Errorf("run %d ended in digest %q, the first in %q", n, digest, digests[0])
		}
	}
	if n := len(sandbox.Revisions(harness.Charm, harness.ImageResource)); n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

// TestDifferentImagesAtOnce: each has its own revision.
func TestDifferentImagesAtOnce(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testDifferentImagesAtOnce)
}

// testDifferentImagesAtOnce uploads several images at once, and checks that each gets a revision of its own.
func testDifferentImagesAtOnce(t *testing.T, options server.Options) {
	t.Helper()
	options.ReviewDelay = 3
	archives := []string{harness.WriteImageArchive(t, 200_000, 2), harness.WriteImageArchive(t, 200_000, 2),
		harness.WriteImageArchive(t, 200_000, 2)}
	sandbox := harness.StartSandbox(t, options)
	var mu sync.Mutex
	made := map[string]string{} // digests by revision
	harness.AllAtOnce(t, len(archives), func(t *testing.T, n int) {
		t.Helper()
		r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archives[n])
		r.Succeeded(t)
		r.HasOutputs(t, map[string]string{"revision-created": "true"})
		mu.Lock()
		defer mu.Unlock()
		made[r.Outputs["revision"]] = r.Outputs["remote-digest"]
	})
	if len(made) != len(archives) || len(sandbox.Revisions(harness.Charm, harness.ImageResource)) != len(archives) {
		t.Errorf("the runs made %v, want a revision each", made)
	}
}

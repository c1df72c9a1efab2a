package store

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// TestReleaseWithOddRows: a charm revision that declares less than the one before it is released with what it declares,
// whichever rows the store lists of a charm's resources.
func TestReleaseWithOddRows(t *testing.T) {
	t.Parallel()
	for _, rows := range []server.Rows{
		server.RowsOfRevision, server.RowsOfNewest, server.RowsInPart, server.RowsOfOthers, server.RowsOfAll,
	} {
		t.Run(string(rows), func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartCharm(t, server.Options{Rows: rows}, []server.ReleaseBase{harness.Noble})
			const less = "name: my-charm\nresources: {my-image: {type: oci-image}}\n"
			sandbox.PutCharm(harness.Charm, strings.NewReader(charmtest.File(t, less, harness.Noble)))
			entry := server.Release{
				Channel: "latest/edge", Base: harness.Noble, Revision: 1,
				Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1},
			}
			sandbox.PutRelease(harness.Charm, entry)
			r := harness.Release(t, sandbox, "charm-revision=2", "channel=edge", "resources=my-image:2")
			if r.Exit != 0 {
				t.Fatalf("exit %d:\n%s", r.Exit, harness.WithoutMasks(r.Log))
			}
			entry.Revision, entry.Resources = 2, harness.ResourceRevisions{harness.ImageResource: 2}
			harness.HasReleases(t, sandbox, entry)
		})
	}
}

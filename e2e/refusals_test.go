package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestReviewThatNeedsAPerson: a run doesn't wait for half an hour where a person has to decide. It says who, on which
// revision, and that another run picks it up.
func TestReviewThatNeedsAPerson(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	writeFile(t, path, "content")
	sandbox := startSandbox(t, server.Options{InMemory: true, NeverReview: true})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if !strings.HasSuffix(r.Path, "/revisions/review") {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: fmt.Sprintf(
			`{"revisions":[{"errors":null,"revision":4,"status":"needs_review","upload-id":%q}]}`, r.Query.Get("upload-id"))}
	})
	r := action(t, sandbox, "resource="+fileResource, "filepath="+path)
	r.failed(t, sandbox, "it stays at the status 'needs_review'", "somebody at Charmhub must decide on revision 4",
		"run this again when it is approved, which picks up the revision")
}

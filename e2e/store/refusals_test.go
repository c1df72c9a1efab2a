package store

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestReviewThatNeedsAPerson: a run doesn't wait for half an hour where a person has to decide. It says who, on which
// revision, and that another run picks it up.
func TestReviewThatNeedsAPerson(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "content")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true, NeverReview: true})
	sandbox.Fault(func(r server.Request) *server.Fault {
		if !strings.HasSuffix(r.Path, "/revisions/review") {
			return nil
		}
		return &server.Fault{Status: http.StatusOK, Body: fmt.Sprintf(
			`{"revisions":[{"errors":null,"revision":4,"status":"needs_review","upload-id":%q}]}`, r.Query.Get("upload-id"))}
	})
	r := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
	r.Failed(t, sandbox, "it stays at the status 'needs_review'", "somebody at Charmhub must decide on revision 4",
		"run this again when it is approved, which picks up the revision")
}

// TestRefusalsNameWhatHelps: a refusal says which permissions or which charmcraft make a token that works, and by which
// ID the store's operators find the request.
func TestRefusalsNameWhatHelps(t *testing.T) {
	t.Parallel()
	layout := harness.WriteLayout(t, harness.PlatformImage(t, "linux/amd64"))
	const wide = "charmcraft login --export=token.txt --charm=my-charm --permission=package-manage " +
		"--permission=package-view --ttl=7776000"
	for name, test := range map[string]struct {
		path, code, message string
		status              int
		want                []string
	}{
		"upload credentials": {"/oci-image/upload-credentials", "permission-required", "Package access not allowed", 403,
			[]string{"may lack the permission package-manage", wide}},
		"text": {"/oci-image/blob", "permission-required", "Package access not allowed", 403,
			[]string{"may lack the permission package-manage", wide}},
		"review": {"/revisions/review", "permission-required", "Package access not allowed", 403,
			[]string{"lacks the permission package-view-revisions; make one with `charmcraft login --export=token.txt " +
				"--charm=my-charm "}},
		"older token": {"/resources", "BadRequest", "Invalid macaroon", 400,
			[]string{"update charmcraft to 4.4 or later, and make a new one with `charmcraft login --export=token.txt " +
				"--charm=my-charm "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			sandbox.Fault(func(r server.Request) *server.Fault {
				if !strings.HasSuffix(r.Path, test.path) {
					return nil
				}
				return &server.Fault{
					Status: test.status, Header: http.Header{"X-Request-Id": {"0a1b2c"}},
					Body: fmt.Sprintf(`{"error-list":[{"code":%q,"message":%q}]}`, test.code, test.message),
				}
			})
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+layout)
			r.Failed(t, sandbox, append(test.want, test.message+" (request 0a1b2c)")...)
		})
	}
}

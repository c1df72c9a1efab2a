package hostile

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestSecretsThatComeBack: servers and what is in front of them can put into
// an error what they were sent.
func TestSecretsThatComeBack(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	for _, where := range []string{"store", "storage", "registry", "auth"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			sandbox.Fault(echo(where, sandbox.Secrets))
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
			if r.Exit != 1 || harness.CountErrors(r) != 1 {
				t.Errorf("exit %d, want 1 with one error:\n%s", r.Exit, r.Log)
			}
		})
	}
}

// echo refuses every request to a server but those that only look, with an
// answer that holds all that was in the request's header and all secrets.
func echo(where string, secrets func() []string) func(server.Request) *server.Fault {
	var mu sync.Mutex
	return func(r server.Request) *server.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.Server != where || where == "registry" && r.Method != http.MethodPut && r.Method != http.MethodPost {
			return nil
		}
		message := r.Header.Get("Authorization") + " " + strings.Join(secrets(), " ")
		return &server.Fault{Status: http.StatusForbidden, Body: fmt.Sprintf(
			`{"error-list":[{"code":"no","message":%q}],"errors":[{"code":"DENIED","message":%q}]}`, message, message)}
	}
}

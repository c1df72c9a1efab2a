package workflows

import (
	"fmt"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestRunnerHidesSecrets: what the runner is asked to hide includes every
// secret that came into the run, whichever format the token has.
func TestRunnerHidesSecrets(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	formats := []server.Format{
		server.FormatTyped, server.FormatBare, server.FormatDeveloper,
		server.FormatSSO, server.FormatSSOPair, server.FormatJSON,
	}
	for _, format := range formats {
		t.Run(fmt.Sprintf("format %d", format), func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			token := "store-token=" + sandbox.Mint(server.Grant{Format: format, DischargeLife: -1})
			before := len(sandbox.Secrets())
			r := harness.Upload(t, sandbox, token, "resource="+harness.ImageResource, "image="+archive)
			r.Succeeded(t)
			given := sandbox.Secrets()[before:]
			if len(given) == 0 {
				t.Fatal("the sandbox gave out no secret")
			}
			for _, secret := range given {
				if !strings.Contains(r.Log, harness.MaskCommand+secret+"\n") {
					t.Errorf("the runner was not asked to hide %s…", secret[:6])
				}
			}
		})
	}
}

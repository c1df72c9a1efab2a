package store

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// pastes are what becomes of a token on its way through terminals, editors and
// web forms.
var pastes = map[string]func(string) string{
	"as it is":     func(token string) string { return token },
	"with its end": func(token string) string { return token + "\n" },
	"wrapped":      func(token string) string { return wrapped(token, "\n") },
	"quoted":       func(token string) string { return `"` + token + `"` },
	"indented":     func(token string) string { return "  " + wrapped(token, "\n  ") + " \t" },
	"from Windows": func(token string) string { return "'" + wrapped(token, "\r\n") + "'\r\n" },
}

// wrapped breaks text into lines of 76 characters, as base64(1) does.
func wrapped(text, lineBreak string) string {
	var lines []string
	for line := range slices.Chunk([]byte(text), 76) {
		lines = append(lines, string(line))
	}
	return strings.Join(lines, lineBreak)
}

// TestTokens: each format, pasted in each way, is good for the whole run; the
// sandbox checks every signature and that a discharge is bound to its root. What
// has to be exchanged or refreshed is so once.
func TestTokens(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		grant              server.Grant
		exchanged, renewed int
	}{
		"bare":                       {server.Grant{Format: server.FormatBare}, 0, 0},
		"typed":                      {server.Grant{Format: server.FormatTyped}, 0, 0},
		"developer":                  {server.Grant{Format: server.FormatDeveloper}, 0, 0},
		"single sign-on":             {server.Grant{Format: server.FormatSSO}, 1, 0},
		"single sign-on, expired":    {server.Grant{Format: server.FormatSSO, DischargeLife: -time.Hour}, 1, 1},
		"pair of macaroons":          {server.Grant{Format: server.FormatSSOPair}, 1, 0},
		"pair of macaroons, expired": {server.Grant{Format: server.FormatSSOPair, DischargeLife: -time.Hour}, 1, 1},
		"JSON":                       {server.Grant{Format: server.FormatJSON}, 0, 0},
	}
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "content")
	for name, test := range tests {
		for way, paste := range pastes {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				token := paste(sandbox.Mint(test.grant))
				r := harness.Upload(t, sandbox, "store-token="+token, "resource="+harness.FileResource, "filepath="+path)
				r.Succeeded(t)
				r.HasOutputs(t, map[string]string{"revision": "1"})
				if strings.Contains(harness.WithoutMasks(r.Log), token) {
					t.Error("the log has the token as it was pasted")
				}
				if n := harness.CountAnswered(sandbox, "/v1/tokens/usso/exchange"); n != test.exchanged {
					t.Errorf("the token was exchanged %d times, want %d", n, test.exchanged)
				}
				if n := harness.CountAnswered(sandbox, "/api/v2/tokens/refresh"); n != test.renewed {
					t.Errorf("the token was refreshed %d times, want %d", n, test.renewed)
				}
			})
		}
	}
}

// TestTokenExpiresWithinTheRun: a token that the store no longer takes is
// refreshed once, whatever asks for it at the same time, and what comes of it
// serves until the end.
func TestTokenExpiresWithinTheRun(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	var expired harness.Once
	sandbox.Fault(func(r server.Request) *server.Fault {
		if strings.HasSuffix(r.Path, "/oci-image/blob") && expired.First() {
			return &server.Fault{Status: http.StatusUnauthorized,
				Body: `{"error-list":[{"code":"macaroon-needs-refresh","message":"Expired macaroon"}]}`}
		}
		return nil
	})
	token := sandbox.Mint(server.Grant{Format: server.FormatSSO})
	r := harness.Upload(t, sandbox, "store-token="+token, "resource="+harness.ImageResource,
		"image="+harness.WriteImageArchive(t, 1000, 1))
	r.Succeeded(t)
	if n := harness.CountAnswered(sandbox, "/api/v2/tokens/refresh"); n != 1 {
		t.Errorf("the token was refreshed %d times, want once", n)
	}
	if n := harness.CountAnswered(sandbox, "/v1/tokens/usso/exchange"); n != 2 {
		t.Errorf("the token was exchanged %d times, want at the start and after the refresh", n)
	}
}

package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const maskCommand = "::add-mask::"

// checkSecrets fails the test if a run gave a secret away, of the sandbox or of
// its inputs: in what it printed or left, or in what it published. Every run of
// these tests is checked so.
func checkSecrets(t *testing.T, sandbox *server.Server, r result, inputs ...string) {
	t.Helper()
	secrets := secretInputs(inputs)
	if sandbox != nil {
		exposed, err := sandbox.Exposed(secrets...)
		if err != nil {
			t.Error(err)
		}
		for _, leak := range exposed {
			t.Error(leak)
		}
		secrets = append(secrets, sandbox.Secrets()...)
	}
	for _, leak := range leaks(t, secrets, r) {
		t.Error(leak)
	}
}

// secretInputs returns the secrets among inputs given as name=value, also in
// the form in which HTTP sends them.
func secretInputs(inputs []string) (secrets []string) {
	values := map[string]string{}
	for _, input := range inputs {
		name, value, _ := strings.Cut(input, "=")
		values[name] = value
	}
	if password := values["source-password"]; password != "" {
		secrets = append(secrets, password, base64.StdEncoding.EncodeToString([]byte(values["source-username"]+":"+password)))
	}
	for part := range strings.FieldsSeq(values["store-token"]) {
		if len(part) >= 20 { // a real one has hundreds, what a test calls a wrong one has few
			secrets = append(secrets, part)
		}
	}
	return secrets
}

// leaks looks for each secret in every byte that a run printed or left in a
// file. The one place for them is the command that tells the runner what to
// hide.
func leaks(t *testing.T, secrets []string, r result) (found []string) {
	t.Helper()
	left := map[string]string{"the log": withoutMasks(r.log)}
	for _, path := range filesBelow(t, r.dir) {
		left[path] = readFile(t, path)
	}
	for place, content := range left {
		for _, secret := range secrets {
			if strings.Contains(content, secret) {
				found = append(found, fmt.Sprintf("%s holds the secret %s…", place, secret[:6]))
			}
		}
	}
	return found
}

func withoutMasks(log string) string {
	var kept []string
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, maskCommand) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	const secret = "correct horse"
	clean := result{dir: t.TempDir(), log: maskCommand + secret + "\nnothing else\n"}
	if found := leaks(t, []string{secret}, clean); found != nil {
		t.Errorf("the mask command counts as a leak: %v", found)
	}
	leaky := result{dir: t.TempDir(), log: "::debug::it is " + secret + "\n"}
	writeFile(t, filepath.Join(leaky.dir, "summary"), "it is "+secret)
	if found := leaks(t, []string{secret}, leaky); len(found) != 2 {
		t.Errorf("%d leaks were found, want the log's and the file's: %v", len(found), found)
	}
}

// TestRunnerHidesSecrets: what the runner is asked to hide includes every
// secret that came into the run, whichever format the token has.
func TestRunnerHidesSecrets(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	formats := []server.Format{
		server.FormatTyped, server.FormatBare, server.FormatDeveloper,
		server.FormatSSO, server.FormatSSOPair, server.FormatJSON,
	}
	for _, format := range formats {
		t.Run(fmt.Sprintf("format %d", format), func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			token := "store-token=" + sandbox.Mint(server.Grant{Format: format, DischargeLife: -1})
			before := len(sandbox.Secrets())
			r := action(t, sandbox, token, "resource="+imageResource, "image="+archive)
			r.succeeded(t)
			given := sandbox.Secrets()[before:]
			if len(given) == 0 {
				t.Fatal("the sandbox gave out no secret")
			}
			for _, secret := range given {
				if !strings.Contains(r.log, maskCommand+secret+"\n") {
					t.Errorf("the runner was not asked to hide %s…", secret[:6])
				}
			}
		})
	}
}

// TestSecretsThatComeBack: servers and what is in front of them can put into
// an error what they were sent.
func TestSecretsThatComeBack(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	for _, where := range []string{"store", "storage", "registry", "auth"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			sandbox.Fault(echo(where, sandbox.Secrets))
			r := action(t, sandbox, "resource="+imageResource, "image="+archive)
			if r.exit != 1 || errorLines(r) != 1 {
				t.Errorf("exit %d, want 1 with one error:\n%s", r.exit, r.log)
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

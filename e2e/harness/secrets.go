package harness

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// MaskCommand is the workflow command that hides a text in the log.
const MaskCommand = "::add-mask::"

// CheckSecrets fails the test if a run gave a secret away, of the sandbox or of
// its inputs: in what it printed or left, or in what it published. Every run of
// these tests is checked so.
func CheckSecrets(t *testing.T, sandbox *server.Server, r Result, inputs ...string) {
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
	for _, leak := range Leaks(t, secrets, r) {
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

// Leaks looks for each secret in every byte that a run printed or left in a
// file. The one place for them is the command that tells the runner what to
// hide.
func Leaks(t *testing.T, secrets []string, r Result) (found []string) {
	t.Helper()
	left := map[string]string{"the log": WithoutMasks(r.Log)}
	for _, path := range filesBelow(t, r.Dir) {
		left[path] = ReadFile(t, path)
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

// WithoutMasks returns a log without the lines that hide secrets, since those hold them.
func WithoutMasks(log string) string {
	var kept []string
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, MaskCommand) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// filesBelow returns the paths of all files in the folder and in the folders below it.
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

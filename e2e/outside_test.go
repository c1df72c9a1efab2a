package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestOutsideActions: a person, root or not, gets the outputs printed, and no
// workflow command.
func TestOutsideActions(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	for name, user := range map[string]uint32{"as who runs the tests": uint32(os.Geteuid()), "as nobody": 65534} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if os.Geteuid() != 0 && int(user) != os.Geteuid() {
				t.Skip("only root can become nobody")
			}
			sandbox := startSandbox(t, server.Options{InMemory: true})
			dir := openFolder(t)
			writeFile(t, filepath.Join(dir, "image.tar"), readFile(t, archive))
			writeFile(t, filepath.Join(dir, "upload-resource"), readFile(t, program))
			chmod(t, filepath.Join(dir, "image.tar"), 0o644)
			chmod(t, filepath.Join(dir, "upload-resource"), 0o755)

			command := exec.CommandContext(t.Context(), "./upload-resource")
			command.Dir = dir
			command.Env = append(environment(sandbox, []string{"resource=" + imageResource, "image=image.tar"}), "TMPDIR="+dir)
			if int(user) != os.Geteuid() {
				command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
			}
			var log bytes.Buffer
			command.Stdout, command.Stderr = &log, &log
			if err := command.Run(); err != nil {
				t.Fatalf("%v:\n%s", err, log.String())
			}
			if strings.Contains("\n"+log.String(), "\n::") {
				t.Errorf("there are workflow commands:\n%s", log.String())
			}
			want := map[string]string{"revision": "1", "revision-created": "true", "resource-flags": "--resource=" + imageResource + ":1"}
			got := map[string]string{}
			for line := range strings.Lines(log.String()) {
				if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && want[name] != "" {
					got[name] = value
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("outputs (-want +got):\n%s\n%s", diff, log.String())
			}
		})
	}
}

// openFolder returns a folder that everybody may write to, unlike those that
// tests get otherwise.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "upload-resource-e2e-") //nolint:usetesting // those folders are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	chmod(t, dir, 0o777)
	return dir
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

package workflows

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/charmtest"
)

// TestOutsideActions: a person, root or not, gets the outputs printed, and no
// workflow command.
func TestOutsideActions(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	for name, user := range map[string]uint32{"as who runs the tests": uint32(os.Geteuid()), "as nobody": 65534} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if os.Geteuid() != 0 && int(user) != os.Geteuid() {
				t.Skip("only root can become nobody")
			}
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			dir := openFolder(t)
			harness.WriteFile(t, filepath.Join(dir, "image.tar"), harness.ReadFile(t, archive))
			chmod(t, filepath.Join(dir, "image.tar"), 0o644)
			// A program that was just written can't be run while another test starts a process, which inherits the open file.
			if err := os.Link(harness.Program, filepath.Join(dir, "upload-resource")); err != nil {
				t.Fatal(err)
			}

			command := exec.CommandContext(t.Context(), "./upload-resource")
			command.Dir = dir
			command.Env = append(harness.Environment(sandbox, []string{"resource=" + harness.ImageResource, "image=image.tar"}),
				"TMPDIR="+dir)
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
			want := map[string]string{"revision": "1", "revision-created": "true",
				"resource-flags": "--resource=" + harness.ImageResource + ":1"}
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

// chmod changes the mode of a file.
func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

var laptopCommand = regexp.MustCompile(`(?m)^    ((?:env \$\(cat sandbox\.env\) )?upload-resource .*)$`)

// TestLaptopCommands: the commands that the documents have for people work, one after the other.
func TestLaptopCommands(t *testing.T) {
	t.Parallel()
	harness.Need(t, "sh")
	pages := harness.ReadFile(t, harness.Root+"/docs/outside.md") + harness.ReadFile(t, harness.Root+"/docs/sandbox.md")
	commands := laptopCommand.FindAllStringSubmatch(pages, -1)
	if len(commands) < 8 {
		t.Fatalf("%d commands, want at least 8", len(commands))
	}
	sandbox := harness.StartCharm(t, server.Options{}, []server.ReleaseBase{harness.Noble})
	sandbox.PutRelease(harness.Charm, server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1,
		Resources: harness.ResourceRevisions{harness.ImageResource: 1, harness.FileResource: 1}})
	dir, bin := t.TempDir(), t.TempDir()
	if err := os.Symlink(harness.Program, filepath.Join(bin, "upload-resource")); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "sandbox.env"), strings.Join(sandbox.Env(), "\n"))
	harness.WriteFile(t, filepath.Join(dir, "my.rock"),
		harness.ReadFile(t, harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))))
	harness.WriteFile(t, filepath.Join(dir, "my-charm.charm"),
		charmtest.File(t, harness.CharmMetadata+"summary: new\n", harness.Noble))
	for _, name := range []string{"rules.txt", "README.md"} {
		harness.WriteFile(t, filepath.Join(dir, name), harness.UniqueContent())
	}
	for _, command := range commands {
		shell := exec.CommandContext(t.Context(), "sh", "-c", command[1])
		shell.Dir = dir
		shell.Env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=/nonexistent", "TMPDIR=" + t.TempDir()},
			sandbox.Env()...)
		if out, err := shell.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", command[1], err, out)
		}
	}
	resources := harness.ResourceRevisions{harness.ImageResource: 3, harness.FileResource: 1}
	harness.HasReleases(t, sandbox,
		server.Release{Channel: "latest/beta", Base: harness.Noble, Revision: 2,
			Resources: harness.ResourceRevisions{harness.ImageResource: 3, harness.FileResource: 3}},
		server.Release{Channel: "latest/candidate", Base: harness.Noble, Revision: 1, Resources: resources},
		server.Release{Channel: "latest/edge", Base: harness.Noble, Revision: 1, Resources: resources})
	var outputs struct {
		Revision  string
		Resources []struct{ Revision int }
	}
	if err := json.Unmarshal([]byte(harness.ReadFile(t, filepath.Join(dir, "upload.json"))), &outputs); err != nil ||
		outputs.Revision != "3" || outputs.Resources[0].Revision != 3 {
		t.Errorf("%+v: %v", outputs, err)
	}
}

// TestCommandLine: help and versions need nothing, and a flag that doesn't exist sends nothing.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	for name, test := range map[string]struct {
		args []string
		exit int
		want string
	}{
		"help":    {[]string{"--help"}, 0, "\n      --charm text"},
		"version": {[]string{"--version"}, 0, "upload-resource devel\n"},
		"unknown flag": {[]string{"--charm=my-charm", "--resorce=my-file"}, 2,
			"::error title=upload-resource::read the command line: unknown flag: --resorce; `upload-resource --help` lists"},
		"no inputs": {[]string{"--charm=other-charm"}, 1, "input resource: missing"},
		"no file": {[]string{"--json", "/nonexistent/out.json"}, 1,
			"write the outputs: open /nonexistent/out.json: no such file or directory; give another file with --json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := harness.Execute(t, exec.CommandContext(t.Context(), harness.Program, test.args...), sandbox)
			if r.Exit != test.exit || !strings.Contains("\n"+r.Log, test.want) {
				t.Errorf("exit %d, want %d and %q:\n%s", r.Exit, test.exit, test.want, r.Log)
			}
		})
	}
	t.Cleanup(func() {
		if n := len(sandbox.Requests()); n > 0 {
			t.Errorf("%d requests", n)
		}
	})
}

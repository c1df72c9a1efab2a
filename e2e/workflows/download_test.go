package workflows

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/internal/releaseimage"
)

// TestDownload: the documents' commands install a release's program, and stop at
// one that isn't what was released.
func TestDownload(t *testing.T) {
	t.Parallel()
	harness.Need(t, "sh", "sha256sum")
	_, commands, found := strings.Cut(harness.ReadFile(t, harness.Root+"/docs/outside.md"), "\n    platform=linux-amd64\n")
	if !found {
		t.Fatal("docs/outside.md has no commands that download the program")
	}
	commands, _, _ = strings.Cut(commands, "\n\n")
	release, bin := t.TempDir(), t.TempDir()
	programs := []releaseimage.Program{{OS: runtime.GOOS, Architecture: runtime.GOARCH,
		Content: []byte(harness.ReadFile(t, harness.Program))}}
	if err := releaseimage.Write(release, programs); err != nil {
		t.Fatal(err)
	}
	// A release's files can't be executed until that is allowed.
	harness.WriteFile(t, filepath.Join(bin, "gh"), "#!/bin/sh\necho \"gh $*\"\n"+
		"case $1 in release) cp \"$RELEASE\"/* . && chmod a-x upload-resource-* ;; esac\n")
	install := func() (log, installed string, err error) {
		home := t.TempDir()
		shell := exec.CommandContext(t.Context(), "sh", "-e", "-c", commands)
		shell.Dir = t.TempDir()
		shell.Env = []string{
			"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + home, "RELEASE=" + release,
			"platform=" + runtime.GOOS + "-" + runtime.GOARCH,
		}
		out, err := shell.CombinedOutput()
		return string(out), filepath.Join(home, ".local/bin/upload-resource"), err
	}
	log, installed, err := install()
	name := "upload-resource-" + runtime.GOOS + "-" + runtime.GOARCH
	if err != nil || !strings.Contains(log, name+": OK") || !strings.Contains(log, "gh attestation verify "+name) {
		t.Errorf("error %v, want that the program is checked:\n%s", err, log)
	}
	if help := harness.Tool(t, installed, "--help"); !strings.Contains(help, "upload-resource") {
		t.Errorf("the installed program says %q", help)
	}

	harness.WriteFile(t, filepath.Join(release, name), "something else")
	if log, installed, err = install(); err == nil {
		t.Errorf("a program with another checksum was installed:\n%s", log)
	}
	if _, err := os.Stat(installed); err == nil {
		t.Errorf("%s is there", installed)
	}
}

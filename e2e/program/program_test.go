package program

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutputs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outputs")
	if _, err := Outputs(path); err == nil {
		t.Error("there were outputs without a file")
	}
	if err := os.WriteFile(path, []byte("a<<E\n1<<2\nE\nb-c<<E\n\nE\nd<<E\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Outputs(path)
	if diff := cmp.Diff(map[string]string{"a": "1<<2", "b-c": ""}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestMainTellsInterruptsFromErrors runs itself as a command.
func TestMainTellsInterruptsFromErrors(t *testing.T) {
	if kind := os.Getenv("PROGRAM_TEST_KIND"); kind != "" {
		Main("this", func(ctx context.Context, _ []string, _ io.Writer) error {
			if kind == "interrupt" {
				_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
				<-ctx.Done()
			}
			return errors.New("it failed")
		})
	}
	for kind, want := range map[string]string{"error": "this: it failed\n", "interrupt": "this: interrupted\n"} {
		command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		command.Env = append(os.Environ(), "PROGRAM_TEST_KIND="+kind)
		out, err := command.CombinedOutput()
		if string(out) != want || command.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: %s, %v", kind, out, err)
		}
	}
}

package program

import (
	"os"
	"path/filepath"
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

package harness

import (
	"path/filepath"
	"testing"
)

func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	const secret = "correct horse"
	clean := Result{Dir: t.TempDir(), Log: MaskCommand + secret + "\nnothing else\n"}
	if found := Leaks(t, []string{secret}, clean); found != nil {
		t.Errorf("the mask command counts as a leak: %v", found)
	}
	leaky := Result{Dir: t.TempDir(), Log: "::debug::it is " + secret + "\n"}
	WriteFile(t, filepath.Join(leaky.Dir, "summary"), "it is "+secret)
	if found := Leaks(t, []string{secret}, leaky); len(found) != 2 {
		t.Errorf("%d leaks were found, want the log's and the file's: %v", len(found), found)
	}
}

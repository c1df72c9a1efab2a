package charmhub

import (
	"os"
	"strings"
	"testing"
)

// The token that people are told to make is the same everywhere.
func TestSecurityPolicyNamesTheCommand(t *testing.T) {
	policy, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\n    " + LoginCommand("my-charm", false) + "\n"; !strings.Contains(string(policy), want) {
		t.Errorf("SECURITY.md lacks the line %q", want)
	}
}

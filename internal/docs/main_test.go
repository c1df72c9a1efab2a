// Package docs tests that the documents and the program say the same.
package docs

import (
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests in the repository's root, from which the documents name files.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	m.Run()
}

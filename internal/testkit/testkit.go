// Package testkit is what tests of several packages share.
package testkit

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Env is an environment of a test's own.
type Env map[string]string

// Get returns a variable.
func (e Env) Get(name string) string { return e[name] }

// Lookup returns a variable, and whether it is set.
func (e Env) Lookup(name string) (string, bool) {
	value, isSet := e[name]
	return value, isSet
}

// With returns a copy with more variables.
func (e Env) With(more Env) Env {
	all := maps.Clone(e)
	maps.Copy(all, more)
	return all
}

// Token holds credentials for the store in the form that charmcraft exports.
const Token = "eyJ0IjogIm1hY2Fyb29uIiwgInYiOiAiYSB0b2tlbiB0aGF0IG5vYm9keSBzZWVzIn0=" //nolint:gosec // nothing takes it but tests

var update = flag.Bool("update", false, "write the golden files again")

// Golden compares what a test got with a file in the package's testdata.
func Golden(tb testing.TB, name, got string) {
	tb.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		tb.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

// WantError fails the test unless err has all fragments in its text.
func WantError(tb testing.TB, err error, fragments ...string) {
	tb.Helper()
	if err == nil {
		tb.Fatal("no error")
	}
	for _, fragment := range fragments {
		if !strings.Contains(err.Error(), fragment) {
			tb.Errorf("%q is not in the error: %v", fragment, err)
		}
	}
}

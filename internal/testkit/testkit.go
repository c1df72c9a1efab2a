// Package testkit holds helpers for the tests of several packages.
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

// Env is an environment for a test, by variable name.
type Env map[string]string

// Get returns the value of a variable, "" if it isn't set.
func (e Env) Get(name string) string { return e[name] }

// Lookup returns the value of a variable, and whether it is set.
func (e Env) Lookup(name string) (string, bool) {
	value, isSet := e[name]
	return value, isSet
}

// With returns a copy with more variables. Those of more replace others of the same name.
func (e Env) With(more Env) Env {
	all := maps.Clone(e)
	maps.Copy(all, more)
	return all
}

// Token is a store token in the form that charmcraft exports.
const Token = "eyJ0IjogIm1hY2Fyb29uIiwgInYiOiAiYSB0b2tlbiB0aGF0IG5vYm9keSBzZWVzIn0=" //nolint:gosec // for tests only

var update = flag.Bool("update", false, "write the golden files again")

// Golden fails the test unless got equals the file name in the package's testdata. With -update it writes the file.
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

// WantError fails the test unless the text of err contains all fragments.
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

package action

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// env is an environment of a test's own.
type env map[string]string

func (e env) get(name string) string { return e[name] }

func (e env) with(more env) env {
	all := env{}
	for _, part := range []env{e, more} {
		for name, value := range part {
			all[name] = value
		}
	}
	return all
}

var (
	underActions = env{"GITHUB_ACTIONS": "true"}
	outside      = env{}
)

// newRunner returns a runner and what it prints.
func newRunner(tb testing.TB, e env) (*Runner, *bytes.Buffer) {
	tb.Helper()
	var out bytes.Buffer
	return New(e.get, &out), &out
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, diff)
	}
}

// asRead returns the lines of a log as a runner splits it.
func asRead(log string) []string {
	log = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(log)
	return strings.Split(strings.TrimSuffix(log, "\n"), "\n")
}

// commandIn returns the name of the workflow command in a line, or nothing. It
// is stricter than any runner: it takes every name for a registered command,
// and skips whatever a comparison could skip.
func commandIn(line string) string {
	line = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) && !unicode.IsSpace(c) || unicode.In(c, unicode.Mn, unicode.Me, unicode.Other_Default_Ignorable_Code_Point) {
			return -1
		}
		return c
	}, line)
	if rest, ok := strings.CutPrefix(strings.TrimLeftFunc(line, unicode.IsSpace), "::"); ok {
		if info, _, ok := strings.Cut(rest, "::"); ok {
			name, _, _ := strings.Cut(info, " ")
			return name
		}
	}
	if _, rest, ok := strings.Cut(line, "##["); ok && strings.Contains(rest, "]") {
		return rest
	}
	return ""
}

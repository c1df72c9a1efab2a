package action

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

// env is the environment of a test, by variable name.
type env = testkit.Env

var (
	underActions = env{"GITHUB_ACTIONS": "true"}
	outside      = env{}
)

// newRunner returns a runner and what it prints.
func newRunner(tb testing.TB, e env) (*Runner, *bytes.Buffer) {
	tb.Helper()
	var out bytes.Buffer
	return New(e.Get, &out), &out
}

// asRead returns the lines of a log as a runner splits it.
func asRead(log string) []string {
	log = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(log)
	return strings.Split(strings.TrimSuffix(log, "\n"), "\n")
}

// commandIn returns the name of the workflow command in a line, or nothing. It is stricter than any runner: it takes
// every name for a registered command, and skips whatever a comparison could skip.
func commandIn(line string) string {
	line = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) && !unicode.IsSpace(c) ||
			unicode.In(c, unicode.Mn, unicode.Me, unicode.Other_Default_Ignorable_Code_Point) {
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

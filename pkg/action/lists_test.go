package action

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLists(t *testing.T) {
	const advice = "; give what belongs there, or leave it out (an expression whose step, output or matrix value " +
		"doesn't exist is empty)"
	empty := func(what string) string { return "input x: " + what + " is empty" + advice }
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	for name, test := range map[string]struct {
		input        string
		lines, words []string
		linesErr     string
		wordsErr     string
	}{
		"not given":           {},
		"blanks":              {input: " \t"},
		"one":                 {input: " a ", lines: []string{"a"}, words: []string{"a"}},
		"last line break":     {input: "a\r\n b\n", lines: []string{"a", "b"}, words: []string{"a", "b"}},
		"last line of blanks": {input: "a\n  ", lines: []string{"a"}, words: []string{"a"}},
		"words": {input: "a, b c ,d\ne", lines: []string{"a, b c ,d", "e"},
			words: []string{"a", "b", "c", "d", "e"}},
		"comma at a line's end": {input: "a,\nb", lines: []string{"a,", "b"}, words: []string{"a", "b"}},

		"first line is empty":  {"\nb\n", []string{"b"}, []string{"b"}, empty("line 1"), empty("line 1")},
		"second line is empty": {"a\n \r\nc", []string{"a", "c"}, []string{"a", "c"}, empty("line 2"), empty("line 2")},
		"last line is empty":   {"a\n\n", []string{"a"}, []string{"a"}, empty("line 2"), empty("line 2")},
		"only empty lines": {"\n\n", nil, nil, empty("line 1") + "\n" + empty("line 2"),
			empty("line 1") + "\n" + empty("line 2")},
		"one empty line": {"\n", nil, nil, empty("line 1"), empty("line 1")},

		"comma":       {",", []string{","}, nil, "", empty("entry 1") + "\n" + empty("entry 2")},
		"comma first": {", a", []string{", a"}, []string{"a"}, "", empty("entry 1")},
		"comma last":  {"a,", []string{"a,"}, []string{"a"}, "", empty("entry 2")},
		"comma twice": {"a b,,c", []string{"a b,,c"}, []string{"a", "b", "c"}, "", empty("entry 3")},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRunner(t, env{"INPUT_X": test.input})
			lines, linesErr := r.Lines("x")
			words, wordsErr := r.Words("x")
			if diff := cmp.Diff(test.lines, lines) + cmp.Diff(test.words, words); diff != "" {
				t.Errorf("lines and words (-want +got):\n%s", diff)
			}
			if got := text(linesErr); got != test.linesErr {
				t.Errorf("lines: error %q, want %q", got, test.linesErr)
			}
			if got := text(wordsErr); got != test.wordsErr {
				t.Errorf("words: error %q, want %q", got, test.wordsErr)
			}
		})
	}
}

func TestListNames(t *testing.T) {
	r, _ := newRunner(t, env{"INPUT_SOME-LIST": "\na"})
	if lines, err := r.Lines("some-list"); err == nil || len(lines) != 1 {
		t.Errorf("got %q and error %v", lines, err)
	}
}

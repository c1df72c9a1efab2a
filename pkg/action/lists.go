package action

import (
	"errors"
	"fmt"
	"strings"
)

// Lines returns the lines of an input, trimmed and without empty ones. The error names each empty line but the last,
// since the expression that should fill it may name a step or an output that doesn't exist. The lines are returned also
// with an error.
func (r *Runner) Lines(input string) (lines []string, err error) {
	lines, err = r.RawLines(input)
	for n := range lines {
		lines[n] = strings.TrimSpace(lines[n])
	}
	return lines, err
}

// RawLines is [Runner.Lines] without trimming: a blank at the end of a line can show that an expression was empty.
func (r *Runner) RawLines(input string) (lines []string, err error) {
	// Not [Runner.Input], which trims away the empty lines at both ends.
	all := strings.Split(lineBreaks.Replace(r.getenv("INPUT_"+strings.ToUpper(input))), "\n")
	if last := len(all) - 1; strings.TrimSpace(all[last]) == "" {
		all = all[:last]
	}
	for n, line := range all {
		if strings.TrimSpace(line) == "" {
			err = errors.Join(err, emptyIn(input, "line", n+1))
			continue
		}
		lines = append(lines, line)
	}
	return lines, err
}

// Words returns the entries of an input that lists words, which blanks, commas or line breaks separate. The error names
// each empty line, as that of [Runner.Lines] does, and each place between or after commas that has no entry.
func (r *Runner) Words(input string) (words []string, err error) {
	lines, err := r.Lines(input)
	if len(lines) == 0 {
		return nil, err
	}
	entry := 0
	for _, between := range strings.Split(strings.Join(lines, " "), ",") { // a line may end in a comma
		some := strings.Fields(between)
		if words = append(words, some...); len(some) == 0 {
			err = errors.Join(err, emptyIn(input, "entry", entry+1))
		}
		entry += max(1, len(some))
	}
	return words, err
}

// emptyIn returns the error for the empty line or entry (what) of this number, counted from 1, in an input.
func emptyIn(input, what string, number int) error {
	return fmt.Errorf("input %s: %s %d is empty; give what belongs there, or leave it out "+
		"(an expression whose step, output or matrix value doesn't exist is empty)", input, what, number)
}

package action

import (
	"errors"
	"fmt"
	"strings"
)

// Lines returns the lines of an input, trimmed. The text after the last line break counts
// only if it isn't empty. The error names each other line that is empty, since the
// expression that was to fill it may name a step or an output that doesn't exist; the
// lines that aren't empty are returned all the same.
func (r *Runner) Lines(input string) (lines []string, err error) {
	lines, err = r.RawLines(input)
	for n := range lines {
		lines[n] = strings.TrimSpace(lines[n])
	}
	return lines, err
}

// RawLines is [Runner.Lines] without trimming: a blank at the end of a line may come of an
// expression that is empty.
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

// Words returns the entries of an input that lists words, which blanks, commas or line
// breaks separate. The error names each line that is empty, as that of [Runner.Lines]
// does, and each entry that a comma announces and that is missing.
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

func emptyIn(input, what string, number int) error {
	return fmt.Errorf("input %s: %s %d is empty; give what belongs there, or leave it out "+
		"(an expression whose step, output or matrix value doesn't exist is empty)", input, what, number)
}

package action

import (
	"fmt"
	"os"
	"strings"
)

// maxSummary is how many bytes of summary a step may have; a runner drops a
// longer one whole.
const maxSummary = 1 << 20

const summaryCut = "\n\n*The rest is left out: a summary may have 1 MiB.*\n"

// AddSummary appends Markdown to the step's summary on the page of the run. What
// goes beyond the runner's limit of 1 MiB for the step is cut off at a line's
// end, and says so. Where there is no summary (outside Actions) it does nothing.
func (r *Runner) AddSummary(markdown string) error {
	path := r.getenv("GITHUB_STEP_SUMMARY")
	if path == "" {
		return nil
	}
	text, err := fit(r.redact(markdown), summaryRoom(path))
	if err != nil {
		return err
	}
	if err := caught(func() { r.files.AddStepSummary(text) }); err != nil {
		return fmt.Errorf("could not add to the step's summary: %w", err)
	}
	return nil
}

// summaryRoom returns how many bytes can still be added to the file, less the
// line break that follows each addition. A file that can't be looked at counts
// as empty: writing it will tell.
func summaryRoom(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return maxSummary - 1
	}
	return int(maxSummary - 1 - info.Size())
}

// fit returns text cut to at most room bytes.
func fit(text string, room int) (string, error) {
	if len(text) <= room {
		return text, nil
	}
	if room < len(summaryCut) {
		return "", fmt.Errorf("could not add to the step's summary: it has reached the runner's limit of 1 MiB")
	}
	text = text[:room-len(summaryCut)]
	return text[:strings.LastIndexByte(text, '\n')+1] + summaryCut, nil
}

// Escape returns text so that Markdown shows it as it is: in running text, in a
// table's cell, or between <code> and </code>. It can't end a cell or a line,
// start markup or HTML, mention anyone, or become a link. Between backquotes it
// would show its character references, so use <code> there.
func Escape(text string) string {
	var b strings.Builder
	for _, c := range oneLine(text) {
		if isMarkup(c) {
			fmt.Fprintf(&b, "&#%d;", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// isMarkup reports whether c can mean something to Markdown inside a line: all
// of ASCII's punctuation but the most harmless, which names are full of.
func isMarkup(c rune) bool {
	switch {
	case !isGraphicASCII(c), strings.ContainsRune("-/,+=", c):
		return false
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		return false
	}
	return true
}

package action

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
)

// Size formats a number of bytes for people: 1.2 GB. A negative number counts as 0.
func Size(bytes int64) string { return humanize.Bytes(uint64(max(0, bytes))) }

// Duration formats a time for people, precise enough to compare runs: 2.50 s, 3 min 12 s.
func Duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d min %d s", s/60, s%60)
}

// The runner reads a line as a workflow command in two ways: when it begins with "::", white space aside, and when
// "##[" is anywhere in it (TryParseV2 and TryParse of actions/runner's ActionCommand). It compares with the rules of a
// culture, which skip invisible characters, and takes a lone CR as the end of a line. Hence the order here: split into
// lines, make every character visible, then break what is left of the two markers.

// plain returns text as lines of a log, none of which a runner takes as a command. Lines after the first are indented,
// so that they differ from lines of the program's own.
func plain(text string) string {
	lines := visibleLines(text)
	for i, line := range lines {
		lines[i] = unmarked(line)
	}
	return strings.Join(lines, "\n  ")
}

// data returns text as the data of a workflow command, still to be escaped.
func data(text string) string { return strings.Join(visibleLines(text), "\n") }

// oneLine returns text as a title.
func oneLine(text string) string { return strings.Join(visibleLines(text), " ") }

// lineBreaks turns each kind of line break that a runner knows into \n.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// splitLines returns the lines of text, without the empty ones at its end.
func splitLines(text string) []string {
	return strings.Split(strings.TrimRight(lineBreaks.Replace(text), "\n"), "\n")
}

// visibleLines returns the lines of text, with invisible characters spelled out (see visible).
func visibleLines(text string) []string {
	lines := splitLines(text)
	for i, line := range lines {
		lines[i] = visible(line)
	}
	return lines
}

// visible returns line with control and other invisible characters spelled as in Go, which takes them from a terminal
// as well, and no "##[".
func visible(line string) string {
	var b strings.Builder
	for _, c := range line {
		if isVisible(c) {
			b.WriteRune(c)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(c)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return strings.ReplaceAll(b.String(), "##[", "## [")
}

// isVisible reports whether c shows. Some letters and marks that Unicode calls printable don't, and a comparison may
// skip them.
func isVisible(c rune) bool {
	return c == '\t' || strconv.IsPrint(c) &&
		!unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// unmarked returns a visible line that doesn't begin with "::". Whatever isn't plain ASCII counts as nothing before the
// marker, to be sure without knowing what each runner skips; an address such as [::1]:5000 is left alone.
func unmarked(line string) string {
	before, after, found := strings.Cut(line, "::")
	if !found || strings.ContainsFunc(before, isGraphicASCII) {
		return line
	}
	return before + ": :" + after
}

// isGraphicASCII reports whether c is an ASCII character that leaves ink: no space and no control character.
func isGraphicASCII(c rune) bool { return c > ' ' && c < unicode.MaxASCII }

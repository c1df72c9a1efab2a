package action

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"unicode"
)

// maxSummary is how many bytes of summary a step may have; a runner drops all of a longer one.
const maxSummary = 1 << 20

// summaryCut is the note at the end of a summary that was cut off.
const summaryCut = "\n\n*The rest is left out: a summary may have 1 MiB.*\n"

// AddSummary appends Markdown to the step's summary on the page of the run. If the step would have more than the
// runner's limit of 1 MiB, the text is cut at the end of a line, and a note says so. Outside Actions, which has no
// summary, it does nothing.
func (r *Runner) AddSummary(markdown string) error {
	path := r.getenv("GITHUB_STEP_SUMMARY")
	if path == "" {
		return nil
	}
	// A line break follows each addition. A file that can't be looked at counts as empty: writing it fails, too.
	room := maxSummary - 1
	if info, err := os.Stat(path); err == nil {
		room -= int(info.Size())
	}
	text, err := fit(r.redact(markdown), room)
	if err != nil {
		return err
	}
	if err := caught(func() { r.files.AddStepSummary(text) }); err != nil {
		return fmt.Errorf("cannot add to the step's summary: %w", err)
	}
	return nil
}

// fit returns text cut to at most room bytes.
func fit(text string, room int) (string, error) {
	if len(text) <= room {
		return text, nil
	}
	if room < len(summaryCut) {
		return "", fmt.Errorf("cannot add to the step's summary: the summary has reached the runner's limit of 1 MiB")
	}
	text = text[:room-len(summaryCut)]
	return text[:strings.LastIndexByte(text, '\n')+1] + summaryCut, nil
}

// CharmName returns a charm's name as code, with a link to its page if the website has one, and is empty if it hasn't.
func CharmName(website, name string) string {
	if website == "" {
		return Code(name)
	}
	return fmt.Sprintf(`<a href="%s/%s">%s</a>`, website, url.QueryEscape(name), Code(name))
}

// FindPods returns the command that lists the pods whose specifications name one of the images, as Markdown, or nothing
// if there is no image. It doesn't look at what container runtimes report, which may be another digest of the image.
func FindPods(digests []string) string {
	if len(digests) == 0 {
		return ""
	}
	return "\nThen find the pods that run it:\n\n```sh\nkubectl get pods --all-namespaces --output=custom-columns=\\\n" +
		"'NAMESPACE:.metadata.namespace,POD:.metadata.name,IMAGES:.spec.containers[*].image' |\n" +
		"  grep -e " + strings.Join(digests, " \\\n       -e ") + "\n```\n"
}

// Escape returns text so that Markdown shows it as it is: in running text, in a table's cell, or between <code> and
// </code>. It can't end a cell or a line, start markup or HTML, mention anyone, or become a link. Between backquotes it
// would show its character references, so use <code> there.
func Escape(text string) string {
	var b strings.Builder
	for _, c := range oneLine(text) {
		// All of ASCII's punctuation but the most harmless, which names are full of.
		if isGraphicASCII(c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-/,+=", c) {
			fmt.Fprintf(&b, "&#%d;", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Code returns text as escaped Markdown code; "" for an empty text.
func Code(text string) string {
	if text == "" {
		return ""
	}
	return "<code>" + Escape(text) + "</code>"
}

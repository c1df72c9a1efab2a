package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

var longDigest = regexp.MustCompile(`(sha256:[0-9a-f]{12})[0-9a-f]{52}`)

// shorten leaves the first 12 digits of each digest, so that lines fit.
func shorten(text string) string { return longDigest.ReplaceAllString(text, "$1…") }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// row is a step's line in the table.
type row struct {
	name string
	*outcome
}

// writeTable prints what each step cost.
func writeTable(out io.Writer, rows []row) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(table, "step\tsent\trequests\trevision\ttime")
	for i, r := range rows {
		revision := r.outputs["revision"] + " (unchanged)"
		if r.outputs["revision-created"] == "true" {
			revision = r.outputs["revision"] + " (new)"
		}
		_, _ = fmt.Fprintf(table, "%d. %s\t%s\t%d\t%s\t%s\n",
			i+1, r.name, humanize.Bytes(uint64(max(0, r.traffic.sent))), r.traffic.requests, revision, seconds(r.took))
	}
	return table.Flush()
}

// logWriter prints the action's log as it comes, indented and with short
// digests, and keeps it as it was.
type logWriter struct {
	out  io.Writer
	all  bytes.Buffer
	line bytes.Buffer // the last line, so far
}

func (w *logWriter) Write(p []byte) (int, error) {
	_, _ = w.all.Write(p)
	for _, b := range p {
		if b != '\n' {
			_ = w.line.WriteByte(b)
			continue
		}
		_, _ = fmt.Fprintf(w.out, "   | %s\n", shorten(w.line.String()))
		w.line.Reset()
	}
	return len(p), nil
}

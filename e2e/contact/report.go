package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/contact/traffic"
)

// write writes the report, the traffic, and what a run with -again needs, without any secret.
func (c *contact) write(folder string, all []tried) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("making the folder for the report: %w", err)
	}
	exchanges := c.recorder.Exchanges()
	var recorded strings.Builder
	err := traffic.Write(&recorded, exchanges)
	files := map[string]string{"report.md": c.recorder.Clean(c.report(all, exchanges)), "traffic.jsonl": recorded.String()}
	if c.text != nil {
		text, _ := json.Marshal(c.memory()) // plain types
		files["text.json"] = string(text) + "\n"
	}
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600))
	}
	return err
}

// report is the report in Markdown.
func (c *contact) report(all []tried, exchanges []traffic.Exchange) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# First contact with %s\n\nCharm %s, %s. %s.\n", c.at.Store.Host, c.charm, c.date, count(all))
	section := ""
	for _, t := range all {
		if t.about != section {
			section = t.about
			fmt.Fprintf(&b, "\n## %s\n\n| result | assumption | seen | otherwise |\n|---|---|---|---|\n", section)
		}
		seen := t.note
		if t.err != nil {
			seen = t.err.Error()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", t.result(), cell(t.says), cell(seen), cell(t.otherwise))
	}
	b.WriteString("\n## Times\n\n| call | times | median | longest | answers |\n|---|---|---|---|---|\n")
	for _, call := range calls(exchanges) {
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s | %s |\n", call.what, len(call.took), rounded(call.took[len(call.took)/2]),
			rounded(call.took[len(call.took)-1]),
			strings.Join(call.statuses, ", "))
	}
	if len(c.noise.lines) > 0 {
		b.WriteString("\n## Tried again\n\n")
		for _, line := range c.noise.lines {
			fmt.Fprintf(&b, "- %s\n", cell(line))
		}
	}
	return b.String()
}

// cell is a text in one cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(text)
}

// rounded returns a duration in milliseconds, as text.
func rounded(d time.Duration) string { return d.Round(time.Millisecond).String() }

// call is all requests of one kind.
type call struct {
	what     string
	took     []time.Duration // sorted
	statuses []string
}

// volatile are the parts of a path that differ from request to request.
var volatile = regexp.MustCompile(`sha256:[0-9a-f]{64}|[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// calls sorts requests into kinds: method, host and path, without what differs.
func calls(exchanges []traffic.Exchange) (all []call) {
	for _, e := range exchanges {
		at, err := url.Parse(e.URL)
		if err != nil {
			continue
		}
		what, status := e.Method+" "+at.Host+volatile.ReplaceAllString(at.Path, "…"), fmt.Sprint(e.Status)
		if e.Status == 0 {
			status = "none"
		}
		n := slices.IndexFunc(all, func(c call) bool { return c.what == what })
		if n < 0 {
			n, all = len(all), append(all, call{what: what})
		}
		all[n].took = append(all[n].took, e.Took)
		if !slices.Contains(all[n].statuses, status) {
			all[n].statuses = append(all[n].statuses, status)
		}
	}
	for n := range all {
		slices.Sort(all[n].took)
	}
	return all
}

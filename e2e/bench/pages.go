package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// condition is an image's size, and a network with a registry.
type condition struct {
	sizeMB  int64
	network string
}

// text returns the condition as it is printed above a table: the image's size and the network.
func (c condition) text() string { return fmt.Sprintf("image of %d MB; %s", c.sizeMB, c.network) }

// cell identifies what was measured, in one or more rounds.
type cell struct {
	condition              condition
	place, tool, situation string
}

// tabulated groups runs by cell. Its lists are in the order of the measurements.
type tabulated struct {
	runs          map[cell][]measurement
	conditions    []condition
	places, tools []string
}

// tabulate leaves out runs that failed, and those of docker save alone.
func tabulate(r results) tabulated {
	t := tabulated{runs: map[cell][]measurement{}}
	for _, m := range r.Runs {
		if m.Failure != "" || m.Situation == exportAlone {
			continue
		}
		at := cell{condition{m.SizeMB, m.Condition}, m.Scenario, m.Tool, m.Situation}
		t.runs[at] = append(t.runs[at], m)
		t.conditions = addNew(t.conditions, at.condition)
		t.places, t.tools = addNew(t.places, at.place), addNew(t.tools, at.tool)
	}
	// Rounds begin with another tool each, so the order of the recipes is the tables'.
	order := func(tool string) int { return slices.IndexFunc(recipes, func(r recipe) bool { return r.row == tool }) }
	slices.SortStableFunc(t.tools, func(a, b string) int { return order(a) - order(b) })
	return t
}

// addNew appends one to all, unless all contains it already.
func addNew[T comparable](all []T, one T) []T {
	if slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

// writePages writes the tables and charts of docs/benchmarks.md and of README.md,
// in a folder that is the repository's.
func writePages(folder string, r results) error {
	t := tabulate(r)
	return errors.Join(
		draw(filepath.Join(folder, "docs", "charts"), r),
		replaceBetween(filepath.Join(folder, "docs", "benchmarks.md"), "bench", t.page(r.Conditions)),
		replaceBetween(filepath.Join(folder, "README.md"), "bench", t.readme()))
}

// replaceBetween replaces what is between the comments about a name in a page.
func replaceBetween(path, name, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	start, end := "<!-- "+name+":start -->\n", "<!-- "+name+":end -->\n"
	before, rest, starts := strings.Cut(string(page), start)
	_, after, ends := strings.Cut(rest, end)
	if !starts || !ends {
		return fmt.Errorf("%s has no %s and %s", path, strings.TrimSpace(start), strings.TrimSpace(end))
	}
	return os.WriteFile(path, []byte(before+start+text+end+after), 0o600) // which keeps the file's mode
}

// page returns a table for each condition, and under what it was measured.
func (t tabulated) page(conditions string) string {
	var text strings.Builder
	for _, c := range t.conditions {
		rounds := 0
		for at, of := range t.runs {
			if at.condition == c {
				rounds = max(rounds, len(of))
			}
		}
		_, _ = fmt.Fprintf(&text, "### %s; rounds: %d\n\n", strings.ToUpper(c.text()[:1])+c.text()[1:], rounds)
		_, _ = fmt.Fprintf(&text, "| image in | tool | %s | store | peak memory | peak disk "+
			"|\n|---|---|---|---|---|---|---|---|\n", strings.Join(situations[:3], " | "))
		for _, place := range t.places {
			name := place
			for _, tool := range t.tools {
				if row := t.row(c, place, tool); row != "" {
					_, _ = fmt.Fprintf(&text, "| %s | %s |%s\n", name, tool, row)
					name = ""
				}
			}
		}
		text.WriteString("\n")
	}
	text.WriteString(conditions + "\n")
	return text.String()
}

// row returns the rest of a tool's line: time and bytes of each situation, the
// store's part of each, and the most memory and disk of all; "" if it wasn't measured.
func (t tabulated) row(c condition, place, tool string) string {
	var cells, stores []string
	var memory, disk int64
	measured := false
	for _, situation := range situations[:3] {
		of := t.runs[cell{c, place, tool, situation}]
		if of == nil {
			cells = append(cells, "–")
			continue
		}
		measured = true
		cells = append(cells, result(of))
		if median(of, storeSeconds) > 0 {
			stores = append(stores, fmt.Sprintf("%.2g", median(of, storeSeconds)))
		}
		memory = max(memory, median(of, func(m measurement) int64 { return m.MemoryBytes }))
		disk = max(disk, median(of, func(m measurement) int64 { return m.DiskBytes }))
	}
	if !measured {
		return ""
	}
	store := "–"
	if len(stores) > 0 {
		store = strings.Join(stores, ", ") + " s"
	}
	return fmt.Sprintf(" %s | %s | %s | %s |", strings.Join(cells, " | "), store, humanBytes(memory), humanBytes(disk))
}

// result returns the time and the bytes that were sent.
func result(runs []measurement) string {
	return fmt.Sprintf("%.3g s, %s", median(runs, seconds),
		humanBytes(median(runs, func(m measurement) int64 { return m.SentBytes })))
}

// readme returns the chart and the short table of README.md, which are of the first place.
func (t tabulated) readme() string {
	if len(t.conditions) == 0 {
		return ""
	}
	c, place := t.conditions[0], t.places[0]
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, `<picture>
  <source media="(prefers-color-scheme: dark)" srcset="docs/charts/summary-dark.svg">
  <img alt="%s" src="docs/charts/summary-light.svg">
</picture>

%s: round trips and rate of the network, empty caches, default compression.
The action's time includes its calls to the store and the store's review of a revision; the other tools stop when the `+
		`image is in
the registry. The time for an unchanged image doesn't grow with its size. The action took
`, "Bar chart of the time that each tool takes for an image that is unchanged, changed or new",
		strings.ToUpper(c.text()[:1])+c.text()[1:])
	for n, situation := range []string{unchanged, changed, firstPush} {
		if of := t.runs[cell{c, place, ownTool, situation}]; of != nil {
			_, _ = fmt.Fprintf(&text, "%s%.3g s (%s)", []string{"", ", ", ", "}[n], median(of, seconds), situation)
		}
	}
	text.WriteString(".\n[All figures](docs/benchmarks.md) include other places, other networks, memory and disk.\n")
	return text.String()
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// row is what was measured: a tool, or the action with an image, in a situation.
type row struct{ situation, subject string }

// results are the figures of all runs, in rows that have the order in which
// they are printed.
type results struct {
	rows []row
	runs map[row][]figures
}

func (r *results) add(to row, f figures) {
	if r.runs == nil {
		r.runs = map[row][]figures{}
	}
	if r.runs[to] == nil {
		r.rows = append(r.rows, to)
	}
	r.runs[to] = append(r.runs[to], f)
}

// err returns an error about the rows in which a run failed.
func (r *results) err() error {
	var errs []error
	for _, row := range r.sorted() {
		for _, f := range r.runs[row] {
			if f.problem != "" {
				errs = append(errs, fmt.Errorf("%s, %s: %s", row.situation, row.subject, f.problem))
			}
		}
	}
	return errors.Join(errs...)
}

// sorted returns the rows by situation, in each as they were first measured.
func (r *results) sorted() []row {
	situations := []string{firstPush, unchanged, filled, archived, changed, floor}
	rows := slices.Clone(r.rows)
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Compare(slices.Index(situations, a.situation), slices.Index(situations, b.situation))
	})
	return rows
}

// column is a title and what a row has below it.
type column struct {
	title string
	cell  func(row, []figures) string
}

func (r *results) columns(ratios bool) []column {
	columns := []column{
		{"", func(at row, _ []figures) string { return at.situation }},
		{"", func(at row, _ []figures) string { return at.subject }},
		{"time (from, to)", func(_ row, runs []figures) string { return spread(runs) }},
	}
	if ratios {
		columns = append(columns, column{"× skopeo copy", r.againstSkopeo}, column{"× docker save", r.againstSave})
	}
	return append(columns,
		column{"sent", func(_ row, runs []figures) string { return humanBytes(median(runs, figures.bytesSent)) }},
		column{"requests: store + registry + auth", func(_ row, runs []figures) string { return middle(runs).String() }},
		column{"peak memory", func(_ row, runs []figures) string { return humanBytes(median(runs, figures.memory)) }},
		column{"peak disk", func(_ row, runs []figures) string { return humanBytes(median(runs, figures.disk)) }},
		column{"failed", func(_ row, runs []figures) string { return failures(runs) }},
	)
}

// table prints medians as a Markdown table, with ratios to other tools if asked.
func (r *results) table(out io.Writer, ratios bool) {
	columns := r.columns(ratios)
	var titles []string
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	_, _ = fmt.Fprintf(out, "| %s |\n|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(columns)))
	for _, at := range r.sorted() {
		var cells []string
		for _, c := range columns {
			cells = append(cells, c.cell(at, r.runs[at]))
		}
		_, _ = fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
}

func (r *results) againstSkopeo(at row, runs []figures) string {
	if at.situation == filled {
		at.situation = unchanged
	}
	return ratio(runs, r.runs[row{at.situation, skopeoName}])
}

func (r *results) againstSave(_ row, runs []figures) string {
	return ratio(runs, r.runs[row{floor, saveName}])
}

func ratio(of, to []figures) string {
	if len(to) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3g", float64(median(of, figures.time))/float64(median(to, figures.time)))
}

func spread(runs []figures) string {
	all := sorted(runs, figures.time)
	return fmt.Sprintf("%s (%s, %s)", seconds(median(runs, figures.time)), seconds(all[0]), seconds(all[len(all)-1]))
}

// failures counts the runs that failed, of how many.
func failures(runs []figures) string {
	failed := 0
	for _, f := range runs {
		if f.problem != "" {
			failed++
		}
	}
	return fmt.Sprintf("%d of %d", failed, len(runs))
}

func middle(runs []figures) requests {
	return requests{
		store:    median(runs, func(f figures) int { return f.requests.store }),
		registry: median(runs, func(f figures) int { return f.requests.registry }),
		auth:     median(runs, func(f figures) int { return f.requests.auth }),
	}
}

func (f figures) time() time.Duration { return f.wall }
func (f figures) bytesSent() int64    { return f.sent }
func (f figures) memory() int64       { return f.peak.memory }
func (f figures) disk() int64         { return f.peak.disk }

// median returns the middle of what was measured; of an even number of runs,
// the greater of the two in the middle.
func median[T cmp.Ordered](runs []figures, of func(figures) T) T {
	all := sorted(runs, of)
	return all[len(all)/2]
}

func sorted[T cmp.Ordered](runs []figures, of func(figures) T) []T {
	var all []T
	for _, f := range runs {
		all = append(all, of(f))
	}
	slices.Sort(all)
	return all
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// The situations that a tool is measured in, in a table's order.
const (
	firstPush   = "first push"
	unchanged   = "unchanged"
	changed     = "one small layer changed"
	filled      = "pushed by skopeo copy before, no revision yet"
	exportAlone = "export alone"
)

var situations = []string{firstPush, unchanged, changed, filled, exportAlone}

// leaveOut keeps what isn't measured, and why.
func (b *bench) leaveOut(format string, args ...any) {
	b.left = append(b.left, fmt.Sprintf(format, args...))
	progress("left out: %s", b.left[len(b.left)-1])
}

// report prints a table for each scenario and writes the file of all runs. Those
// that failed are in no table; it returns an error about them.
func (b *bench) report(ctx context.Context, out io.Writer) error {
	var errs []error
	for _, s := range b.scenarios {
		var runs []measurement
		for _, m := range b.measured {
			switch {
			case m.Scenario != s.name || m.SizeMB != s.size:
			case m.Failure != "":
				errs = append(errs, fmt.Errorf("%s, %s, %s: %s", m.Scenario, m.Situation, m.Tool, m.Failure))
			default:
				runs = append(runs, m)
			}
		}
		_, _ = fmt.Fprintf(out, "**%s; %d MB; %s**\n\n%s\n", s.name, s.size, b.link, table(runs))
	}
	conditions := b.conditions(ctx)
	_, _ = fmt.Fprintln(out, conditions)
	if b.json != "" {
		text, err := json.MarshalIndent(map[string]any{"conditions": conditions, "runs": b.measured}, "", "  ")
		errs = append(errs, err, os.WriteFile(b.json, append(text, '\n'), 0o600))
	}
	return errors.Join(errs...)
}

// row is what a line of a table is about.
type row struct{ situation, tool string }

// table returns medians of the runs of one scenario as a Markdown table.
func table(runs []measurement) string {
	rows, order := map[row][]measurement{}, []row{}
	for _, m := range runs {
		at := row{m.Situation, m.Tool}
		if rows[at] == nil {
			order = append(order, at)
		}
		rows[at] = append(rows[at], m)
	}
	slices.SortStableFunc(order, func(a, b row) int {
		return cmp.Compare(slices.Index(situations, a.situation), slices.Index(situations, b.situation))
	})
	titles := []string{"", "", "time (from, to)", "round trips (time ÷ rtt)", "those beyond docker save", "× skopeo copy",
		"× docker save", "sent", "requests: store + registry + auth", "peak memory", "peak disk"}
	text := "| " + strings.Join(titles, " | ") + " |\n|" + strings.Repeat("---|", len(titles)) + "\n"
	export := rows[row{exportAlone, "docker save"}]
	for _, at := range order {
		runs := rows[at]
		slices.SortFunc(runs, func(a, b measurement) int { return cmp.Compare(a.Seconds, b.Seconds) })
		beyond := "–"
		if len(export) > 0 {
			beyond = number(median(runs, measurement.trips) - median(export, measurement.trips))
		}
		count := func(server string) int { return median(runs, func(m measurement) int { return m.Requests[server] }) }
		text += "| " + strings.Join([]string{
			at.situation, at.tool,
			fmt.Sprintf("%.3g s (%.3g, %.3g)", median(runs, measurement.seconds), runs[0].Seconds, runs[len(runs)-1].Seconds),
			number(median(runs, measurement.trips)), beyond,
			ratio(runs, rows[row{at.situation, "skopeo copy"}]), ratio(runs, export),
			humanBytes(median(runs, func(m measurement) int64 { return m.SentBytes })),
			fmt.Sprintf("%d + %d + %d", count("store")+count("storage")+count("sso"), count("registry"), count("auth")),
			humanBytes(median(runs, func(m measurement) int64 { return m.MemoryBytes })),
			humanBytes(median(runs, func(m measurement) int64 { return m.DiskBytes })),
		}, " | ") + " |\n"
	}
	return text
}

func (m measurement) seconds() float64 { return m.Seconds }
func (m measurement) trips() float64   { return m.RoundTrips }

// median returns the middle of what was measured; of an even number of runs,
// the greater of the two in the middle.
func median[T cmp.Ordered](runs []measurement, of func(measurement) T) T {
	var all []T
	for _, m := range runs {
		all = append(all, of(m))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// number is a dash for what wasn't measured.
func number(n float64) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", n)
}

func ratio(of, to []measurement) string {
	if len(to) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3g", median(of, measurement.seconds)/median(to, measurement.seconds))
}

func humanBytes(n int64) string { return humanize.Bytes(uint64(max(0, n))) }

// conditions says under what the figures were measured, in one paragraph.
func (b *bench) conditions(ctx context.Context) string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	facts := []string{
		time.Now().UTC().Format(time.DateOnly), "Linux " + strings.TrimSpace(string(kernel)),
		fmt.Sprintf("%d CPUs (%s)", runtime.NumCPU(), runtime.GOARCH), runtime.Version(),
	}
	for _, program := range [][]string{
		{"action", "git", "describe", "--always", "--dirty"}, {"skopeo", "skopeo", "--version"}, {"crane", "crane", "version"},
		{"regctl", "regctl", "version", "--format", "{{.VCSTag}}"}, {"save", "docker", "version", "--format", "docker client {{.Client.Version}}"},
	} {
		if slices.Contains(b.tools, program[0]) {
			out, _ := command(ctx, program[1], program[2:]...).Output()
			facts = append(facts, program[0]+": "+strings.TrimSpace(string(out)))
		}
	}
	facts = append(facts, fmt.Sprintf("layers of %v %% of the image, the last changes; rounds: %d; store and registries: %v", shares, b.rounds, b.link))
	for _, left := range b.left {
		facts = append(facts, "left out: "+left)
	}
	return "Conditions: " + strings.Join(facts, "; ") + ". Medians. Each run began with empty caches. The action's time " +
		"includes its calls to the store and the store's review of a new revision; the other tools stop when the image is in " +
		"the registry. Memory and disk are the tool's own, sampled; what an engine takes comes on top, for every tool that " +
		"asks it for the image."
}

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
	exportAlone = "export alone"
)

var situations = []string{firstPush, unchanged, changed, exportAlone}

// leaveOut notes what isn't measured, and why.
func (b *bench) leaveOut(format string, args ...any) {
	b.left = append(b.left, fmt.Sprintf(format, args...))
	progress("left out: %s", b.left[len(b.left)-1])
}

// results is the file of all runs.
type results struct {
	Conditions string        `json:"conditions"`
	Versions   []string      `json:"versions"` // of the tools
	Runs       []measurement `json:"runs"`
}

// readResults reads the file that -json wrote.
func readResults(path string) (r results, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// print prints a table for each scenario of the setting. Runs that failed are in none.
func (b *bench) print(out io.Writer) {
	for _, s := range b.scenarios {
		var runs []measurement
		for _, m := range b.measured {
			if m.Scenario == s.name && m.Condition == b.condition() && m.Failure == "" {
				runs = append(runs, m)
			}
		}
		_, _ = fmt.Fprintf(out, "**%s; %d MB; %s**\n\n%s\n", s.name, b.size, b.condition(), table(runs))
	}
}

// report writes the file of all runs, and the pages. It returns an error about
// the runs that failed.
func (b *bench) report(ctx context.Context, out io.Writer) error {
	var errs []error
	for _, m := range b.measured {
		if m.Failure != "" {
			errs = append(errs, fmt.Errorf("%s, %s, %s, %s: %s", m.Condition, m.Scenario, m.Situation, m.Tool, m.Failure))
		}
	}
	all := results{b.conditions(ctx), versions(ctx), b.measured}
	_, _ = fmt.Fprintln(out, all.Conditions)
	if b.json != "" {
		text, err := json.MarshalIndent(all, "", "  ")
		errs = append(errs, err, os.WriteFile(b.json, append(text, '\n'), 0o600))
	}
	if b.docs != "" {
		errs = append(errs, writePages(b.docs, all))
	}
	return errors.Join(errs...)
}

// table returns medians of the runs of one scenario as a Markdown table. Over
// loopback, it has no columns about round trips.
func table(runs []measurement) string {
	type row struct{ situation, tool string }
	rows := map[row][]measurement{}
	var order []row
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
	var text strings.Builder
	line := func(cells ...string) {
		if len(runs) > 0 && runs[0].RoundTrips == 0 {
			cells = slices.Delete(cells, 4, 6)
		}
		_, _ = fmt.Fprintf(&text, "| %s |\n", strings.Join(cells, " | "))
	}
	line("", "", "time (from, to)", "of that, store", "round trips (time ÷ rtt)", "those beyond docker save",
		"× skopeo copy",
		"sent", "requests: store + registry + auth", "peak memory", "peak disk")
	line(slices.Repeat([]string{"---"}, 11)...)
	for _, at := range order {
		runs, export := rows[at], rows[row{exportAlone, "docker save"}]
		skopeo := slices.Concat(rows[row{at.situation, "skopeo copy"}], rows[row{at.situation, "docker save, skopeo copy"}])
		beyond, ratio := "–", "–"
		if len(export) > 0 {
			beyond = fmt.Sprintf("%.1f", median(runs, roundTrips)-median(export, roundTrips))
		}
		if len(skopeo) > 0 {
			ratio = fmt.Sprintf("%.3g", median(runs, seconds)/median(skopeo, seconds))
		}
		slices.SortFunc(runs, func(a, b measurement) int { return cmp.Compare(a.Seconds, b.Seconds) })
		count := func(server string) int { return median(runs, func(m measurement) int { return m.Requests[server] }) }
		line(at.situation, at.tool,
			fmt.Sprintf("%.3g s (%.3g, %.3g)", median(runs, seconds), runs[0].Seconds, runs[len(runs)-1].Seconds),
			storePart(runs),
			fmt.Sprintf("%.1f", median(runs, roundTrips)), beyond, ratio,
			humanBytes(median(runs, func(m measurement) int64 { return m.SentBytes })),
			fmt.Sprintf("%d + %d + %d", count("store")+count("storage")+count("sso"), count("registry"), count("auth")),
			humanBytes(median(runs, func(m measurement) int64 { return m.MemoryBytes })),
			humanBytes(median(runs, func(m measurement) int64 { return m.DiskBytes })))
	}
	return text.String()
}

// median returns the median of a measured value. For an even number of runs, it returns the greater of the two values
// in the middle.
func median[T cmp.Ordered](runs []measurement, of func(measurement) T) T {
	var all []T
	for _, m := range runs {
		all = append(all, of(m))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// storePart returns how long the calls to the store took, for a table.
func storePart(runs []measurement) string {
	if took := median(runs, storeSeconds); took > 0 {
		return fmt.Sprintf("%.2g s", took)
	}
	return "–"
}

// seconds returns how long a run took.
func seconds(m measurement) float64 { return m.Seconds }

// storeSeconds returns how long calls to the store were under way during a run.
func storeSeconds(m measurement) float64 { return m.Store }

// roundTrips returns how long a run took, in round trips of the link. It is 0 on loopback.
func roundTrips(m measurement) float64 { return m.RoundTrips }

// humanBytes formats a number of bytes with a unit, such as "12 MB". A negative number counts as 0.
func humanBytes(n int64) string { return humanize.Bytes(uint64(max(0, n))) }

// conditions says under what the figures were measured, in one paragraph.
func (b *bench) conditions(ctx context.Context) string {
	facts := []string{time.Now().UTC().Format(time.DateOnly), fmt.Sprintf("%d CPUs (%s)", runtime.NumCPU(),
		runtime.GOARCH)}
	facts = append(facts, ask(ctx, func(name, said string) string { return name + ": " + strings.TrimSpace(said) },
		"uname -sr", "go version", "git describe --always --dirty")...)
	facts = append(facts, versions(ctx)...)
	for _, left := range b.left {
		facts = append(facts, "left out: "+left)
	}
	return fmt.Sprintf("Conditions: %s; medians; empty caches in each run.", strings.Join(facts, "; "))
}

// versions returns those of the other tools that this machine has.
func versions(ctx context.Context) []string {
	return ask(ctx, func(name, said string) string {
		words := strings.Fields(said)
		return name + " " + strings.Join(words[max(0, len(words)-1):], "")
	}, "skopeo --version", "crane version", "regctl version --format {{.VCSTag}}",
		"docker version --format {{.Client.Version}}")
}

// ask runs commands and returns what they said, as the function writes it; not of
// those that failed.
func ask(ctx context.Context, write func(name, said string) string, lines ...string) (all []string) {
	for _, line := range lines {
		args := strings.Fields(line)
		if out, err := command(ctx, args[0], args[1:]...).Output(); err == nil {
			all = append(all, write(args[0], string(out)))
		}
	}
	return all
}

package main

import (
	"errors"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chart is horizontal bars in groups.
type chart struct {
	file   string // its name, without theme and extension
	title  string
	notes  []string // lines below the title
	unit   string   // of the values
	groups []group
}

type group struct {
	name string
	bars []bar
}

type bar struct {
	name  string
	value float64
	own   bool // of the action, not of another tool
}

// themes are GitHub's.
var themes = []struct{ name, paper, text, muted, grid, own, other string }{
	{"light", "#ffffff", "#1f2328", "#59636e", "#d1d9e0", "#0969da", "#818b98"},
	{"dark", "#0d1117", "#f0f6fc", "#9198a1", "#3d444d", "#4493f8", "#656c76"},
}

// draw writes the charts of the results into the folder.
func draw(folder string, r results) error {
	errs := []error{os.MkdirAll(folder, 0o750)}
	for _, c := range charts(r) {
		for theme := range themes {
			path := filepath.Join(folder, c.file+"-"+themes[theme].name+".svg")
			errs = append(errs, os.WriteFile(path, []byte(c.svg(theme)), 0o600))
		}
	}
	return errors.Join(errs...)
}

// charts returns one of the times in each situation, of the scenarios that another tool
// was measured in as well, and one of the action's round trips if those were measured:
// not of first pushes, whose time the bytes take.
func charts(r results) (all []chart) {
	runs := map[[3]string][]measurement{} // by scenario, situation and tool
	var scenarios, tools []string
	conditions := ""
	for _, m := range r.Runs {
		if m.Failure != "" {
			continue
		}
		key := [3]string{m.Scenario, m.Situation, m.Tool}
		runs[key] = append(runs[key], m)
		conditions = fmt.Sprintf("image of %d MB; network: %s; median of %d", m.SizeMB, m.Condition, len(runs[key]))
		if !slices.Contains(scenarios, m.Scenario) {
			scenarios = append(scenarios, m.Scenario)
		}
		if !slices.Contains(tools, m.Tool) {
			tools = append(tools, m.Tool)
		}
	}
	trips := chart{file: "round-trips", title: "Round trips of this action, one after the other (time ÷ rtt)", notes: []string{conditions}}
	for _, c := range []chart{{file: "unchanged", title: "Unchanged"}, {file: "changed", title: "One small layer changed"}, {file: "first-push", title: "First push"}} {
		situation := strings.ToLower(c.title)
		c.notes, c.unit = []string{"time; " + conditions, strings.Join(r.Versions, "; ")}, " s"
		ofAction := group{name: c.title}
		for _, scenario := range scenarios {
			place, _, _ := strings.Cut(scenario, " (")
			g := group{name: scenario}
			for _, tool := range tools {
				if of := runs[[3]string{scenario, situation, tool}]; of != nil {
					g.bars = append(g.bars, bar{short(tool), median(of, seconds), tool == ownTool})
				}
			}
			if len(g.bars) > 1 {
				c.groups = append(c.groups, g)
			}
			of, export := runs[[3]string{scenario, situation, ownTool}], runs[[3]string{scenario, exportAlone, "docker save"}]
			if of == nil || situation == firstPush || of[0].RoundTrips == 0 {
				continue
			}
			b := bar{place, median(of, roundTrips), true}
			if export != nil && situation == changed {
				b.value -= median(export, roundTrips)
				trips.notes = []string{conditions, "a changed image of an engine: less the time of docker save"}
			}
			ofAction.bars = append(ofAction.bars, b)
		}
		if len(c.groups) > 0 {
			all = append(all, c)
		}
		if len(ofAction.bars) > 0 {
			trips.groups = append(trips.groups, ofAction)
		}
	}
	if len(trips.groups) > 0 {
		all = append(all, trips)
	}
	return all
}

// short is a tool's name as a chart has room for it.
func short(tool string) string {
	if strings.HasPrefix(tool, "skopeo inspect") {
		return "the skopeo commands of charmcraft 4"
	}
	return tool
}

// svg draws the chart. Its scale is logarithmic if a bar would be too short on a linear
// one.
func (c chart) svg(theme int) string {
	const width, left, right, line = 760, 310, 680, 22
	t := themes[theme]
	least, most := math.Inf(1), 0.0
	for _, g := range c.groups {
		for _, b := range g.bars {
			least, most = min(least, b.value), max(most, b.value)
		}
	}
	var ticks []float64
	scale := ""
	low, position := 0.0, func(value float64) float64 { return value }
	if most > 10*least {
		scale = "; logarithmic scale"
		low, position = math.Floor(math.Log10(least)-0.2), math.Log10 // less, so that the shortest bar shows
		for power := low; power <= math.Log10(most); power++ {
			ticks = append(ticks, math.Pow(10, power))
		}
	} else {
		for tick := 0.0; tick <= most; tick += math.Pow(10, math.Floor(math.Log10(most))) {
			ticks = append(ticks, tick)
		}
	}
	x := func(value float64) float64 { return left + (right-left)*(position(value)-low)/(position(most)-low) }
	y := 28
	var body, grid strings.Builder
	write := func(x float64, style, format string, args ...any) {
		_, _ = fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\" %s>%s</text>\n", x, y, style, html.EscapeString(fmt.Sprintf(format, args...)))
	}
	write(16, `class="head" style="font-size: 16px"`, "%s", c.title)
	for n, note := range c.notes {
		y += line - 2
		if n == 0 {
			note += scale
		}
		write(16, `class="note"`, "%s", note)
	}
	top := y + 12
	for _, g := range c.groups {
		y += line + 12
		write(16, `class="head"`, "%s", g.name)
		for _, b := range g.bars {
			y += line
			color := t.other
			if b.own {
				color = t.own
			}
			_, _ = fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" rx=\"2\" fill=\"%s\"/>\n", left, y-11, x(b.value)-left, color)
			write(left-8, `text-anchor="end"`, "%s", b.name)
			write(x(b.value)+6, "", "%.3g%s", b.value, c.unit)
		}
	}
	_, _ = fmt.Fprintf(&grid, "<g stroke=\"%s\">", t.grid)
	bottom := y + 10
	y += line + 6
	for _, tick := range ticks {
		_, _ = fmt.Fprintf(&grid, `<path d="M%.1f %dV%d"/>`, x(tick), top, bottom)
		write(x(tick), `class="note" text-anchor="middle"`, "%.3g%s", tick, c.unit)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img">
<title>%[3]s</title>
<style>
text { font: 12px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: %[4]s; stroke: %[5]s; stroke-width: 3px; paint-order: stroke }
.head { font-weight: 600 }
.note { fill: %[6]s }
</style>
<rect width="100%%" height="100%%" rx="6" fill="%[5]s"/>
%[7]s</g>
%[8]s</svg>
`, width, y+14, html.EscapeString(c.title), t.text, t.paper, t.muted, grid.String(), body.String())
}

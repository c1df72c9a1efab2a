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
	groups []group
}

// group holds the bars of a chart that are compared with each other, below a heading.
type group struct {
	name string
	bars []bar
}

// bar is one bar of a chart, with its label and value.
type bar struct {
	name  string
	value float64
	store float64 // the part of it that calls to the store took
	own   bool    // of the action, not of another tool
}

// themes are GitHub's.
var themes = []struct{ name, paper, text, muted, grid, own, store, other string }{
	{"light", "#ffffff", "#1f2328", "#59636e", "#d1d9e0", "#0969da", "#54aeff", "#818b98"},
	{"dark", "#0d1117", "#f0f6fc", "#9198a1", "#3d444d", "#4493f8", "#1f6feb", "#656c76"},
}

// chartFont is the font of a chart's text, in CSS.
const chartFont = `font: 12px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif`

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

// charts returns one of each situation under the first condition, and one of all
// situations for the first place. Bars are of the action with its default
// compression and of other tools that upload an image.
func charts(r results) (all []chart) {
	t := tabulate(r)
	if len(t.conditions) == 0 {
		return nil
	}
	condition := t.conditions[0]
	notes := []string{condition.text(), strings.Join(r.Versions, "; ")}
	summary := chart{file: "summary", notes: notes}
	for _, c := range []chart{{file: "unchanged", title: "Unchanged"}, {file: "changed", title: "One small layer changed"},
		{file: "first-push", title: "First push"}} {
		c.notes = notes
		for _, place := range t.places {
			g := group{name: place}
			for _, tool := range t.tools {
				of := t.runs[cell{condition, place, tool, strings.ToLower(c.title)}]
				if of != nil && (tool == ownTool || !strings.HasPrefix(tool, ownTool)) {
					g.bars = append(g.bars, bar{short(tool), median(of, seconds), median(of, storeSeconds), tool == ownTool})
				}
			}
			if len(g.bars) < 2 {
				continue
			}
			c.groups = append(c.groups, g)
			if place == t.places[0] {
				summary.title = place
				summary.groups = append(summary.groups, group{c.title, g.bars})
			}
		}
		if len(c.groups) > 0 {
			all = append(all, c)
		}
	}
	if len(summary.groups) > 0 {
		all = append(all, summary)
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

// svg draws the chart, in seconds. The part of a bar that the store takes has a color
// of its own.
func (c chart) svg(theme int) string {
	const width, left, right, line = 760, 310, 680, 22
	t := themes[theme]
	most, stores := 0.0, false
	for _, g := range c.groups {
		for _, b := range g.bars {
			most, stores = max(most, b.value), stores || b.store > 0
		}
	}
	step := math.Pow(10, math.Floor(math.Log10(most)))
	if most < 3*step {
		step /= 2
	}
	notes := c.notes
	if stores {
		notes = append(slices.Clone(notes), "first part of this action's bars, in another shade: its calls to the store, "+
			"which the other tools don't make")
	}
	x := func(value float64) float64 { return left + (right-left)*value/most }
	y := 28
	var body, grid strings.Builder
	write := func(x float64, style, format string, args ...any) {
		_, _ = fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\" %s>%s</text>\n", x, y, style,
			html.EscapeString(fmt.Sprintf(format, args...)))
	}
	write(16, `class="head" style="font-size: 16px"`, "%s", c.title)
	for _, note := range notes {
		y += line - 2
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
			_, _ = fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" rx=\"2\" fill=\"%s\"/>\n", left,
				y-11, x(b.value)-left, color)
			if b.store > 0 {
				_, _ = fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" rx=\"2\" fill=\"%s\"/>\n", left,
					y-11, x(min(b.store, b.value))-left, t.store)
			}
			write(left-8, `text-anchor="end"`, "%s", b.name)
			write(x(b.value)+6, "", "%.3g s", b.value)
		}
	}
	_, _ = fmt.Fprintf(&grid, "<g stroke=\"%s\">", t.grid)
	bottom := y + 10
	y += line + 6
	for tick := 0.0; tick <= most; tick += step {
		_, _ = fmt.Fprintf(&grid, `<path d="M%.1f %dV%d"/>`, x(tick), top, bottom)
		write(x(tick), `class="note" text-anchor="middle"`, "%.3g s", tick)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg"`+
		` viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img">
<title>%[3]s</title>
<style>
text { %[9]s; fill: %[4]s; stroke: %[5]s; stroke-width: 3px; paint-order: stroke }
.head { font-weight: 600 }
.note { fill: %[6]s }
</style>
<rect width="100%%" height="100%%" rx="6" fill="%[5]s"/>
%[7]s</g>
%[8]s</svg>
`, width, y+14, html.EscapeString(c.title), t.text, t.paper, t.muted, grid.String(), body.String(), chartFont)
}

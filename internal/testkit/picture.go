package testkit

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

// pictureFont is the font of a picture's text, in CSS.
const pictureFont = `font: 14px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif`

// Measures of a picture, in pixels.
const (
	pictureWidth  = 1000
	pictureMargin = 24
	lineHeight    = 30
	charWidth     = 9.2
	maxCell       = 84  // characters of a cell that fit
	maxCode       = 110 // characters of a line of code that fit
)

var (
	tag  = regexp.MustCompile(`<[^>]*>`)
	rule = regexp.MustCompile(`^\|[:|-]+\|$`)
)

// Picture draws the Markdown of a step's summary as SVG, much as GitHub shows it: headings, text, tables and code. It
// knows the Markdown that this repository's programs write, and no other.
func Picture(markdown string) string {
	var body strings.Builder
	y, code, table := pictureMargin, false, [][]string(nil)
	text := func(x float64, class, text string) {
		fmt.Fprintf(&body, "<text x=\"%.0f\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class,
			html.EscapeString(cut(class, shown(text))))
	}
	drawTable := func() {
		widths := columnWidths(table)
		for n, row := range table {
			x := float64(pictureMargin)
			for i, cell := range row {
				fmt.Fprintf(&body, "<rect x=\"%.0f\" y=\"%d\" width=\"%.0f\" height=\"%d\" class=\"cell\"/>\n", x, y, widths[i],
					lineHeight)
				y += 20
				class := "text"
				if n == 0 || strings.Contains(cell, "**") {
					class = "bold"
				}
				text(x+10, class, cell)
				y -= 20
				x += widths[i]
			}
			y += lineHeight
		}
		y += lineHeight / 2
		table = nil
	}
	for line := range strings.Lines(markdown + "\n") {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "|"):
			if !rule.MatchString(line) {
				table = append(table, strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |"), " | "))
			}
			continue
		case table != nil:
			drawTable()
		}
		switch {
		case strings.HasPrefix(line, "```"):
			code = !code
		case strings.HasPrefix(line, "### "):
			y += 12
			text(pictureMargin, "heading", strings.TrimPrefix(line, "### "))
			y += lineHeight
		case line == "</pre>":
			code = false
		case code || strings.HasPrefix(line, "<pre>"):
			code = code || !strings.HasSuffix(line, "</pre>")
			fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"code\"/>\n",
				pictureMargin, y-6, pictureWidth-2*pictureMargin, lineHeight-6)
			y += 10
			text(pictureMargin+10, "mono", line)
			y += lineHeight - 16
		case shown(line) != "":
			y += 14
			text(pictureMargin, "text", line)
			y += lineHeight - 8
		}
	}
	height := y + pictureMargin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">
<style>
text { %s; fill: #1f2328; white-space: pre }
.heading { font-size: 19px; font-weight: 600 }
.bold { font-weight: 600 }
.mono { font: 12px ui-monospace, Menlo, Consolas, monospace }
.cell { fill: none; stroke: #d1d9e0 }
.code { fill: #f6f8fa }
</style>
<rect width="%d" height="%d" fill="#fff"/>
%s</svg>
`, pictureWidth, height, pictureWidth, height, pictureFont, pictureWidth, height, body.String())
}

// shown returns text of Markdown as it is shown.
func shown(text string) string {
	return html.UnescapeString(strings.ReplaceAll(tag.ReplaceAllString(text, ""), "**", ""))
}

// cut shortens text to what fits into the picture. Code is narrower than other text.
func cut(class, text string) string {
	most := maxCell
	if class == "mono" {
		most = maxCode
	}
	if all := []rune(text); len(all) > most {
		return string(all[:most-1]) + "…"
	}
	return text
}

// columnWidths returns the width of each column in pixels, enough for its longest cell.
func columnWidths(table [][]string) (widths []float64) {
	for _, row := range table {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], 20+charWidth*float64(min(maxCell, len([]rune(shown(cell))))))
		}
	}
	return widths
}

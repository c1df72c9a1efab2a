package docs

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// Without a colon: not to another site.
	link    = regexp.MustCompile(`(?:\]\(|src(?:set)?=")([^):"]*)[)"]`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fenced  = regexp.MustCompile("(?s)\n *```.*?\n *```")
	noText  = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// Links among the documents lead to files and headings that exist.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, target := range links(t, page) {
			path, anchor, _ := strings.Cut(target, "#")
			if _, err := fs.Stat(root, path); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
			} else if anchor != "" && !slices.Contains(anchors(t, path), anchor) {
				t.Errorf("%s links to %s: %s has no such heading", page, target, path)
			}
		}
	}
}

// The index of the documents lists each, and the README leads to it.
func TestIndex(t *testing.T) {
	const index = "docs/README.md"
	if !slices.Contains(links(t, "README.md"), index) {
		t.Errorf("README.md doesn't link to %s", index)
	}
	listed := links(t, index)
	for _, page := range pages(t) {
		if page != index && !slices.Contains(listed, page) {
			t.Errorf("%s doesn't list %s", index, page)
		}
	}
}

// links returns where the links of a page lead, from the repository's root on.
func links(t *testing.T, page string) (targets []string) {
	t.Helper()
	for _, found := range link.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, page), ""), -1) {
		if strings.HasPrefix(found[1], "#") {
			targets = append(targets, page+found[1])
			continue
		}
		targets = append(targets, filepath.Join(filepath.Dir(page), found[1]))
	}
	return targets
}

// anchors returns the anchors that GitHub gives to a page's headings. Headings
// with the same text are numbered.
func anchors(t *testing.T, page string) (all []string) {
	t.Helper()
	count := map[string]int{}
	for _, found := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, page), ""), -1) {
		anchor := strings.ReplaceAll(noText.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")
		if n := count[anchor]; n > 0 {
			all = append(all, fmt.Sprintf("%s-%d", anchor, n))
		} else {
			all = append(all, anchor)
		}
		count[anchor]++
	}
	return all
}

// named finds files and folders of this repository that a text names.
var named = regexp.MustCompile("`((?:pkg|e2e|docs|\\.ci|\\.github)/[^` ]*)`")

// The files and folders that contributors are sent to exist.
func TestNamedFiles(t *testing.T) {
	for _, page := range []string{"CONTRIBUTING.md", "docs/architecture.md"} {
		for _, found := range named.FindAllStringSubmatch(read(t, page), -1) {
			if _, err := fs.Stat(root, strings.TrimSuffix(found[1], "/")); err != nil {
				t.Errorf("%s names %s: %v", page, found[1], err)
			}
		}
	}
}

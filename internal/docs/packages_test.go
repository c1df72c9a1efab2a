package docs

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/charmhub-actions/upload-resource"

// The table of packages in the architecture page is complete, and names what
// each of them imports of the others.
func TestPackageTable(t *testing.T) {
	_, table, found := strings.Cut(read(t, "docs/architecture.md"), "\n| package | holds | imports |\n")
	if !found {
		t.Fatal("docs/architecture.md has no table of packages")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	name := regexp.MustCompile("`([^`]+)`")
	got := map[string][]string{}
	for _, line := range strings.Split(table, "\n")[1:] { // below the rule
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			t.Fatalf("the table has a row of other columns: %s", line)
		}
		imports := []string{}
		for _, one := range name.FindAllStringSubmatch(cells[3], -1) {
			imports = append(imports, one[1])
		}
		got[strings.Trim(cells[1], " `")] = imports
	}
	if diff := cmp.Diff(packages(t), got); diff != "" {
		t.Errorf("imports in go list (-) and in docs/architecture.md (+):\n%s", diff)
	}
}

// packages returns the packages of the program, and what each imports of the
// others, in the table's names.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	list := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", ".", "./pkg/...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		imports := []string{}
		for _, path := range paths[1:] {
			if name, ours := strings.CutPrefix(path, module+"/pkg/"); ours {
				imports = append(imports, name)
			}
		}
		name := strings.TrimPrefix(paths[0], module+"/pkg/")
		if name == module {
			name = "main"
		}
		slices.Sort(imports)
		all[name] = imports
	}
	return all
}

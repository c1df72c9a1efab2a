package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

type field struct {
	Description string `json:"description"`
	Required    bool   `json:"required"`
	Default     string `json:"default"`
}

// declared is what action.yml says about the action's interface.
type declared struct {
	Inputs  map[string]field `json:"inputs"`
	Outputs map[string]field `json:"outputs"`
}

func readDeclared(t *testing.T) (d declared) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, "action.yml")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// table returns the cells of the README's table whose first heading that is.
func table(t *testing.T, heading string) (rows [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, "README.md"), "\n| "+heading+" |")
	if !ok {
		t.Fatalf("README.md has no table of %ss", heading)
	}
	for line := range strings.Lines(rest[strings.Index(rest, "\n")+1:]) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows[1:] // below the rule
}

func TestReadmeListsTheInputs(t *testing.T) {
	want := map[string]string{}
	for name, input := range readDeclared(t).Inputs {
		switch {
		case input.Required:
			want[name] = "required"
		case input.Default != "":
			want[name] = "`" + input.Default + "`"
		default:
			want[name] = ""
		}
	}
	got := map[string]string{}
	for _, row := range table(t, "input") {
		got[strings.Trim(row[0], "`")] = row[1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inputs in action.yml (-) and README.md (+):\n%s", diff)
	}
}

func TestReadmeListsTheOutputs(t *testing.T) {
	var want, got []string
	for name := range readDeclared(t).Outputs {
		want = append(want, name)
	}
	for _, row := range table(t, "output") {
		got = append(got, strings.Trim(row[0], "`"))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs in action.yml (-) and README.md (+):\n%s", diff)
	}
}

// pages are what readers get to see.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	return append(docs, "README.md")
}

var yamlBlock = regexp.MustCompile("(?s)\n```yaml\n(.*?)```")

// step is a step of a workflow, as far as it is about this action.
type step struct {
	ID, Uses string
	With     map[string]any
}

// Each step that readers copy uses inputs and outputs that exist, and says what
// is to be uploaded, for which charm and resource.
func TestSteps(t *testing.T) {
	action := readDeclared(t)
	for _, page := range pages(t) {
		blocks := yamlBlock.FindAllStringSubmatch(read(t, page), -1)
		for _, block := range blocks {
			var content any
			if err := yaml.Unmarshal([]byte(block[1]), &content); err != nil {
				t.Errorf("%s: %v\n%s", page, err, block[1])
			}
			for _, step := range stepsIn(content) {
				for _, mistake := range action.mistakes(step, block[1]) {
					t.Errorf("%s: %s:\n%s", page, mistake, block[1])
				}
			}
		}
		if page == "README.md" && (len(blocks) == 0 || !strings.Contains(blocks[0][1], "uses: charmhub-actions/upload-resource@v1")) {
			t.Error("the first YAML in README.md isn't this action's step")
		}
	}
}

// stepsIn returns the steps that use this action, however deep they are.
func stepsIn(content any) (steps []step) {
	switch content := content.(type) {
	case []any:
		for _, one := range content {
			steps = append(steps, stepsIn(one)...)
		}
	case map[string]any:
		uses, _ := content["uses"].(string)
		if strings.HasPrefix(uses, "charmhub-actions/upload-resource@") {
			id, _ := content["id"].(string)
			with, _ := content["with"].(map[string]any)
			return []step{{id, uses, with}}
		}
		for _, one := range content {
			steps = append(steps, stepsIn(one)...)
		}
	}
	return steps
}

var stepOutput = regexp.MustCompile(`steps\.([a-z]+)\.outputs\.([a-z-]+)`)

// mistakes returns what is wrong with a step, and with the use of its outputs
// in the text around it.
func (d declared) mistakes(s step, text string) (mistakes []string) {
	for name := range s.With {
		if _, ok := d.Inputs[name]; !ok {
			mistakes = append(mistakes, "the action has no input "+name)
		}
	}
	_, set := s.With["metadata"]
	needed := []string{"charm", "resource", "store-token"}
	if set {
		needed = []string{"store-token"}
	}
	for _, name := range needed {
		if s.With[name] == nil {
			mistakes = append(mistakes, "the step lacks the input "+name)
		}
	}
	for _, used := range stepOutput.FindAllStringSubmatch(text, -1) {
		if _, ok := d.Outputs[used[2]]; used[1] == s.ID && !ok {
			mistakes = append(mistakes, "the action has no output "+used[2])
		}
	}
	return mistakes
}

// sources returns what is in the Go files below folders, tests or others.
func sources(t *testing.T, tests bool, folders ...string) string {
	t.Helper()
	var all strings.Builder
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && strings.HasSuffix(path, "_test.go") == tests {
				all.WriteString(read(t, path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// Each claim of the comparison names tests that are there.
func TestClaimsAreShown(t *testing.T) {
	tests := sources(t, true, "pkg", "e2e")
	_, rest, found := strings.Cut(read(t, "README.md"), "| shown by |\n")
	if !found {
		t.Fatal("README.md has no table whose last column is \"shown by\"")
	}
	claims := 0
	for line := range strings.Lines(rest[strings.Index(rest, "\n")+1:]) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		claims++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		named := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(named) == 0 {
			t.Errorf("no test is named for a claim: %s", line)
		}
		for _, test := range named {
			if !strings.Contains(tests, "func "+test[1]+"(t *testing.T)") {
				t.Errorf("there is no %s, which is to show a claim: %s", test[1], line)
			}
		}
	}
	if claims == 0 {
		t.Error("the comparison has no claims")
	}
}

// concatenation is where a string of the source goes on in the next line.
var concatenation = regexp.MustCompile(`"\s*\+\s*"`)

// Each sentence that troubleshooting explains is one that the program says.
func TestTroubleshootingQuotes(t *testing.T) {
	said := concatenation.ReplaceAllString(sources(t, false, "pkg"), "")
	quotes := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(read(t, "docs/troubleshooting.md"), -1)
	if len(quotes) == 0 {
		t.Fatal("docs/troubleshooting.md quotes nothing")
	}
	for _, quote := range quotes {
		for part := range strings.SplitSeq(quote[1], "…") {
			if part = strings.TrimSpace(part); !strings.Contains(said, part) {
				t.Errorf("the program doesn't say %q any more", part)
			}
		}
	}
}

// The token that people are told to make is the same everywhere.
func TestTokenCommand(t *testing.T) {
	command := regexp.MustCompile(`(?m)^    charmcraft login .*$`).FindString(read(t, "SECURITY.md"))
	if command == "" || !strings.Contains(read(t, "README.md"), "\n"+command+"\n") {
		t.Errorf("README.md lacks the line of SECURITY.md %q", command)
	}
}

// The level of compression that the README explains is the one in use.
func TestCompressionLevel(t *testing.T) {
	level := regexp.MustCompile(`(?m)^\tlevel\s+= (\d+)$`).FindStringSubmatch(read(t, "pkg/image/pack.go"))
	if level == nil || !strings.Contains(read(t, "README.md"), "\n| **"+level[1]+"** |") {
		t.Errorf("README.md doesn't mark the level of pkg/image/pack.go, %v", level)
	}
}

var link = regexp.MustCompile(`\]\(([^):]*)\)`)

// Links to files and headings here lead somewhere.
func TestLinks(t *testing.T) {
	for _, page := range append(pages(t), "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md") {
		for _, found := range link.FindAllStringSubmatch(read(t, page), -1) {
			path, heading, _ := strings.Cut(found[1], "#")
			if path = filepath.Join(filepath.Dir(page), path); strings.HasPrefix(found[1], "#") {
				path = page
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page, found[1], err)
			} else if heading != "" && !slices.Contains(headings(t, path), heading) {
				t.Errorf("%s links to %s, and %s has no such heading", page, found[1], path)
			}
		}
	}
}

// headings returns the anchors that GitHub gives to a page's headings.
func headings(t *testing.T, page string) (anchors []string) {
	t.Helper()
	for _, found := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(read(t, page), -1) {
		anchor := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(found[1]), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

// What readers are told to type near the top is what CI runs: each command is
// a line of its own.
func TestReadmeCommands(t *testing.T) {
	lines := strings.Split(read(t, "README.md"), "\n")
	for _, command := range []string{"go run ./e2e/demo", "go test ./..."} {
		if at := slices.Index(lines, command); at < 0 || at > 60 {
			t.Errorf("README.md doesn't have the line %q near its top", command)
		}
	}
}

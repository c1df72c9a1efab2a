package docs

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// field is an input or output as action.yml declares it.
type field struct {
	Description string
	Required    bool
	Default     string
}

// declared is what action.yml says about the action's interface.
type declared struct {
	Inputs  map[string]field
	Outputs map[string]field
}

// readDeclared reads the inputs and outputs from the action.yml at path.
func readDeclared(t *testing.T, path string) (d declared) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// documented says where the inputs and outputs of an action are documented: in
// tables of a page, whose first headings are input and output.
type documented struct{ action, page, input, output string }

var documentedActions = []documented{
	{"action.yml", "README.md", "input", "output"},
	{"release/action.yml", "docs/releases.md", "release input", "release output"},
	{"publish/action.yml", "docs/publish.md", "publish input", "publish output"},
	{"check-token/action.yml", "docs/tokens.md", "check-token input", "check-token output"},
}

// uses is how a step names the action, without a version.
func (d documented) uses() string { return strings.TrimSuffix(ourActions+"/"+d.action, "/action.yml") }

// read returns the content of a file, whose path is relative to the repository's root.
func read(t *testing.T, path string) string {
	t.Helper()
	content, err := fs.ReadFile(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// table returns the cells of the table in a page whose first heading that is.
func table(t *testing.T, page, heading string) (rows [][]string) {
	t.Helper()
	_, rest, ok := strings.Cut(read(t, page), "\n| "+heading+" |")
	if !ok {
		t.Fatalf("%s has no table of %ss", page, heading)
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

// Each input is in the table, with its default. A row may have several.
func TestInputsAreDocumented(t *testing.T) {
	for _, d := range documentedActions {
		want := map[string]string{}
		for name, input := range readDeclared(t, d.action).Inputs {
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
		for _, row := range table(t, d.page, d.input) {
			for name := range strings.SplitSeq(row[0], ", ") {
				got[strings.Trim(name, "`")] = row[1]
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("inputs in %s (-) and %s (+):\n%s", d.action, d.page, diff)
		}
	}
}

func TestOutputsAreDocumented(t *testing.T) {
	for _, d := range documentedActions {
		var want, got []string
		for name := range readDeclared(t, d.action).Outputs {
			want = append(want, name)
		}
		for _, row := range table(t, d.page, d.output) {
			got = append(got, strings.Trim(row[0], "`"))
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("outputs in %s (-) and %s (+):\n%s", d.action, d.page, diff)
		}
	}
}

// pages are the documents that readers see.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := fs.Glob(root, "docs/*.md")
	if err != nil || len(docs) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	return append(docs, "README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
}

var yamlBlock = regexp.MustCompile("(?s)\n```yaml\n(.*?)```")

// step is a step of a workflow, as far as it is about this action.
type step struct {
	ID, Uses string
	With     map[string]any
}

const ourActions = "charmhub-actions/upload-resource"

// Each step that readers copy uses inputs and outputs that exist, and says which
// charm it is for.
func TestSteps(t *testing.T) {
	actions := map[string]declared{}
	for _, d := range documentedActions {
		actions[d.uses()] = readDeclared(t, d.action)
	}
	for _, page := range pages(t) {
		blocks := yamlBlock.FindAllStringSubmatch(read(t, page), -1)
		for _, block := range blocks {
			for _, step := range parseSteps(t, block[1]) {
				action, _, _ := strings.Cut(step.Uses, "@")
				for _, mistake := range actions[action].mistakes(step, block[1]) {
					t.Errorf("%s: %s:\n%s", page, mistake, block[1])
				}
			}
		}
		if page == "README.md" && (len(blocks) == 0 ||
			!strings.Contains(blocks[0][1], "uses: charmhub-actions/upload-resource@v1")) {
			t.Error("the first YAML in README.md isn't this action's step")
		}
	}
}

// markedWorkflow is a workflow that the end-to-end tests run.
var markedWorkflow = regexp.MustCompile("(?s)\n<!-- workflow: [a-z-]+ -->\n```yaml\n(.*?)```")

// Each step in the README is a step of a workflow that the end-to-end tests run.
func TestReadmeStepsAreRun(t *testing.T) {
	var run []step
	for _, page := range pages(t) {
		for _, workflow := range markedWorkflow.FindAllStringSubmatch(read(t, page), -1) {
			run = append(run, parseSteps(t, workflow[1])...)
		}
	}
	for _, block := range yamlBlock.FindAllStringSubmatch(read(t, "README.md"), -1) {
		for _, one := range parseSteps(t, block[1]) {
			same := func(other step) bool { return one.Uses == other.Uses && cmp.Equal(one.With, other.With) }
			if !slices.ContainsFunc(run, same) {
				t.Errorf("no workflow has the step of README.md:\n%s", block[1])
			}
		}
	}
}

// parseSteps returns the steps in a YAML text that use our actions.
func parseSteps(t *testing.T, text string) []step {
	t.Helper()
	var content any
	if err := yaml.Unmarshal([]byte(text), &content); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return stepsIn(content)
}

// stepsIn returns the steps that use our actions, however deep they are.
func stepsIn(content any) (steps []step) {
	switch content := content.(type) {
	case []any:
		for _, one := range content {
			steps = append(steps, stepsIn(one)...)
		}
	case map[string]any:
		uses, _ := content["uses"].(string)
		action, _, _ := strings.Cut(uses, "@")
		if slices.ContainsFunc(documentedActions, func(d documented) bool { return d.uses() == action }) {
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
	needed := []string{"store-token"}
	if _, takes := d.Inputs["charm"]; takes && s.With["metadata"] == nil {
		needed = append(needed, "charm")
		if _, known := d.Inputs["resource"]; known {
			needed = append(needed, "resource")
		}
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
		err := fs.WalkDir(root, folder, func(path string, _ fs.DirEntry, err error) error {
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

// Each claim of the comparison names tests that exist.
func TestClaimsAreShown(t *testing.T) {
	const page = "docs/comparison.md"
	tests := sources(t, true, "pkg", "e2e")
	claims, inTable := 0, false
	for line := range strings.Lines(read(t, page)) {
		if strings.HasSuffix(line, "| shown by |\n") {
			inTable = true
			continue
		}
		inTable = inTable && strings.HasPrefix(line, "|")
		if !inTable || strings.HasPrefix(line, "|---") {
			continue
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

// concatenation matches where a string literal continues in another.
var concatenation = regexp.MustCompile(`"\s*\+\s*"`)

// quoted finds rows of tables whose first cell quotes the program.
var quoted = regexp.MustCompile("(?m)^\\| `([^|]+)` \\|")

// What the documents quote is what the program prints: the errors that
// troubleshooting explains, and the lines of the log. An ellipsis stands for a
// value; several quotes may share a row.
func TestQuotes(t *testing.T) {
	said := concatenation.ReplaceAllString(sources(t, false, "pkg"), "")
	for _, page := range []string{read(t, "docs/troubleshooting.md"), logSection(t)} {
		quotes := quoted.FindAllStringSubmatch(page, -1)
		if len(quotes) == 0 {
			t.Errorf("nothing is quoted in:\n%s", page)
		}
		for _, quote := range quotes {
			for one := range strings.SplitSeq(quote[1], "`, `") {
				for part := range strings.SplitSeq(one, "…") {
					if part = strings.TrimSpace(part); !strings.Contains(said, part) {
						t.Errorf("the program doesn't print %q", part)
					}
				}
			}
		}
	}
}

// logSection returns what the documents say about the log.
func logSection(t *testing.T) string {
	t.Helper()
	_, section, found := strings.Cut(read(t, "docs/log.md"), "\n## The log\n")
	if !found {
		t.Fatal("docs/log.md doesn't explain the log")
	}
	return section
}

// The token that people are told to make is the same everywhere.
func TestTokenCommand(t *testing.T) {
	command := regexp.MustCompile(`(?m)^ +(charmcraft login .*)$`)
	want, got := command.FindStringSubmatch(read(t, "SECURITY.md")), command.FindStringSubmatch(read(t, "README.md"))
	if want == nil || got == nil || got[1] != want[1] {
		t.Errorf("the token of README.md is made by %q, that of SECURITY.md by %q", got, want)
	}
}

// The level of compression that the documents explain is the one in use.
func TestCompressionLevel(t *testing.T) {
	level := regexp.MustCompile(`(?m)^\tlevel\s+= (\d+)$`).FindStringSubmatch(read(t, "pkg/pack/pack.go"))
	if level == nil || !strings.Contains(read(t, "docs/measured.md"), "\n| **"+level[1]+"** |") {
		t.Errorf("docs/measured.md doesn't mark the level of pkg/pack/pack.go, %v", level)
	}
}

// The README stays short enough to read in five minutes.
func TestReadmeSize(t *testing.T) {
	if size := len(read(t, "README.md")); size < 8_000 || size > 12_000 {
		t.Errorf("README.md has %d bytes, want 8 to 12 kB: details belong in docs", size)
	}
}

// CI runs the commands that the README gives near its top: each is a line of its
// own.
func TestReadmeCommands(t *testing.T) {
	lines := strings.Split(read(t, "README.md"), "\n")
	for _, command := range []string{"go run ./e2e/demo", "go test ./..."} {
		if at := slices.Index(lines, command); at < 0 || at > 60 {
			t.Errorf("README.md doesn't have the line %q near its top", command)
		}
	}
}

// The README says that there is no release until the changelog has one.
func TestReadmeSaysWhatRuns(t *testing.T) {
	released := regexp.MustCompile(`(?m)^## \[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}$`).MatchString(read(t, "CHANGELOG.md"))
	if unreleased := strings.Contains(read(t, "README.md"), "There is no release yet"); unreleased == released {
		t.Errorf("README.md says that there is no release: %t; CHANGELOG.md has a release: %t", unreleased, released)
	}
}

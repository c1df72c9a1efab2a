package main

import (
	"os"
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

// The step that readers copy uses inputs and outputs that exist, and all that
// are required.
func TestReadmeStep(t *testing.T) {
	action := readDeclared(t)
	_, rest, _ := strings.Cut(read(t, "README.md"), "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	var steps []struct {
		With map[string]string `json:"with"`
	}
	if err := yaml.Unmarshal([]byte(text), &steps); err != nil || len(steps) == 0 {
		t.Fatalf("the first YAML in README.md isn't a list of steps: %v\n%s", err, text)
	}
	for name := range steps[0].With {
		if _, ok := action.Inputs[name]; !ok {
			t.Errorf("the step has the input %s, which the action doesn't", name)
		}
	}
	for name, input := range action.Inputs {
		if input.Required && steps[0].With[name] == "" {
			t.Errorf("the step lacks the required input %s", name)
		}
	}
	for _, output := range regexp.MustCompile(`steps\.image\.outputs\.([a-z-]+)`).FindAllStringSubmatch(text, -1) {
		if _, ok := action.Outputs[output[1]]; !ok {
			t.Errorf("the step reads the output %s, which the action doesn't have", output[1])
		}
	}
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

package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestPageLength: a page can be read in one sitting. What is copied or looked up doesn't count: code, and the pages
// that are lists of errors or figures.
func TestPageLength(t *testing.T) {
	lists := []string{"docs/troubleshooting.md", "docs/benchmarks.md", "CHANGELOG.md"}
	for _, page := range pages(t) {
		words := len(strings.Fields(fenced.ReplaceAllString(read(t, page), "")))
		if words > 1500 && !slices.Contains(lists, page) {
			t.Errorf("%s has %d words, want at most 1500; move what answers another question to a page of its own", page, words)
		}
	}
}

// exampleWorkflow is what is checked of a workflow.
type exampleWorkflow struct {
	Permissions map[string]string
	Concurrency any
	Jobs        map[string]struct {
		Uses        string
		Environment any
		Timeout     int `yaml:"timeout-minutes"`
		Steps       []step
	}
}

// mistakes returns what a workflow that people copy lacks. Jobs that call a workflow can't have a timeout.
func (w exampleWorkflow) mistakes() (mistakes []string) {
	if len(w.Permissions) == 0 {
		mistakes = append(mistakes, "it lacks permissions")
	}
	for scope, access := range w.Permissions {
		if access == "write" {
			mistakes = append(mistakes, "all jobs may write "+scope+"; give that to the job that needs it")
		}
	}
	calls := true
	for name, job := range w.Jobs {
		calls = calls && (job.Uses != "" || len(job.Steps) > 0 && !usesOurs(job.Steps, ""))
		if job.Uses != "" {
			continue
		}
		if job.Timeout == 0 {
			mistakes = append(mistakes, "job "+name+" lacks timeout-minutes")
		}
		if job.Environment == nil && (usesOurs(job.Steps, "/release") || usesOurs(job.Steps, "/publish")) {
			mistakes = append(mistakes, "job "+name+" releases, and lacks an environment")
		}
	}
	if w.Concurrency == nil && !calls {
		mistakes = append(mistakes, "it lacks concurrency")
	}
	return mistakes
}

// usesOurs reports whether a step uses one of our actions whose path begins so.
func usesOurs(steps []step, path string) bool {
	return slices.ContainsFunc(steps, func(s step) bool { return strings.HasPrefix(s.Uses, ourActions+path) })
}

// workflowsIn returns the whole workflows of a page.
func workflowsIn(t *testing.T, page string) (texts []string) {
	t.Helper()
	for _, block := range yamlBlock.FindAllStringSubmatch(read(t, page), -1) {
		if strings.Contains("\n"+block[1], "\njobs:\n") {
			texts = append(texts, block[1])
		}
	}
	return texts
}

// TestExampleWorkflows: each workflow that people copy has least permissions, a timeout, an order among its runs, and
// an environment where it releases. actionlint knows no mistake in it.
func TestExampleWorkflows(t *testing.T) {
	dir, count := t.TempDir(), 0
	for _, page := range pages(t) {
		for _, text := range workflowsIn(t, page) {
			var w exampleWorkflow
			if err := yaml.Unmarshal([]byte(text), &w); err != nil {
				t.Fatalf("%s: %v\n%s", page, err, text)
			}
			for _, mistake := range w.mistakes() {
				t.Errorf("%s: %s:\n%s", page, mistake, text)
			}
			count++
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.yml", count)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if count < 10 {
		t.Errorf("%d workflows, want more", count)
	}
	if _, err := exec.LookPath("actionlint"); err != nil {
		t.Skip("actionlint isn't on PATH")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("actionlint", append([]string{"-shellcheck=", "-pyflakes="},
		files...)...).CombinedOutput(); err != nil {
		t.Errorf("actionlint: %v\n%s", err, out)
	}
}

// TestExampleWorkflowMistakes: the check finds each thing that an example may lack.
func TestExampleWorkflowMistakes(t *testing.T) {
	const atOnce = "concurrency: a\n"
	for name, test := range map[string]struct{ permissions, rest, job, want string }{
		"no concurrency": {
			"contents: read", "", "timeout-minutes: 5, environment: e, steps: [{uses: " + ourActions + "/release@v1}]",
			"it lacks concurrency",
		},
		"no permissions": {"", atOnce, "timeout-minutes: 5", "it lacks permissions"},
		"permission to write": {
			"contents: read, issues: write", atOnce, "timeout-minutes: 5",
			"all jobs may write issues; give that to the job that needs it",
		},
		"no timeout": {"contents: read", atOnce, "steps: [{run: b}]", "job a lacks timeout-minutes"},
		"no environment": {
			"contents: read", atOnce, "timeout-minutes: 5, steps: [{uses: " + ourActions + "/publish@v1}]",
			"job a releases, and lacks an environment",
		},
		"called": {"contents: read", "", "uses: x/.github/workflows/y.yml@v1", ""},
	} {
		text := fmt.Sprintf("permissions: {%s}\n%sjobs: {a: {%s}}", test.permissions, test.rest, test.job)
		var w exampleWorkflow
		if err := yaml.Unmarshal([]byte(text), &w); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.mistakes(), "; "); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// TestRenovateExample: the pattern finds what upstream-source names, in all its forms.
func TestRenovateExample(t *testing.T) {
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(read(t, "docs/pipelines.md"))
	if found == nil {
		t.Fatal("docs/pipelines.md has no configuration of Renovate")
	}
	var config struct {
		CustomManagers []struct{ ManagerFilePatterns, MatchStrings []string }
	}
	if err := json.Unmarshal([]byte(found[1]), &config); err != nil || len(config.CustomManagers) != 1 {
		t.Fatalf("%+v: %v", config, err)
	}
	manager := config.CustomManagers[0]
	if !regexp.MustCompile(strings.Trim(manager.ManagerFilePatterns[0], "/")).MatchString("operators/a/charmcraft.yaml") {
		t.Error("the pattern doesn't find charmcraft.yaml")
	}
	pattern := regexp.MustCompile(manager.MatchStrings[0])
	for line, want := range map[string][]string{
		"upstream-source: ghcr.io/my-org/my-image:1.2":               {"ghcr.io/my-org/my-image", "1.2", ""},
		"upstream-source: localhost:5000/my-image:1.2@sha256:0a":     {"localhost:5000/my-image", "1.2", "sha256:0a"},
		"    upstream-source: docker.io/library/redis:7@sha256:0b #": {"docker.io/library/redis", "7", "sha256:0b"},
	} {
		match := pattern.FindStringSubmatch(line)
		if match == nil {
			t.Errorf("%s isn't found", line)
			continue
		}
		for n, name := range []string{"depName", "currentValue", "currentDigest"} {
			if got := match[pattern.SubexpIndex(name)]; got != want[n] {
				t.Errorf("%s: %s is %q, want %q", line, name, got, want[n])
			}
		}
	}
}

// TestReleasingNames: the page about releasing names workflows, jobs and steps that exist.
func TestReleasingNames(t *testing.T) {
	workflow := read(t, ".github/workflows/release.yml")
	names := regexp.MustCompile(`(?m)^\| \*(.+?)\* \|`).FindAllStringSubmatch(read(t, "docs/releasing.md"), -1)
	if len(names) < 5 {
		t.Fatalf("%d steps are named, want at least 5", len(names))
	}
	for _, name := range names {
		if !strings.Contains(workflow, "name: "+name[1]+"\n") {
			t.Errorf("the release workflow has no step %q", name[1])
		}
	}
}

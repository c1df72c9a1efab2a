package commandline

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

// actions reads the action.yml files, with the inputs in their order.
func actions(t *testing.T) (all []Action) {
	t.Helper()
	folders, err := filepath.Glob("../../*/action.yml")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no actions: %v", err)
	}
	for _, path := range append([]string{"../../action.yml"}, folders...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Description string
			Inputs      yaml.Node
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		action := Action{Name: filepath.Base(filepath.Dir(path)), Description: file.Description}
		if action.Name == ".." {
			action.Name = ""
		}
		for n := 0; n < len(file.Inputs.Content); n += 2 {
			input := Input{Name: file.Inputs.Content[n].Value}
			if err := file.Inputs.Content[n+1].Decode(&input); err != nil {
				t.Fatal(err)
			}
			action.Inputs = append(action.Inputs, input)
		}
		all = append(all, action)
	}
	return all
}

// TestActionsAreEmbedded: what is embedded is what the action.yml files say. With -update it is rewritten.
func TestActionsAreEmbedded(t *testing.T) {
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(actions(t)); err != nil {
		t.Fatal(err)
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile("actions.json", want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		actionsJSON = want.Bytes()
	}
	if diff := cmp.Diff(want.String(), string(actionsJSON)); diff != "" {
		t.Errorf("action.yml files (-) and actions.json (+): run `go test ./pkg/commandline -update`\n%s", diff)
	}
}

// TestHelp: the help of each command is what a reader should see.
func TestHelp(t *testing.T) {
	for _, action := range actions(t) {
		name, args := "help", []string{"--help"}
		if action.Name != "" {
			name, args = "help."+action.Name, []string{action.Name, "--help"}
		}
		t.Run(name, func(t *testing.T) {
			parsed, err := Parse(args, "v1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			testkit.Golden(t, name, parsed.Help)
			for line := range strings.Lines(parsed.Help) {
				if len(line) > 101 {
					t.Errorf("%d columns: %s", len(line), line)
				}
			}
			for _, input := range action.Inputs {
				if !strings.Contains(parsed.Help, "--"+input.Name+" ") {
					t.Errorf("no flag for the input %s", input.Name)
				}
			}
		})
	}
}

func TestParse(t *testing.T) {
	env := testkit.Env{"INPUT_CHARM": "from-the-environment", "INPUT_IMAGE": "lost", "INPUT_COMPRESSION": "",
		"HOME": "/home"}
	for name, test := range map[string]struct {
		args    []string
		command string
		json    string
		want    testkit.Env
	}{
		"nothing": {nil, "", "", testkit.Env{"INPUT_CHARM": "from-the-environment", "HOME": "/home",
			"INPUT_DRY-RUN": "false", "INPUT_FILEPATH": "", "INPUT_COMPRESSION": ""}},
		"an upload": {[]string{"--charm", "my-charm", "--resource=my-image", "--dry-run"}, "", "",
			testkit.Env{"INPUT_CHARM": "my-charm", "INPUT_RESOURCE": "my-image", "INPUT_DRY-RUN": "true", "HOME": "/home"}},
		"several lines": {[]string{"--image", "a.rock", "--image", "b.rock platform=linux/arm64"}, "", "",
			testkit.Env{"INPUT_IMAGE": "a.rock\nb.rock platform=linux/arm64"}},
		"false, empty": {[]string{"--dry-run=false", "--image="}, "", "",
			testkit.Env{"INPUT_DRY-RUN": "false", "INPUT_IMAGE": ""}},
		"a release": {[]string{"release", "--channel", "latest/edge", "--json", "out.json"}, "release", "out.json",
			testkit.Env{"INPUT_CHANNEL": "latest/edge", "INPUT_CHARM": "from-the-environment"}},
		"a check": {[]string{"check-token", "--warn-days=3"}, "check-token", "",
			testkit.Env{"INPUT_WARN-DAYS": "3", "INPUT_FAIL-DAYS": "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := Parse(test.args, "")
			if err != nil || parsed.Help != "" || parsed.Command != test.command || parsed.JSON != test.json {
				t.Fatalf("%+v, %v", parsed, err)
			}
			get := parsed.Getenv(env.Lookup)
			for variable, want := range test.want {
				if got := get(variable); got != want {
					t.Errorf("%s is %q, want %q", variable, got, want)
				}
			}
		})
	}
}

func TestVersion(t *testing.T) {
	parsed, err := Parse([]string{"--version"}, "v1.2.3")
	if err != nil || parsed.Help != "upload-resource v1.2.3\n" {
		t.Errorf("%q %v", parsed.Help, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for want, args := range map[string][]string{
		"unknown flag: --chanel":                                       {"release", "--chanel", "latest/edge"},
		"unknown flag: --channel":                                      {"--channel", "latest/edge"},
		`unknown command "relase"`:                                     {"relase"},
		"a value of true or false needs the =, as in --dry-run=true; ": {"--dry-run", "true"},
		"flag needs an argument: --charm":                              {"--charm"},
		`unknown command "completion"`:                                 {"completion", "bash"},
		"an argument is neither":                                       {"--image", "a.rock", "My/b.rock"},
	} {
		_, err := Parse(args, "")
		testkit.WantError(t, err, "read the command line: ", want, "`upload-resource --help` lists the flags and commands")
		if strings.Contains(err.Error(), "My/") {
			t.Errorf("an argument is repeated: %v", err)
		}
	}
}

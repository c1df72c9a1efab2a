// Package commandline reads the program's command line. Each input of the actions is a flag of its name, and each
// action but the first is a command; `--help` describes both with the texts of the action.yml files.
//
// These files are embedded as actions.json, which has no more of them: the tag of a release changes an action.yml, and
// must not change the program. The library is cobra with pflag, by which docker, kubectl, crane and gh read theirs.
package commandline

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// CommandLine holds the parsed arguments of the program.
type CommandLine struct {
	Command string // the action's name; empty for the upload of a resource
	Help    string // text to print instead of doing anything; empty for none
	JSON    string // path of a file for the outputs; empty for none

	inputs   map[string]string // values by the name of the variable
	defaults map[string]string // those of the command's inputs, by the name of the variable
}

// Action is the part of an action.yml that the command line needs.
type Action struct {
	Name        string // of its folder; empty for the first
	Description string
	Inputs      []Input
}

// Input is an input of an action.
type Input struct{ Name, Description, Default string }

//go:embed actions.json
var actionsJSON []byte

// Parse reads the program's arguments. The error says what is wrong, and which command lists the flags.
func Parse(args []string, version string) (CommandLine, error) {
	var actions []Action
	if err := json.Unmarshal(actionsJSON, &actions); err != nil {
		panic(err) // a test compares it with the files
	}
	parsed := CommandLine{inputs: map[string]string{}}
	var help bytes.Buffer
	root := parsed.command(actions[0])
	root.Use, root.Version = "upload-resource", version
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true}) // there is --help
	root.SetVersionTemplate("upload-resource {{.Version}}\n")
	root.SetUsageTemplate(usage)
	root.SetHelpTemplate("{{.Short}}\n\n{{.UsageString}}")
	for _, action := range actions[1:] {
		root.AddCommand(parsed.command(action))
	}
	root.SetArgs(append([]string{}, args...)) // nil would stand for those of the process
	root.SetOut(&help)
	if err := root.Execute(); err != nil {
		return parsed, fmt.Errorf("read the command line: %w; `upload-resource --help` lists the flags and commands", err)
	}
	parsed.Help = help.String()
	return parsed, nil
}

// command returns cobra's command for an action. When it runs, it stores the action's name and the defaults of its
// inputs in c.
func (c *CommandLine) command(action Action) *cobra.Command {
	command := &cobra.Command{
		Use: action.Name, Short: action.Description, Args: noArguments, SilenceErrors: true, SilenceUsage: true,
		DisableFlagsInUseLine: true,
		Run: func(*cobra.Command, []string) {
			c.Command, c.defaults = action.Name, map[string]string{}
			for _, input := range action.Inputs {
				c.defaults[input.variable()] = input.Default
			}
		},
	}
	flags := command.Flags()
	flags.SortFlags = false
	for _, input := range action.Inputs {
		flag := flags.VarPF(&value{of: input, inputs: c.inputs}, input.Name, "",
			strings.ReplaceAll(input.Description, "`", "'"))
		flag.DefValue = input.Default
		if input.isBool() {
			flag.NoOptDefVal = "true"
		}
	}
	flags.StringVar(&c.JSON, "json", "", "`file` to write the outputs to, as a JSON object; by default, they are printed")
	flags.BoolP("help", "h", false, "print this text")
	if action.Name == "" {
		flags.Bool("version", false, "print the version")
	}
	return command
}

// noArguments complains about arguments that aren't flags. It repeats what can be the name of a command, since anything
// else may be a token.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if args[0] == "true" || args[0] == "false" {
		return errors.New("a value of true or false needs the =, as in --dry-run=true")
	}
	if commandForm.MatchString(args[0]) {
		return fmt.Errorf("unknown command %q", args[0])
	}
	return errors.New("an argument is neither a flag nor a command; put quotes around a value with spaces, and = before " +
		"true and false")
}

// commandForm matches what may be meant as a command, and is too short for a token.
var commandForm = regexp.MustCompile(`^[a-z-]{1,20}$`)

// usage is cobra's template of a command's help.
const usage = `Usage:
  {{.CommandPath}} [flags]{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND [flags]

Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 100 | trimTrailingWhitespaces}}

A flag that is given several times is an input of several lines. An input can also be given as a
variable, INPUT_ and its name in capitals.
`

// isBool reports whether the input is true or false.
func (i Input) isBool() bool { return i.Default == "true" || i.Default == "false" }

// value is the value of a flag, stored under the name of the input's variable.
type value struct {
	of     Input
	inputs map[string]string
}

var _ pflag.Value = (*value)(nil)

// Type is the placeholder of the value in the help.
func (v *value) Type() string {
	if v.of.isBool() {
		return "bool"
	}
	return "text"
}

// String returns the input's value; empty if no flag gave one.
func (v *value) String() string { return v.inputs[v.of.variable()] }

// Set adds a line to the input.
func (v *value) Set(text string) error {
	name := v.of.variable()
	if before, again := v.inputs[name]; again {
		text = before + "\n" + text
	}
	v.inputs[name] = text
	return nil
}

// variable returns the name of the environment variable in which a runner passes the input.
func (i Input) variable() string { return "INPUT_" + strings.ToUpper(i.Name) }

// Getenv returns a function that looks up variables: inputs that were given as flags, then what lookup finds, then the
// defaults of inputs. So an input that a workflow sets to nothing differs from one that isn't given, as on a runner.
func (c CommandLine) Getenv(lookup func(string) (string, bool)) func(string) string {
	return func(name string) string {
		if value, given := c.inputs[name]; given {
			return value
		}
		if value, isSet := lookup(name); isSet {
			return value
		}
		return c.defaults[name]
	}
}

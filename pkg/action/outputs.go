package action

import (
	"fmt"
	"strings"
)

// Output is a value that later steps of the job can read by its name.
type Output struct{ Name, Value string }

// SetOutputs writes outputs to the file that GITHUB_OUTPUT names, or prints them as
// name=value lines if the variable is empty, in their order. Secrets in them are
// replaced by ***. It returns an error, and writes none, if a runner could read one
// of them as several outputs.
func (r *Runner) SetOutputs(outputs ...Output) error {
	for _, o := range outputs {
		// githubactions brackets every value by this same line, spelled like that.
		if strings.ContainsAny(o.Value, "\r\n") || strings.Contains(o.Value, "_GitHubActionsFileCommandDelimeter_") {
			return fmt.Errorf("cannot set the output %s: a runner could take the value %q for several outputs", o.Name, o.Value)
		}
	}
	for _, o := range outputs {
		if r.getenv("GITHUB_OUTPUT") == "" {
			r.say(o.Name + "=" + o.Value)
			continue
		}
		if err := caught(func() { r.files.SetOutput(o.Name, r.redact(o.Value)) }); err != nil {
			return fmt.Errorf("cannot set the output %s: %w; check that the runner's file exists, and run as root if it belongs to root", o.Name, err)
		}
	}
	return nil
}

// caught returns the error that write panics with, as githubactions does when
// one of the runner's files can't be written.
func caught(write func()) (err error) {
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case error:
			err = problem
		default:
			panic(problem)
		}
	}()
	write()
	return nil
}

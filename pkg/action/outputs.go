package action

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Output is a value that later steps of the job can read by its name.
type Output struct {
	Name, Value string
	HasLines    bool // the value may have several lines
}

// WriteJSON makes SetOutputs also write the outputs to the file at path, as one JSON object. An output that is a JSON
// list stays a list; every other output is a string. An empty path does nothing. WriteJSON itself writes an empty
// object, so that nobody reads older outputs after a failure.
func (r *Runner) WriteJSON(path string) error {
	r.jsonPath = path
	if path == "" {
		return nil
	}
	return r.writeJSON(nil)
}

// writeJSON replaces the file of [Runner.WriteJSON] by an object of the outputs. Secrets in them are replaced by ***.
func (r *Runner) writeJSON(outputs []Output) error {
	object := map[string]any{}
	for _, o := range outputs {
		object[o.Name] = r.redact(o.Value)
		if list := []byte(r.redact(o.Value)); strings.HasPrefix(o.Value, "[") && json.Valid(list) {
			object[o.Name] = json.RawMessage(list)
		}
	}
	text, err := json.MarshalIndent(object, "", "  ")
	if err == nil {
		err = os.WriteFile(r.jsonPath, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the outputs: %w; give another file with --json", err)
	}
	return nil
}

// SetOutputs writes outputs to the file that GITHUB_OUTPUT names, and to that of [Runner.WriteJSON]. If there is
// neither, it prints them as name=value lines, in their order. Secrets in them are replaced by ***. If a runner could
// read one of them as several outputs, it writes none and returns an error.
func (r *Runner) SetOutputs(outputs ...Output) error {
	for _, o := range outputs {
		// githubactions ends every value with this same line, misspelled so. A value that holds the line could set other
		// outputs: this check is what a random delimiter would be for.
		if strings.ContainsAny(o.Value, "\r\n") && !o.HasLines ||
			strings.Contains(o.Value, "_GitHubActionsFileCommandDelimeter_") {
			return fmt.Errorf("cannot set the output %s: a runner could take the value %q for several outputs", o.Name, o.Value)
		}
	}
	if r.jsonPath != "" {
		if err := r.writeJSON(outputs); err != nil {
			return err
		}
	}
	for _, o := range outputs {
		if r.getenv("GITHUB_OUTPUT") == "" {
			if r.jsonPath == "" {
				r.say(o.Name + "=" + o.Value)
			}
			continue
		}
		if err := caught(func() { r.files.SetOutput(o.Name, r.redact(o.Value)) }); err != nil {
			return fmt.Errorf("cannot set the output %s: %w; check that the runner's file exists, and run as root if it "+
				"belongs to root", o.Name, err)
		}
	}
	return nil
}

// caught returns the error that write panics with. githubactions has no other way to report that one of the runner's
// files can't be written; without this, a full disk would look like a crash of the program. Other panics go on.
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

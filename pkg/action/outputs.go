package action

import (
	"fmt"
	"strconv"
	"strings"
)

// Outputs is what later steps of the job can read.
type Outputs struct {
	Revision        int    // the resource's revision, new or reused; 0 for none
	RevisionCreated bool   // the revision is new
	RemoteDigest    string // digest of the manifest or index in the registry
	RemoteImage     string // name@digest in the registry
	SourceDigest    string // the image's ID or digest where it came from
	Uploaded        bool   // a blob, a manifest or the file was sent
	ResourceFlag    string // name:revision, for charmcraft release --resource
}

type output struct{ name, value string }

func (o Outputs) list() []output {
	revision := ""
	if o.Revision != 0 {
		revision = strconv.Itoa(o.Revision)
	}
	return []output{
		{"revision", revision},
		{"revision-created", strconv.FormatBool(o.RevisionCreated)},
		{"remote-digest", o.RemoteDigest},
		{"remote-image", o.RemoteImage},
		{"source-digest", o.SourceDigest},
		{"uploaded", strconv.FormatBool(o.Uploaded)},
		{"resource-flag", o.ResourceFlag},
	}
}

// SetOutputs hands outputs to the runner, through the file that GITHUB_OUTPUT
// names, or prints name=value lines where there is none. Those that don't apply
// are set to nothing, so that a reader never takes silence for an older value.
// It refuses to write any if one could be read as another output.
func (r *Runner) SetOutputs(outputs Outputs) error {
	list := outputs.list()
	for i := range list {
		list[i].value = r.redact(list[i].value)
		if err := list[i].check(); err != nil {
			return err
		}
	}
	for _, o := range list {
		if err := r.setOutput(o); err != nil {
			return err
		}
	}
	return nil
}

func (r *Runner) setOutput(o output) error {
	if r.getenv("GITHUB_OUTPUT") == "" {
		r.say(o.name + "=" + o.value)
		return nil
	}
	if err := caught(func() { r.files.SetOutput(o.name, o.value) }); err != nil {
		return fmt.Errorf("could not set the output %s (a container action has to run as root to write the runner's files): %w", o.name, err)
	}
	return nil
}

// check refuses a value that would end its own entry in the file: githubactions
// brackets every value by this same line, spelled like that.
func (o output) check() error {
	if strings.ContainsAny(o.value, "\r\n") || strings.Contains(o.value, "_GitHubActionsFileCommandDelimeter_") {
		return fmt.Errorf("refused to set the output %s to %q, which a runner could take for several outputs", o.name, o.value)
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

package action

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Outputs is what later steps of the job can read about one resource.
type Outputs struct {
	Resource        string `json:"name"`
	Revision        *int   `json:"revision,omitempty"`      // new or reused, from 0 on; nil for none
	RevisionCreated bool   `json:"created"`                 // the revision is new
	RemoteDigest    string `json:"remote-digest,omitempty"` // of the manifest or index in the registry
	RemoteImage     string `json:"remote-image,omitempty"`  // name@digest in the registry
	SourceDigest    string `json:"source-digest,omitempty"` // the image's ID or digest where it came from
	Uploaded        bool   `json:"uploaded"`                // a blob, a manifest or the file was sent

	// Failed keeps the resource out of every output but those that tell whether
	// anything was created or sent at all.
	Failed bool `json:"-"`
}

// flag is the resource in the form name:revision that charmcraft reads.
func (o Outputs) flag() string {
	if o.Revision == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", o.Resource, *o.Revision)
}

type output struct{ name, value string }

// list returns the outputs of a step: those about one resource are empty where
// there are several, or none. What was created or sent is so whichever resource
// it was for, and whether that failed afterwards.
func list(all []Outputs) ([]output, error) {
	created, uploaded := false, false
	done := []Outputs{}
	for _, o := range all {
		created, uploaded = created || o.RevisionCreated, uploaded || o.Uploaded
		if !o.Failed {
			done = append(done, o)
		}
	}
	var one Outputs
	if len(all) == 1 && len(done) == 1 {
		one = done[0]
	}
	revision := ""
	if one.Revision != nil {
		revision = strconv.Itoa(*one.Revision)
	}
	resources, err := json.Marshal(done)
	return []output{
		{"revision", revision},
		{"revision-created", strconv.FormatBool(created)},
		{"remote-digest", one.RemoteDigest},
		{"remote-image", one.RemoteImage},
		{"source-digest", one.SourceDigest},
		{"uploaded", strconv.FormatBool(uploaded)},
		{"resource-flag", one.flag()},
		{"resources", string(resources)},
		{"resource-flags", flags(done)},
	}, err
}

func flags(all []Outputs) string {
	var flags []string
	for _, o := range all {
		if flag := o.flag(); flag != "" {
			flags = append(flags, "--resource="+flag)
		}
	}
	return strings.Join(flags, " ")
}

// SetOutputs hands the outputs about all resources to the runner, through the
// file that GITHUB_OUTPUT names, or prints name=value lines where there is none.
// Those that don't apply are set to nothing, so that a reader never takes
// silence for an older value. It refuses to write any if one could be read as
// another output.
func (r *Runner) SetOutputs(all ...Outputs) error {
	all = slices.Clone(all)
	for i := range all {
		r.redactOutputs(&all[i])
	}
	list, err := list(all)
	if err != nil {
		return err
	}
	for _, o := range list {
		if err := o.check(); err != nil {
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

// redactOutputs does before the text is spelled as JSON what couldn't be done
// to it after.
func (r *Runner) redactOutputs(o *Outputs) {
	for _, text := range []*string{&o.Resource, &o.RemoteDigest, &o.RemoteImage, &o.SourceDigest} {
		*text = r.redact(*text)
	}
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

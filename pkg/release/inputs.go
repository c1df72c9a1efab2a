package release

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
)

// Inputs is what a step was asked to release, checked. At most one of Files,
// Revisions and From is set. Without Channels, Files is set: they are uploaded and
// nothing is released.
type Inputs struct {
	Charm       string             // name on Charmhub; with Metadata it may be empty
	Metadata    string             // path of charmcraft.yaml or metadata.yaml, which has the name
	Channels    []charmhub.Channel // where to release; none to upload charm files only
	Files       []string           // paths of charm files
	Revisions   []int              // of the charm
	From        charmhub.Channel   // to promote from; zero for none
	Resources   map[string]int     // revisions by name
	DryRun      bool               // plan only
	Credentials *charmhub.Credentials
	Endpoints   inputs.Endpoints
}

// ReadInputs reads the inputs of the step and checks them. The error joins every
// complaint there is, each with what to write instead. It makes no call.
func ReadInputs(runner *action.Runner) (Inputs, error) {
	r := &reader{inputs.Reader{Runner: runner}}
	token := r.Token()
	in := Inputs{Metadata: r.Input("metadata")}
	for _, line := range r.List("charms", r.Lines) {
		in.Files = append(in.Files, strings.Fields(line)...)
	}
	if in.Charm = r.Input("charm"); in.Charm != "" || in.Metadata == "" {
		r.CheckName("charm", "my-charm", charm.CheckName)
	}
	in.Channels = r.channels("channel")
	in.Revisions = r.revisions()
	if from := r.channels("from-channel"); len(from) == 1 {
		in.From = from[0]
	} else if len(from) > 1 {
		r.Complain("input from-channel: %q is more than one channel; give one", r.Input("from-channel"))
	}
	in.Resources = r.resources()
	r.checkRelease()
	in.DryRun = r.Bool("dry-run", false)
	in.Endpoints = r.Endpoints()
	in.Credentials = r.Credentials(token)
	return in, errors.Join(r.Complaints...)
}

// reader reads the inputs of a release.
type reader struct{ inputs.Reader }

func (r *reader) channels(input string) (channels []charmhub.Channel) {
	for _, word := range r.List(input, r.Words) {
		channel, err := charmhub.ParseChannel(word)
		if err != nil {
			r.Complain("input %s: %w", input, err)
		}
		channels = append(channels, channel)
	}
	return channels
}

func (r *reader) revisions() (numbers []int) {
	for _, word := range r.List("charm-revision", r.Words) {
		number, ok := revision(word)
		if !ok {
			r.Complain("input charm-revision: %.80q is no revision; give numbers, as `charmcraft revisions` lists them", word)
		}
		numbers = append(numbers, number)
	}
	return numbers
}

// revision reads the number of a revision, from 0 on.
func revision(text string) (number int, ok bool) {
	parsed, err := strconv.ParseUint(text, 10, 31)
	return int(parsed), err == nil
}

// resources reads lines, each of which is an upload's output of that name, or has
// name:revision.
func (r *reader) resources() map[string]int {
	given := map[string]int{}
	add := func(name string, revision int) {
		if err := charm.CheckResourceName(name); err != nil {
			r.Complain("input resources: %.80q is invalid; %w", name, err)
		} else if other, twice := given[name]; twice && other != revision {
			r.Complain("input resources: %s is given with the revisions %d and %d; give one of them", name, other, revision)
		}
		given[name] = revision
	}
	for _, line := range r.List("resources", r.Lines) {
		if strings.HasPrefix(line, "[") {
			r.uploaded(line, add)
			continue
		}
		for _, word := range words(line) {
			name, number, _ := strings.Cut(word, ":")
			if revision, ok := revision(number); ok {
				add(name, revision)
				continue
			}
			r.Complain("input resources: %.80q lacks a revision; write name:revision, for example my-image:3, or pass the output resources of an upload", word)
		}
	}
	return given
}

// uploaded reads the output resources of an upload.
func (r *reader) uploaded(text string, add func(name string, revision int)) {
	var list []struct {
		Name     string `json:"name"`
		Revision *int   `json:"revision"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		r.Complain("input resources: a line is not the output resources of an upload; pass ${{ steps.ID.outputs.resources }} as it is")
	}
	for _, resource := range list {
		switch {
		case resource.Revision == nil:
			r.Complain("input resources: %.80q is without a revision, as a dry run leaves it; upload the resource first", resource.Name)
		case *resource.Revision < 0:
			r.Complain("input resources: %.80q has the revision %d, which can't be one; pass ${{ steps.ID.outputs.resources }} as it is", resource.Name, *resource.Revision)
		default:
			add(resource.Name, *resource.Revision)
		}
	}
}

// checkRelease complains about inputs that don't go together.
func (r *reader) checkRelease() {
	var given []string
	for _, name := range []string{"charms", "charm-revision", "from-channel"} {
		if r.Given(name) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) > 1:
		r.Complain("inputs %s: given together; leave out all but the one that says which charm revisions to release", strings.Join(given, ", "))
	case r.Given("channel"):
	case r.Given("charm-revision") || r.Given("from-channel") || r.Given("resources"):
		r.Complain("input channel: missing; give where to release, for example latest/edge")
	case !r.Given("charms"):
		r.Complain("inputs channel, charms: none is given; give channel to release, charms to upload charm files, or both")
	}
}

// words returns the parts of a text that blanks, commas and lines separate.
func words(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(", \t\r\n", c) })
}

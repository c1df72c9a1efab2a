package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
)

// Inputs holds a step's inputs after they were checked. Exactly one of Files, Revisions, From and KeepRevisions is set.
type Inputs struct {
	Charm    string             // name on Charmhub; with Metadata it may be empty
	Metadata string             // path of charmcraft.yaml or metadata.yaml, which has the name
	Channels []charmhub.Channel // where to release; none to upload charm files only

	Files         []string         // paths of charm files
	Revisions     []int            // of the charm
	From          charmhub.Channel // to promote from; zero for none
	KeepRevisions bool             // each base keeps the charm revision that it has on the channel

	Bases []charm.BaseFilter // that are released for; none for all

	CreateTracks bool // those that the charm lacks

	Resources     map[string]int    // revisions by name, or [channelmap.ToUpload]
	Digests       map[string]string // of images, by the resource's name, where an upload's output has them
	KeepResources bool              // the charm revisions get the resources that the channel has
	HasLines      bool              // the input resources has lines name = source, for advice about it

	// Read has the content of Files, if they were read before; else it is nil.
	Read []CharmFile
	// Upload uploads the resources that are to be uploaded, after the charm files, and returns their revisions by name.
	// Declared is whether all charm files are revisions now. Nil uploads none.
	Upload func(ctx context.Context, declared bool) (map[string]charmhub.Revision, error)

	DryRun      bool // plan only
	Credentials *charmhub.Credentials
	Endpoints   inputs.Endpoints
}

// The words for what a step does without being given revisions, a channel or bases.
const (
	keep = "keep"
	none = "none"
	all  = "all"
)

// ReadInputs reads the inputs of the step and checks them. The error joins every complaint there is, each with what to
// write instead. It makes no call.
func ReadInputs(runner *action.Runner) (Inputs, error) {
	r := &reader{Reader: inputs.Reader{Runner: runner}, flawed: map[string]bool{}}
	token := r.Token()
	in := Inputs{Metadata: r.Input("metadata")}
	if in.Charm = r.Input("charm"); in.Charm != "" || in.Metadata == "" {
		r.CheckName("charm", "my-charm", charm.CheckName)
	}
	for _, line := range r.list("charms", r.Lines) {
		in.Files = append(in.Files, strings.Fields(line)...)
	}
	in.Revisions, in.KeepRevisions = r.charmRevisions()
	if from := r.channels("from-channel", r.list("from-channel", r.Words)); len(from) == 1 {
		in.From = from[0]
	} else if len(from) > 1 {
		r.Complain("input from-channel: %q is more than one channel; give one", r.Input("from-channel"))
	}
	in.Bases = r.bases()
	in.Resources, in.KeepResources = r.resources()
	in.Digests = r.digests
	in.Channels = r.target()
	r.checkSource()
	r.checkKept(in)
	in.CreateTracks = r.Bool("create-track", false)
	in.DryRun = r.Bool("dry-run", false)
	in.Endpoints = r.Endpoints()
	in.Credentials = r.Credentials("store-token", token, in.Charm, true)
	return in, errors.Join(r.Complaints...)
}

// checkResources returns an error if the inputs don't say which revisions the declared resources get.
func (in Inputs) checkResources(declared []string) error {
	if len(declared) == 0 || len(in.Channels) == 0 || len(in.Resources) > 0 || in.KeepResources {
		return nil
	}
	slices.Sort(declared)
	return fmt.Errorf("input resources: missing, and the charm declares %s; give the revisions to release, "+
		"or keep for those that the channel has (an expression whose step or output doesn't exist is empty)",
		strings.Join(slices.Compact(declared), ", "))
}

// reader reads the inputs of a release.
type reader struct {
	inputs.Reader
	flawed  map[string]bool   // lists with empty entries
	digests map[string]string // of images, by the resource's name
}

// list reads an input that is a list, and complains about what is empty in it.
func (r *reader) list(input string, read func(string) ([]string, error)) []string {
	before := len(r.Complaints)
	entries := r.List(input, read)
	r.flawed[input] = len(r.Complaints) > before
	return entries
}

// given reports whether an input has a value, if only a wrong one.
func (r *reader) given(input string) bool { return r.Given(input) || r.flawed[input] }

// target reads the channels to release to; none for the word none.
func (r *reader) target() []charmhub.Channel {
	words := r.list("channel", r.Words)
	switch {
	case !slices.Contains(words, none):
		if !r.given("channel") {
			r.Complain("input channel: missing; give where to release, for example latest/edge, or none to upload charm files " +
				"and release nothing")
		}
		return r.channels("channel", words)
	case len(words) > 1:
		r.Complain("input channel: none is given together with others; keep none, or the others")
	case r.given("charm-revision") || r.given("from-channel"):
		r.Complain("input channel: none is given without charms, but is for charm files that are uploaded and not " +
			"released; give where to release")
	case r.given("resources"):
		r.Complain("input resources: given with channel none, which releases nothing; leave out resources, or give where " +
			"to release")
	case r.given("bases") && r.Input("bases") != all:
		r.Complain("input bases: given with channel none, which releases nothing; leave out bases, or give where to release")
	case r.Bool("create-track", false):
		r.Complain("input create-track: given with channel none, which releases nothing; leave out create-track, or give " +
			"where to release")
	}
	return nil
}

// bases reads the bases to release for; none for the word all, which is the default. So an empty input has lost its
// value.
func (r *reader) bases() (filters []charm.BaseFilter) {
	words := r.list("bases", r.Words)
	switch {
	case !r.given("bases"):
		r.Complain("input bases: empty; give the bases to release for, or all (an expression whose step, output or matrix " +
			"value doesn't exist is empty)")
	case slices.Equal(words, []string{all}):
		return nil
	case slices.Contains(words, all):
		r.Complain("input bases: all is given together with others; keep all, or the others")
		return nil
	}
	for _, word := range words {
		filter, err := charm.ParseBaseFilter(word)
		if err != nil {
			r.Complain("input bases: %w", err)
		}
		filters = append(filters, filter)
	}
	return filters
}

// channels reads words as channels, and complains about those that aren't.
func (r *reader) channels(input string, words []string) (channels []charmhub.Channel) {
	for _, word := range words {
		channel, err := charmhub.ParseChannel(word)
		if err != nil {
			r.Complain("input %s: %w", input, err)
		}
		channels = append(channels, channel)
	}
	return channels
}

// charmRevisions reads the numbers of charm revisions, or the word keep.
func (r *reader) charmRevisions() (numbers []int, kept bool) {
	words := r.list("charm-revision", r.Words)
	if slices.Contains(words, keep) {
		if len(words) > 1 {
			r.Complain("input charm-revision: keep is given together with others; keep it, or the others")
		}
		return nil, true
	}
	for _, word := range words {
		number, ok := parseRevision(word)
		if !ok {
			r.Complain("input charm-revision: %.80q is no revision; give numbers, as `charmcraft revisions` lists them, "+
				"or keep for those that are on the channel", word)
		}
		numbers = append(numbers, number)
	}
	return numbers, false
}

// parseRevision reads the number of a revision, from 0 on.
func parseRevision(text string) (number int, ok bool) {
	parsed, err := strconv.ParseUint(text, 10, 31)
	return int(parsed), err == nil
}

// resources reads lines, each of which is an upload's output of that name, or has name:revision; or the word keep.
func (r *reader) resources() (revisions map[string]int, kept bool) {
	revisions = map[string]int{}
	add := func(name string, revision int) {
		if err := charm.CheckResourceName(name); err != nil {
			r.Complain("input resources: %.80q is invalid; %w", name, err)
		} else if other, twice := revisions[name]; twice && other != revision {
			r.Complain("input resources: %s is given with the revisions %d and %d; give one of them", name, other, revision)
		}
		revisions[name] = revision
	}
	lines := r.list("resources", r.Lines)
	if slices.Equal(lines, []string{keep}) {
		return revisions, true
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "[") {
			r.uploaded(line, add)
			continue
		}
		for _, between := range strings.Split(line, ",") {
			words := strings.Fields(between)
			if len(words) == 0 {
				r.Complain("input resources: %.80q has an empty entry; give what belongs there, or leave it out "+
					"(an expression whose step, output or matrix value doesn't exist is empty)", line)
				break
			}
			for _, word := range words {
				r.resource(word, add)
			}
		}
	}
	return revisions, false
}

// resource reads one name:revision, and passes it to add.
func (r *reader) resource(word string, add func(name string, revision int)) {
	name, number, _ := strings.Cut(word, ":")
	revision, ok := parseRevision(number)
	switch {
	case ok:
		add(name, revision)
	case word == keep:
		r.Complain("input resources: keep is given together with others; leave it out, since what isn't given is kept")
	default:
		r.Complain("input resources: %.80q lacks a revision; write name:revision, for example my-image:3, or pass the "+
			"output resources of an upload", word)
	}
}

// uploaded reads the output resources of an upload.
func (r *reader) uploaded(text string, add func(name string, revision int)) {
	var list []struct {
		Name     string `json:"name"`
		Revision *int   `json:"revision"`
		Digest   string `json:"remote-digest"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		r.Complain("input resources: a line is not the output resources of an upload; pass ${{ steps.ID.outputs.resources " +
			"}} as it is")
	} else if len(list) == 0 {
		r.Complain("input resources: an upload's list is empty, as after the question for a key that isn't known; " +
			"pass the output resources of a step that uploaded something")
	}
	for _, resource := range list {
		switch {
		case resource.Revision == nil:
			r.Complain("input resources: %.80q is without a revision, as a dry run leaves it; upload the resource first",
				resource.Name)
		case *resource.Revision < 0:
			r.Complain("input resources: %.80q has the revision %d, which can't be one; pass ${{ steps.ID.outputs.resources "+
				"}} as it is", resource.Name, *resource.Revision)
		default:
			add(resource.Name, *resource.Revision)
			if digest, err := v1.NewHash(resource.Digest); err == nil { // a file has none
				if r.digests == nil {
					r.digests = map[string]string{}
				}
				r.digests[resource.Name] = digest.String()
			}
		}
	}
}

// checkSource complains unless exactly one input says which charm revisions to release.
func (r *reader) checkSource() {
	var given []string
	for _, name := range []string{"charms", "charm-revision", "from-channel"} {
		if r.given(name) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) > 1:
		r.Complain("inputs %s: given together; keep the one that says which charm revisions to release",
			strings.Join(given, ", "))
	case len(given) == 0:
		r.Complain("inputs charms, charm-revision, from-channel: none is given; give the one that says which charm " +
			"revisions to release, " +
			"or charm-revision: keep for those that are on the channel (an expression whose step or output doesn't exist is " +
			"empty)")
	}
}

// checkKept complains where nothing would be released, or what is kept can't be known.
func (r *reader) checkKept(in Inputs) {
	switch {
	case in.KeepRevisions && in.KeepResources:
		r.Complain("input resources: keep is given with charm-revision keep, so nothing would be released; give the " +
			"revisions to release")
	case in.KeepRevisions && !r.given("resources"):
		r.Complain("input resources: missing, and charm-revision keep releases nothing but them; give the revisions to " +
			"release (an expression whose step or output doesn't exist is empty)")
	case in.KeepResources && r.given("from-channel"):
		r.Complain("input resources: keep is given with from-channel, whose resources are promoted; leave it out")
	}
}

package action

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Inputs is what the step was asked to do, checked. Exactly one of Digest,
// Images and File is set.
type Inputs struct {
	Charm         string   // name on Charmhub
	Resource      string   // name, as the charm's metadata declares it
	Digest        string   // sha256:<64 hex>, or 12 to 64 hex digits
	Images        []string // references, one a line of the input, trimmed
	File          string   // path, absolute or from the working directory
	Architectures []string // of File, in Debian's names, or just "all"
	Platform      string   // os/arch[/variant], or empty for all there are
	Token         string   // as given; its format is not looked at here
	DryRun        bool     // plan only
	Endpoints     Endpoints
}

// Inputs reads the inputs of the step and checks their spelling. The error
// joins every complaint there is, each a sentence that says what to write
// instead, so that one failed run is enough to put all of them right. The token
// is masked before anything else is looked at.
func (r *Runner) Inputs() (Inputs, error) {
	read := &reader{input: r.files.GetInput, getenv: r.getenv}
	in := Inputs{Token: read.first("store-token", "CHARMCRAFT_AUTH")}
	r.Mask(in.Token)

	in.Charm = read.name("charm", "my-charm", charmName, charmRule)
	in.Resource = read.name("resource", "my-image", resourceName, resourceRule)
	read.source(&in)
	in.Architectures = read.architectures(in)
	in.Platform = read.platform(in)
	in.DryRun = read.bool("dry-run")
	in.Endpoints = read.endpoints()
	if in.Token == "" {
		read.complain("%s", noToken)
	}
	if err := errors.Join(read.complaints...); err != nil {
		return Inputs{}, err
	}
	return in, nil
}

const noToken = "No credentials for Charmhub are given: make some with `charmcraft login --export=charmhub.token`, " +
	"store what that file holds as a secret of the repository, and pass it with " +
	"store-token: ${{ secrets.CHARMHUB_TOKEN }} (a pull request from a fork gets no secrets)."

// reader reads inputs and collects what is wrong with them.
type reader struct {
	input      func(name string) string // trimmed; empty when not given
	getenv     func(name string) string
	complaints []error
}

func (r *reader) complain(format string, args ...any) {
	r.complaints = append(r.complaints, fmt.Errorf(format, args...))
}

// first returns an input, or else the environment variable that stands in.
func (r *reader) first(input, variable string) string {
	if value := r.input(input); value != "" {
		return value
	}
	return strings.TrimSpace(r.getenv(variable))
}

// bool reads an input that is false when not given.
func (r *reader) bool(input string) bool {
	value := r.input(input)
	if value == "" {
		return false
	}
	yes, err := strconv.ParseBool(value)
	if err != nil {
		r.complain("The input %s is %q: write true or false.", input, value)
	}
	return yes
}

// source reads the three inputs of which one says what to upload.
func (r *reader) source(in *Inputs) {
	in.Digest, in.File = r.input("digest"), r.input("filepath")
	for line := range strings.Lines(r.input("image")) {
		if line = strings.TrimSpace(line); line != "" {
			in.Images = append(in.Images, line)
		}
	}
	r.oneSource()
	if in.Digest != "" {
		r.digest(in.Digest)
	}
}

// oneSource complains unless exactly one source is given.
func (r *reader) oneSource() {
	var given []string
	for _, name := range []string{"digest", "image", "filepath"} {
		if r.input(name) != "" {
			given = append(given, name)
		}
	}
	switch len(given) {
	case 0:
		r.complain("None of the inputs digest, image and filepath is given: " +
			"give digest or image for a resource of type oci-image, filepath for one of type file.")
	case 2:
		r.complain("The inputs %s and %s are both given: keep the one that says what to upload.", given[0], given[1])
	case 3:
		r.complain("The inputs digest, image and filepath are all given: keep the one that says what to upload.")
	}
}

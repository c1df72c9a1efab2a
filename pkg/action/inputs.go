package action

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Inputs is what the step was asked to do, checked. Exactly one of Digest,
// Images, File and Metadata is set.
type Inputs struct {
	Charm         string   // name on Charmhub; with Metadata it may be empty
	Resource      string   // name, as the charm's metadata declares it; empty with Metadata
	Digest        string   // sha256:<64 hex>, or 12 to 64 hex digits
	Images        []string // references, one a line of the input, trimmed
	File          string   // path, absolute or from the working directory
	Metadata      string   // path of charmcraft.yaml or metadata.yaml, for all resources in it
	Architectures []string // of File, in Debian's names, or just "all"; nil if not given
	Platform      string   // os/arch[/variant][:osversion], or empty for all there are
	Source        Login    // for the registry that an image comes from
	Token         string   // as given; its format is not looked at here
	DryRun        bool     // plan only
	NoRecord      bool     // leave no hints for later runs in the registry
	Endpoints     Endpoints
}

// Login opens one registry; empty where none is given. Without Registry, its
// host as it was given, it is for the only one that Images name.
type Login struct{ Registry, Username, Password string }

// Inputs reads the inputs of the step and checks their spelling. The error
// joins every complaint there is, each a sentence that says what to write
// instead, so that one failed run is enough to put all of them right. The token
// and the password are masked before anything else is looked at.
func (r *Runner) Inputs() (Inputs, error) {
	read := &reader{input: r.files.GetInput, getenv: r.getenv}
	in := Inputs{Token: read.first("store-token", "CHARMCRAFT_AUTH")}
	r.Mask(in.Token)
	in.Source = Login{
		Registry: read.input("source-registry"), Username: read.input("source-username"), Password: read.input("source-password"),
	}
	r.Mask(in.Source.Password)

	in.Metadata = read.input("metadata")
	if read.given("charm") || in.Metadata == "" {
		in.Charm = read.name("charm", "my-charm", charmName)
	}
	if read.given("resource") || in.Metadata == "" {
		in.Resource = read.name("resource", "my-image", resourceName)
	}
	read.source(&in)
	in.Architectures = read.architectures(in)
	in.Platform = read.platform(in)
	read.login(in)
	in.DryRun = read.bool("dry-run", false)
	in.NoRecord = !read.bool("locations-record", true)
	in.Endpoints = read.endpoints()
	if in.Token == "" {
		read.complain("%s", noToken)
	}
	return in, errors.Join(read.complaints...)
}

const noToken = "No credentials for Charmhub are given: make some with `charmcraft login --export=token.txt`, " +
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

// bool reads an input that is absent when not given.
func (r *reader) bool(input string, absent bool) bool {
	value := r.input(input)
	if value == "" {
		return absent
	}
	yes, err := strconv.ParseBool(value)
	if err != nil {
		r.complain("The input %s is %q: write true or false.", input, value)
	}
	return yes
}

func (r *reader) given(input string) bool { return r.input(input) != "" }

// source reads the inputs of which one says what to upload.
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
	for _, name := range []string{"digest", "image", "filepath", "metadata"} {
		if r.given(name) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0:
		r.complain("None of the inputs digest, image, filepath and metadata is given: give digest or image for a resource " +
			"of type oci-image, filepath for one of type file, metadata for all images of a charm.")
	case len(given) > 1:
		r.complain("The inputs %s are given together: keep the one that says what to upload.", strings.Join(given, ", "))
	case given[0] == "metadata" && (r.given("resource") || r.given("platform")):
		r.complain("The input metadata is for all images of a charm: leave out resource and platform.")
	}
}

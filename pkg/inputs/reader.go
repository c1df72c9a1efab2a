// Package inputs reads the inputs that every use case has: the charm's name, the credentials for the store, the
// servers. It collects what is wrong with inputs, so that a step complains about all of them at once.
package inputs

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// NoSecrets says in a complaint where a secret is empty though the repository has it.
const NoSecrets = "pull requests from a fork or by Dependabot get no secrets of Actions"

// Reader reads the inputs of a step, and collects complaints about them.
type Reader struct {
	*action.Runner
	Complaints []error // each says what is wrong with an input, and what to write instead
}

// Complain adds a complaint.
func (r *Reader) Complain(format string, args ...any) {
	r.Complaints = append(r.Complaints, fmt.Errorf(format, args...))
}

// List reads an input that is a list, by [action.Runner.Lines] or [action.Runner.Words], and complains about what is
// empty in it.
func (r *Reader) List(input string, read func(string) ([]string, error)) []string {
	entries, err := read(input)
	if err != nil {
		r.Complaints = append(r.Complaints, err)
	}
	return entries
}

// Given reports whether an input has a value.
func (r *Reader) Given(input string) bool { return r.Input(input) != "" }

// First returns an input, or else the environment variable that replaces it.
func (r *Reader) First(input, variable string) string {
	if value := r.Input(input); value != "" {
		return value
	}
	return r.Variable(variable)
}

// Bool reads an input that is absent when not given.
func (r *Reader) Bool(input string, absent bool) bool {
	value := r.Input(input)
	if value == "" {
		return absent
	}
	yes, err := strconv.ParseBool(value)
	if err != nil {
		r.Complain("input %s: %q is unknown; write true or false", input, value)
	}
	return yes
}

// CheckName complains about a name that is missing or can't be one.
func (r *Reader) CheckName(input, example string, check func(string) error) {
	value := r.Input(input)
	switch err := check(value); {
	case value == "":
		r.Complain("input %s: missing; give its name on Charmhub, for example %s: %s", input, input, example)
	case err != nil:
		r.Complain("input %s: %.80q is invalid; %w", input, value, err)
	}
}

// Token reads and masks the text of the store's credentials. Call it before anything else is read, so that no complaint
// shows it.
func (r *Reader) Token() string {
	token := r.First("store-token", "CHARMCRAFT_AUTH")
	r.Mask(token)
	return token
}

// pathForm matches the path of a text file, which no token looks like.
var pathForm = regexp.MustCompile(`^[^\s]*\.[a-z]{2,5}$`)

// Credentials parses the text of the store's credentials in an input, and masks the secrets in it. A complaint that
// there are none says how to make those that a run needs for the charm; releases is whether it releases.
func (r *Reader) Credentials(input, token, charm string, releases bool) *charmhub.Credentials {
	if token == "" {
		stored := "CHARMHUB_TOKEN"
		if releases {
			stored = "CHARMHUB_RELEASE_TOKEN"
		}
		r.Complain("input %[1]s: no credentials for Charmhub are given; make some with `%[2]s`, store what that file holds "+
			"as a "+
			"secret of the repository, and pass it with %[1]s: ${{ secrets.%[3]s }} (%[4]s)",
			input, charmhub.LoginCommand(charm, releases), stored, NoSecrets)
		return nil
	}
	credentials, err := charmhub.ParseCredentials(token)
	if err != nil && pathForm.MatchString(token) {
		r.Complain("input %s: the secret is the path of a file, not its content; store what the file holds", input)
		return nil
	}
	if err != nil {
		r.Complain("input %s: %w", input, err)
		return nil
	}
	for _, secret := range credentials.Secrets() {
		r.Mask(secret)
	}
	return credentials
}

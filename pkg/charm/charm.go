// Package charm has the rules and formats of charms: the names of charms and their resources, Charmhub's architectures,
// a charm's metadata (charmcraft.yaml, metadata.yaml) and charm files. It makes no network call and opens no file.
package charm

import (
	"errors"
	"regexp"
)

// Charmhub's rule for a charm's name is charmcraft's (ProjectName in craft-application). Juju demands of a resource's
// name only that there is one; what is refused here would not survive in a URL, or in the name of a repository, which
// has 255 characters at most (distribution spec).
var (
	nameForm     = regexp.MustCompile(`^(?:[0-9]+-?)*[a-z](?:-?[a-z0-9])*$`)
	resourceForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

	errName = errors.New("a charm's name has lower-case letters, digits and single hyphens between them, " +
		"at least one letter, and 40 characters at most")
	errResource = errors.New("a resource's name has letters, digits, hyphens, underscores and dots, " +
		"starts with a letter or digit, and has 255 characters at most")
)

// CheckName returns an error if name can't be the name of a charm. The error is the rule, to be read after "is
// invalid;".
func CheckName(name string) error {
	if len(name) <= 40 && nameForm.MatchString(name) {
		return nil
	}
	return errName
}

// CheckResourceName is [CheckName] for the name of a resource.
func CheckResourceName(name string) error {
	if len(name) <= 255 && resourceForm.MatchString(name) {
		return nil
	}
	return errResource
}

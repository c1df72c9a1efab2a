package action

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// nameRule says what a name can be.
type nameRule struct {
	form *regexp.Regexp
	most int // bytes
	text string
}

func (n nameRule) allows(name string) bool { return len(name) <= n.most && n.form.MatchString(name) }

// Charmhub's rule for a charm's name is charmcraft's (ProjectName in
// craft-application). Juju demands of a resource's name only that there is one;
// what is refused here would not survive in a URL, or in the name of a
// repository, which has 255 characters at most (distribution spec).
var (
	charmName = nameRule{
		regexp.MustCompile(`^(?:[0-9]+-?)*[a-z](?:-?[a-z0-9])*$`), 40,
		"a charm's name has lower-case letters, digits and single hyphens between them, at least one letter, and 40 characters at most",
	}
	resourceName = nameRule{
		regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`), 255,
		"a resource's name has letters, digits, hyphens, underscores and dots, starts with a letter or digit, and has 255 characters at most",
	}
)

var (
	longDigest  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	shortDigest = regexp.MustCompile(`^[0-9a-f]{12,64}$`)
	hexDigits   = regexp.MustCompile(`^(?:[a-z0-9]+:)?[0-9a-fA-F]+$`)

	platformName = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?(?::[a-z0-9.]+)?$`)
)

// CheckCharm complains about what can't be a charm's name.
func CheckCharm(name string) error { return charmName.check("charm", name) }

// CheckResource complains about what can't be a resource's name.
func CheckResource(name string) error { return resourceName.check("resource", name) }

func (n nameRule) check(what, name string) error {
	if n.allows(name) {
		return nil
	}
	return fmt.Errorf("the %s's name is %.80q, but %s", what, name, n.text)
}

// name reads a required name.
func (r *reader) name(input, example string, rule nameRule) string {
	value := r.input(input)
	switch {
	case value == "":
		r.complain("The input %s is missing: give its name on Charmhub, for example %s: %s.", input, input, example)
	case !rule.allows(value):
		r.complain("The input %s is %.80q, but %s.", input, value, rule.text)
	}
	return value
}

// digest checks what the input digest holds. The most common mistake is a tag.
func (r *reader) digest(value string) {
	name, _, named := strings.Cut(value, "@sha256:")
	switch {
	case longDigest.MatchString(value), shortDigest.MatchString(value):
	case named:
		r.complain("The input digest is %q: leave out %q, or give the whole as the input image.", value, name+"@")
	case hexDigits.MatchString(value):
		r.complain("The input digest is %q: write sha256: and 64 hexadecimal digits, "+
			"or the first 12 to 64 digits alone, in lower case.", value)
	default:
		r.complain("The input digest is %q, which looks like a name or a tag, and a tag can move to another image at any time: "+
			"give a digest or an image ID instead, from ${{ steps.build.outputs.imageid }} of the step that built it, "+
			"or as docker images --digests or docker inspect --format '{{.Id}}' print it.", value)
	}
}

// platform reads which platform of an image to take.
func (r *reader) platform(in Inputs) string {
	value := r.input("platform")
	switch {
	case value == "":
	case in.File != "":
		r.complain("The input platform is for images: leave it out with filepath, where architectures says what a file is for.")
	case !platformName.MatchString(value):
		r.complain("The input platform is %q: write os/arch or os/arch/variant, for example linux/arm64.", value)
	}
	return value
}

// login checks the credentials for an image's registry.
func (r *reader) login(in Inputs) {
	switch {
	case in.Source == Login{}:
	case in.Source.Username == "" && in.Source.Password == "":
		r.complain("The input source-registry is given without source-username and source-password, which are for it " +
			"(a pull request from a fork gets no secrets): give all three, or none.")
	case in.Source.Username == "":
		r.complain("The input source-password is given without source-username: give both, " +
			"or none where an earlier step logged in or the registry asks for none.")
	case in.Source.Password == "":
		r.complain("The input source-username is given without source-password, or its secret is empty " +
			"(a pull request from a fork gets no secrets): give both, or none.")
	case in.File != "":
		r.complain("The inputs source-username and source-password are for an image's registry: leave them out with filepath.")
	case in.Metadata != "" && in.Source.Registry == "":
		r.complain("The inputs source-username and source-password are given with metadata, whose sources may be in several registries: " +
			"name the one that they are for with source-registry, for example source-registry: ghcr.io.")
	}
}

// known are Debian's names for architectures, as far as Charmhub has them.
var known = []string{"all", "amd64", "arm64", "armhf", "i386", "ppc64el", "riscv64", "s390x"}

// foreign are names that others give to the same.
var foreign = map[string]string{
	"386": "i386", "x86": "i386", "i686": "i386",
	"x86_64": "amd64", "aarch64": "arm64", "arm": "armhf", "armv7l": "armhf", "ppc64le": "ppc64el",
}

// architectures reads what a file is for; nil unless said, which differs from
// "all" where a revision with the file exists. With an image "all" is let pass:
// it says no more than the image does.
func (r *reader) architectures(in Inputs) []string {
	names := strings.FieldsFunc(r.input("architectures"), func(c rune) bool {
		return strings.ContainsRune(", \t\r\n", c)
	})
	if in.File == "" {
		isDefault := len(names) == 1 && names[0] == "all"
		if len(names) > 0 && !isDefault && (in.Digest != "" || in.Images != nil) {
			r.complain("The input architectures is for files: leave it out for an image, which says by itself what it is for.")
		}
		return nil
	}
	for _, name := range names {
		r.architecture(name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 0:
		return nil
	case len(names) > 1 && names[0] == "all":
		r.complain("The input architectures holds all and others besides: keep all, or the others.")
	}
	return names
}

func (r *reader) architecture(name string) {
	switch debian := foreign[name]; {
	case slices.Contains(known, name):
	case debian != "":
		r.complain("The input architectures holds %q: Charmhub's name for it is %s.", name, debian)
	default:
		r.complain("The input architectures holds %q, which Charmhub doesn't know: choose from %s.", name, strings.Join(known, ", "))
	}
}

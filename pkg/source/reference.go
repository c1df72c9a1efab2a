package source

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/containers/image/v5/docker/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// Kind is the kind of place that a reference points to.
type Kind int

// The kinds of references.
const (
	// KindDigest is a bare digest or image ID, complete or shortened.
	KindDigest Kind = iota
	// KindRegistry is a named image in a registry: name[:tag]@digest.
	KindRegistry
	// KindEngine is an image in the local container engine, by ID or name.
	KindEngine
	// KindDockerArchive is a file as `docker save` writes it.
	KindDockerArchive
	// KindOCILayout is a folder in the OCI image layout.
	KindOCILayout
	// KindOCIArchive is an OCI image layout in a tar file; a rock is one.
	KindOCIArchive
	// KindPath is a file or folder whose content shows its kind.
	KindPath
)

// Reference names an image. Which fields are set depends on Kind.
type Reference struct {
	Kind Kind
	// Text is the reference as it was written, for messages.
	Text string
	// Hex is the hex part of a KindDigest, 12 to 64 digits.
	Hex string
	// Name is the name[:tag]@digest of a KindRegistry image, and the name or ID of a KindEngine image.
	Name string
	// Path is the file or folder of the remaining kinds.
	Path string
	// Select chooses one image of several in Path: a tag, a name or a digest. It is empty if the reference doesn't
	// choose.
	Select string
}

// Digest returns the digest of a KindRegistry reference, or of a KindDigest reference that is not shortened. It is
// false for all others.
func (r Reference) Digest() (v1.Hash, bool) {
	switch {
	case r.Kind == KindDigest && len(r.Hex) == 64:
		return v1.Hash{Algorithm: "sha256", Hex: r.Hex}, true
	case r.Kind == KindRegistry:
		_, digest, _ := strings.Cut(r.Name, "@")
		hash, err := v1.NewHash(digest)
		return hash, err == nil
	}
	return v1.Hash{}, false
}

// Registry returns the host of the registry of a KindRegistry reference, docker.io for Docker Hub, and nothing for
// other kinds.
func (r Reference) Registry() string {
	if r.Kind != KindRegistry {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(r.Name)
	if err != nil {
		return ""
	}
	return registryOf(named)
}

// registryOf returns the host of the registry in an image's name.
func registryOf(named reference.Named) string { return strings.ToLower(reference.Domain(named)) }

// ParseRegistry reads the host of a registry, with its port if it has one, as the names of its images begin, and
// returns it as [Reference.Registry] does.
func ParseRegistry(text string) (string, error) {
	named, err := reference.ParseNormalizedNamed(text + "/image")
	// Text that isn't a host is parsed as a namespace of Docker Hub.
	if err != nil || registryOf(named) != strings.ToLower(text) && text != "index.docker.io" {
		return "", fmt.Errorf("%q is no registry; write its host as the names of its images begin, for example ghcr.io", text)
	}
	return registryOf(named), nil
}

var (
	// digestForm is a whole digest, or its first 12 to 40 digits. A text with 41 to 63 digits is a mistake: nobody
	// shortens a digest by only a few digits.
	digestForm = regexp.MustCompile(`^(?:sha256:)?([0-9a-f]{12,40}|[0-9a-f]{64})$`)
	// digestAttempt matches texts that were meant as a digest, correct or not.
	digestAttempt = regexp.MustCompile(`^(?:(sha[0-9]+|md5|blake3):(.*)|[0-9a-fA-F]{8,}|[0-9a-zA-Z]{32,})$`)
)

// ParseDigest reads an image ID or digest: `sha256:<64 hex>`, or 12 to 40 hex digits of it.
func ParseDigest(text string) (Reference, error) {
	m := digestForm.FindStringSubmatch(text)
	if m == nil {
		return Reference{}, fmt.Errorf(
			"%q is not a digest: it %s; write sha256: and 64 hex digits, or the first 12 to 40 of them, "+
				"as `docker image inspect --format '{{.Id}}'` prints",
			text,
			cmp.Or(DigestProblem(text), "looks like a name"),
		)
	}
	return Reference{Kind: KindDigest, Text: text, Hex: m[1]}, nil
}

// DigestProblem says why a text that was meant as a digest isn't a whole one: "has 63 of 64 digits". It says so of a
// shortened digest, too, which Parse accepts. It is empty for a whole digest, and for a text that was meant as
// something else.
func DigestProblem(text string) string {
	m := digestAttempt.FindStringSubmatch(text)
	switch {
	case m == nil:
		return ""
	case m[1] != "" && m[1] != "sha256":
		return "begins with " + m[1] + ":, and images have sha256 digests"
	case m[1] != "":
		text = m[2]
	}
	other := strings.IndexFunc(text, func(c rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", c) })
	switch {
	case other >= 0:
		c, _ := utf8.DecodeRuneInString(text[other:])
		return fmt.Sprintf("has a %q in it", c)
	case len(text) > 64:
		return fmt.Sprintf("has %d digits instead of 64", len(text))
	case text != strings.ToLower(text):
		return "has upper-case digits, which are written in lower case"
	case len(text) < 64:
		return fmt.Sprintf("has %d of 64 digits", len(text))
	}
	return ""
}

// transports maps the prefixes that skopeo made known to kinds.
var transports = map[string]Kind{
	"docker":         KindRegistry,
	"docker-daemon":  KindEngine,
	"docker-archive": KindDockerArchive,
	"oci":            KindOCILayout,
	"oci-archive":    KindOCIArchive,
}

var (
	digestPart = regexp.MustCompile(`@(?:(?:sha[0-9]+|md5|blake3):[^/@]*|[0-9a-fA-F]{12,})$`)
	schemes    = regexp.MustCompile(`^(?:docker://|docker-daemon:|https?://)+`)
	paths      = regexp.MustCompile(`^(?:[./]|oci:|oci-archive:|docker-archive:)`)
)

// Credentials returns the user name and password in a reference, as in user:password@host/name, and the password alone,
// each also decoded as in a URL: secrets to mask. Parse refuses a reference that has any.
func Credentials(text string) []string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), " platform=")
	if paths.MatchString(text) {
		return nil
	}
	scheme := schemes.FindString(text)
	text = digestPart.ReplaceAllString(text[len(scheme):], "")
	at := strings.LastIndex(text, "@")
	if at < 1 {
		return nil
	}
	user, host := text[:at], text[at+1:]
	_, password, two := strings.Cut(user, ":")
	switch beginsName := strings.Contains(host, "/"); {
	case two && (beginsName || !strings.Contains(user, "/")):
		// A name such as host/image:tag@digest, whose digest is malformed, isn't user:password@host.
	case scheme != "" && beginsName && !strings.Contains(user, "/"):
		password = user // a token
	default:
		return nil
	}
	found := []string{user, password}
	for _, secret := range []string{user, password} {
		if decoded, err := url.PathUnescape(secret); err == nil {
			found = append(found, decoded)
		}
	}
	return found
}

// Parse reads one image reference: a digest, `name@digest`, a transport reference such as `oci-archive:my.rock`, or the
// path of a file or folder. It makes no call: [Opener.Open] finds out whether the image exists. For a tag without a
// digest it returns the reference and a [*TagError].
func Parse(text string) (Reference, error) {
	return parse(text, func(string) bool { return false })
}

// ParseLine reads a reference that may be followed by the platform that the image gets in a joined index: a blank and
// `platform=os/arch[/variant][:osversion]`. Several existing paths with blanks between them are one reference each,
// because other steps print the files that they made in that form. Which paths exist also decides where a path ends,
// and a selector (the name or digest of one image in it) begins. For a tag without a digest it returns the reference
// and a [*TagError].
func ParseLine(line string, exists func(path string) bool) ([]Reference, *v1.Platform, error) {
	text, platform, given := strings.Cut(line, " platform=")
	text = strings.TrimSpace(text)
	refs := parseSeveral(text, exists)
	if refs == nil {
		ref, err := parse(text, exists)
		var tag *TagError
		switch {
		case errors.As(err, &tag):
			return []Reference{ref}, nil, err
		case err != nil:
			return nil, nil, err
		}
		refs = []Reference{ref}
	}
	if !given {
		return refs, nil, nil
	}
	if strings.Contains(platform, " platform=") {
		return nil, nil, fmt.Errorf("%q has several platforms; write a line for each, with one ` platform=` at its end", line)
	}
	parsed, err := image.ParsePlatform(platform)
	if err != nil {
		return nil, nil, fmt.Errorf("%q ends in the platform %q; write os/arch[/variant][:osversion]", line, platform)
	}
	if len(refs) > 1 {
		return nil, nil, fmt.Errorf("%q names %d files and one platform; give each a line of its own", line, len(refs))
	}
	return refs, &parsed, nil
}

// parseSeveral returns the paths in a text, if it is nothing but several that exist.
func parseSeveral(text string, exists func(string) bool) (refs []Reference) {
	paths := strings.Fields(text)
	if len(paths) < 2 || exists(text) {
		return nil
	}
	for _, path := range paths {
		if !isPath(path) || !exists(path) {
			return nil
		}
		refs = append(refs, Reference{Kind: KindPath, Text: path, Path: path})
	}
	return refs
}

// parse is [Parse]; exists reports whether a path exists.
func parse(text string, exists func(string) bool) (Reference, error) {
	if secrets := Credentials(text); secrets != nil && !exists(text) {
		return Reference{}, fmt.Errorf("%q has a user name or password in the image's name; leave them out, "+
			"and give source-username and source-password", strings.Replace(text, secrets[0]+"@", "***@", 1))
	}
	if strings.HasPrefix(text, "sha256:") || digestForm.MatchString(text) || DigestProblem(text) != "" && !exists(text) {
		return ParseDigest(text)
	}
	if transport, rest, ok := strings.Cut(text, ":"); ok {
		if kind, ok := transports[transport]; ok {
			return parseTransport(kind, text, rest, exists)
		}
	}
	path, selector, found := splitPath(text, exists)
	if isPath(text) {
		return Reference{Kind: KindPath, Text: text, Path: path, Select: selector}, nil
	}
	ref, err := parseNamed(text, text)
	// A text that is a valid reference to an image in a registry is never taken for a path, so that a folder in the
	// workspace can't replace the image. A name with only a tag isn't a valid reference here, so it may be a path.
	if err != nil && found &&
		(isPath(path) || strings.Contains(path, " ") || selector == "" && strings.Contains(path, ".")) {
		return Reference{Kind: KindPath, Text: text, Path: path, Select: selector}, nil
	}
	return ref, err
}

// splitPath returns the longest part of a text that is the path of something that exists, and the name or digest after
// it that chooses one image in it. If none exists, all of the text is the path.
func splitPath(text string, exists func(string) bool) (path, selector string, found bool) {
	if exists(text) {
		return text, "", true
	}
	for end := len(text); end > 0; {
		end = strings.LastIndexAny(text[:end], ":@")
		if end > 0 && exists(text[:end]) {
			return text[:end], text[end+1:], true
		}
	}
	return text, "", false
}

// isPath distinguishes paths from image names. `my/image` could be either, so a relative path without a dot in its last
// element is written `./my/image`.
func isPath(text string) bool {
	if strings.HasPrefix(text, "/") || strings.HasPrefix(text, ".") || strings.ContainsAny(text, "*?[") {
		return true
	}
	last := text[strings.LastIndex(text, "/")+1:]
	return strings.Contains(last, ".") && !strings.ContainsAny(last, "@:")
}

// parseTransport parses the rest of a reference after the prefix of its transport.
func parseTransport(kind Kind, text, rest string, exists func(string) bool) (Reference, error) {
	switch kind {
	case KindRegistry:
		name, ok := strings.CutPrefix(rest, "//")
		if !ok {
			return Reference{}, fmt.Errorf("%q lacks the slashes after docker:; write docker://name@sha256:…", text)
		}
		return parseNamed(text, name)
	case KindEngine:
		return parseEngine(text, rest)
	default:
		path, selector, found := splitPath(rest, exists)
		if !found { // for the message that says so
			path, selector, _ = strings.Cut(strings.Replace(rest, "@sha256:", ":sha256:", 1), ":")
		}
		if path == "" {
			return Reference{}, fmt.Errorf("%q names no file; write its path after the colon", text)
		}
		return Reference{Kind: kind, Text: text, Path: path, Select: selector}, nil
	}
}

// parseEngine parses an image ID, or a name with its digest. It requires the digest for the same reason as
// parseNamed.
func parseEngine(text, rest string) (Reference, error) {
	if digestForm.MatchString(rest) {
		return Reference{Kind: KindEngine, Text: text, Name: rest}, nil
	}
	if DigestProblem(rest) != "" {
		return ParseDigest(rest)
	}
	ref, err := parseNamed(text, rest)
	ref.Kind = KindEngine
	return ref, err
}

// TagError is the error for a reference with a tag but no digest. A caller that can resolve the tag adds its digest.
type TagError struct {
	// Text is the reference as written, Name its name and tag, with the host of the registry.
	Text, Name string
	// Local is the name under which the container engine may have the image. It is empty for docker:// references.
	Local string
	// Hostless is true if the text names no registry. Name then begins with Docker Hub's host, which may not be meant.
	Hostless bool
}

// Error says that a digest is needed, and how to write it.
func (e *TagError) Error() string {
	name := e.Name
	if e.Hostless {
		name = strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
	}
	return fmt.Sprintf("%q has no digest, and a tag may name another image tomorrow; "+
		"write %s@sha256:…, or pass the image's ID", e.Text, name)
}

// parseNamed parses the name of an image in a registry. It requires a digest, because a tag may move.
func parseNamed(text, name string) (Reference, error) {
	digest := name[strings.LastIndex(name, "@")+1:]
	if digest != name && strings.Contains(digest, ":") {
		if problem := DigestProblem(digest); problem != "" {
			return Reference{}, fmt.Errorf("the digest of %q %s; write name@sha256: and 64 hex digits", text, problem)
		}
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return Reference{}, fmt.Errorf("%q is not an image: %w; give a digest, name@sha256:…, "+
			"docker://, docker-archive:, oci: or oci-archive: with what follows them, or the path of a file", text, err)
	}
	if _, ok := named.(reference.Digested); !ok {
		tag := &TagError{
			Text: text, Name: reference.TagNameOnly(named).String(), Local: name,
			Hostless: !strings.HasPrefix(strings.ToLower(name), registryOf(named)+"/"),
		}
		if strings.HasPrefix(text, "docker://") {
			tag.Local = ""
		}
		return Reference{Kind: KindRegistry, Text: text, Name: tag.Name}, tag
	}
	return Reference{Kind: KindRegistry, Text: text, Name: named.String()}, nil
}

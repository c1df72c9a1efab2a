package publish

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// Inputs is what the step was asked to do, checked. Exactly one of Images, File
// and Metadata is set, or none of them and Key.
type Inputs struct {
	Charm         string                // name on Charmhub; with Metadata it may be empty
	Resource      string                // name, as the charm's metadata declares it; empty with Metadata
	Images        []Part                // several are joined into one index
	File          string                // path, absolute or from the working directory
	Metadata      string                // path of charmcraft.yaml or metadata.yaml, for all images in it
	Architectures []string              // of File, in Debian's names, or just "all"; nil if not given
	Platform      *v1.Platform          // take this one of an image; nil for all there are
	Login         Login                 // for the registry that an image comes from
	Credentials   *charmhub.Credentials // for the store
	Endpoints     Endpoints
	Options
}

// Part is an image that is named by the inputs.
type Part struct {
	source.Reference
	Platform *v1.Platform // for its entry in a joined index; nil for its own
}

// Login is for one registry, and the zero Login for none.
type Login struct {
	Registry           string // as [source.Reference.Registry] names it; empty where no image is in a registry
	Username, Password string
}

// Resolver returns the digest that a tag, as name:tag, names now.
type Resolver func(ctx context.Context, login Login, tagged string) (v1.Hash, error)

// ReadInputs reads the inputs of the step and checks them. The error joins every
// complaint there is, each with what to write instead, so that
// one failed run is enough to put all of them right. Secrets are masked before
// anything else is looked at. The only calls are those of resolve, for a complaint
// about a tag.
func ReadInputs(ctx context.Context, runner *action.Runner, resolve Resolver) (Inputs, error) {
	r := &reader{Runner: runner}
	token := r.first("store-token", "CHARMCRAFT_AUTH")
	r.Mask(token)
	r.Mask(r.Input("source-password"))
	lines := r.list("image", r.Lines)
	maskCredentials(r.Mask, append(slices.Clone(lines), r.Input("digest"), r.Input("source-registry")+"/")...)

	in := Inputs{File: r.Input("filepath"), Metadata: r.Input("metadata")}
	if in.Charm = r.Input("charm"); in.Charm != "" || in.Metadata == "" {
		r.checkName("charm", "my-charm", charm.CheckName)
	}
	if in.Resource = r.Input("resource"); in.Resource != "" || in.Metadata == "" {
		r.checkName("resource", "my-image", charm.CheckResourceName)
	}
	r.checkSource()
	in.Images = append(r.digest(), r.images(lines)...)
	in.Architectures = r.architectures()
	in.Platform = r.platform()
	in.Login = r.login(in.Images)
	in.Options = Options{
		Compression: r.compression(), Key: r.key(), PushOnly: r.pushOnly(),
		DryRun: r.bool("dry-run", false), NoRecord: !r.bool("locations-record", true),
	}
	in.Endpoints = r.endpoints()
	in.Credentials = r.credentials(token)
	return in, r.complaint(ctx, in.Login, resolve)
}

// maskCredentials masks the passwords that references have in them by mistake.
func maskCredentials(mask func(string), references ...string) {
	for _, reference := range references {
		for _, secret := range source.Credentials(reference) {
			mask(secret)
		}
	}
}

// reader reads inputs and collects what is wrong with them.
type reader struct {
	*action.Runner
	complaints []error
	ambiguous  bool // which registry the password is for isn't known
}

func (r *reader) complain(format string, args ...any) {
	r.complaints = append(r.complaints, fmt.Errorf(format, args...))
}

// list reads an input that is a list, by [action.Runner.Lines] or [action.Runner.Words],
// and complains about what is empty in it.
func (r *reader) list(input string, read func(string) ([]string, error)) []string {
	entries, err := read(input)
	if err != nil {
		r.complaints = append(r.complaints, err)
	}
	return entries
}

func (r *reader) given(input string) bool { return r.Input(input) != "" }

// first returns an input, or else the environment variable that replaces it.
func (r *reader) first(input, variable string) string {
	if value := r.Input(input); value != "" {
		return value
	}
	return r.Variable(variable)
}

// bool reads an input that is absent when not given.
func (r *reader) bool(input string, absent bool) bool {
	value := r.Input(input)
	if value == "" {
		return absent
	}
	yes, err := strconv.ParseBool(value)
	if err != nil {
		r.complain("input %s: %q is unknown; write true or false", input, value)
	}
	return yes
}

// checkName complains about a name that is missing or can't be one.
func (r *reader) checkName(input, example string, check func(string) error) {
	value := r.Input(input)
	switch err := check(value); {
	case value == "":
		r.complain("input %s: missing; give its name on Charmhub, for example %s: %s", input, input, example)
	case err != nil:
		r.complain("input %s: %.80q is invalid; %w", input, value, err)
	}
}

// checkSource complains unless exactly one input says what to upload.
func (r *reader) checkSource() {
	var given []string
	for _, name := range []string{"digest", "image", "filepath", "metadata"} {
		if r.given(name) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0 && r.given("key"): // looks up an earlier upload
	case len(given) == 0:
		r.complain("inputs digest, image, filepath, metadata: none is given; give digest or image for a resource " +
			"of type oci-image, filepath for one of type file, metadata for all images of a charm, or key alone to look up an " +
			"earlier upload (hashFiles gives an empty key where no file matches)")
	case len(given) > 1:
		r.complain("inputs %s: given together; keep the one that says what to upload", strings.Join(given, ", "))
	case given[0] == "metadata" && (r.given("resource") || r.given("platform")):
		r.complain("input metadata: given together with resource or platform, but for all images of a charm; leave out resource and platform")
	}
}

var hexDigits = regexp.MustCompile(`^(?:[a-z0-9]+:)?[0-9a-fA-F]+$`)

// digest reads the input digest. The most common mistake is a tag.
func (r *reader) digest() []Part {
	value := r.Input("digest")
	if value == "" {
		return nil
	}
	ref, err := source.ParseDigest(value)
	name, _, named := strings.Cut(value, "@sha256:")
	switch {
	case err == nil:
		return []Part{{Reference: ref}}
	case named:
		r.complain("input digest: %q is more than a digest; leave out %q, or give all of it as the input image", value, name+"@")
	case hexDigits.MatchString(value):
		r.complain("input digest: %q is no digest; write sha256: and 64 hexadecimal digits, "+
			"or the first 12 to 64 digits alone, in lower case", value)
	default:
		r.complain("input digest: %q looks like a name or a tag, and a tag can move to another image at any time; "+
			"give a digest or an image ID instead, from ${{ steps.build.outputs.imageid }} of the step that built it, "+
			"or as docker images --digests or docker inspect --format '{{.Id}}' print it", value)
	}
	return nil
}

// images reads the lines of the input image. One with a tag alone is among them,
// since its registry counts for the login.
func (r *reader) images(lines []string) (parts []Part) {
	for _, line := range lines {
		refs, platform, err := source.ParseLine(line, r.Workspace().Exists)
		if err != nil {
			r.complain("input image: %w", err)
		}
		for _, ref := range refs {
			parts = append(parts, Part{ref, platform})
		}
	}
	return parts
}

// key reads the text that names what an image is made of.
func (r *reader) key() v1.Hash {
	text := r.Input("key")
	if text == "" {
		return v1.Hash{}
	}
	if r.given("filepath") {
		r.complain("input key: given with filepath, but for images only; leave it out, since an unchanged file is skipped by its content")
	}
	if !r.bool("locations-record", true) {
		r.complain("input key: given with locations-record false, but what a key means is such a record; leave one of them out")
	}
	digest := sha256.Sum256([]byte(text))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest[:])}
}

// pushOnly reads whether an image gets no revision.
func (r *reader) pushOnly() bool {
	only := r.bool("push-only", false)
	if only && r.given("filepath") {
		r.complain("input push-only: given with filepath, but for images only; leave it out")
	}
	return only
}

// compression reads how layers are compressed.
func (r *reader) compression() pack.Compression {
	value := pack.Compression(cmp.Or(r.Input("compression"), string(pack.Gzip)))
	switch {
	case value != pack.Gzip && value != pack.Zstd:
		r.complain("input compression: %q is unknown; write gzip or zstd", value)
	case value != pack.Gzip && r.given("filepath"):
		r.complain("input compression: given with filepath, but for images only; leave it out, since a file is stored as it is")
	}
	return value
}

// platform reads which platform of an image to take.
func (r *reader) platform() *v1.Platform {
	value := r.Input("platform")
	if value == "" {
		return nil
	}
	platform, err := image.ParsePlatform(value)
	switch {
	case r.given("filepath"):
		r.complain("input platform: given with filepath, but for images only; leave it out, and give architectures to say what a file is for")
	case err != nil:
		r.complain("input platform: %q is no platform; write os/arch or os/arch/variant, for example linux/arm64", value)
	}
	return &platform
}

// architectures reads what a file is for; nil unless said, which differs from
// "all" where a revision with the file exists. With an image "all" is let pass:
// it says no more than the image does.
func (r *reader) architectures() []string {
	names := r.list("architectures", r.Words)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil
	}
	if !r.given("filepath") {
		if !slices.Equal(names, []string{charm.AllArchitectures}) && (r.given("digest") || r.given("image")) {
			r.complain("input architectures: given with an image, but for files only; leave it out, since an image says by itself what it is for")
		}
		return nil
	}
	for _, name := range names {
		if err := charm.CheckArchitecture(name); err != nil {
			r.complain("input architectures: %w", err)
		}
	}
	if len(names) > 1 && names[0] == charm.AllArchitectures {
		r.complain("input architectures: all is given together with others; keep all, or the others")
	}
	return names
}

// login reads the credentials for an image's registry, and finds out which one
// they are for.
func (r *reader) login(images []Part) Login {
	registry, username, password := r.Input("source-registry"), r.Input("source-username"), r.Input("source-password")
	before := len(r.complaints)
	switch {
	case registry == "" && username == "" && password == "":
	case username == "" && password == "":
		r.complain("input source-registry: given without source-username and source-password, which are for it " +
			"(a pull request from a fork gets no secrets); give all three, or none")
	case username == "":
		r.complain("input source-password: given without source-username; give both, " +
			"or none where an earlier step logged in or the registry asks for none")
	case password == "":
		r.complain("input source-username: given without source-password, or the password's secret is empty " +
			"(a pull request from a fork gets no secrets); give both, or none")
	case r.given("filepath"):
		r.complain("inputs source-username, source-password: given with filepath, but for an image's registry; leave them out")
	case r.given("metadata") && registry == "":
		r.complain("inputs source-username, source-password: given with metadata, whose sources may be in several registries; " +
			"name the one that they are for with source-registry, for example source-registry: ghcr.io")
	}
	var named []string
	for _, part := range images {
		if name := part.Registry(); name != "" && !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	login := Login{Username: username, Password: password}
	switch {
	case registry != "":
		var err error
		if login.Registry, err = source.ParseRegistry(registry); err != nil {
			r.ambiguous = true
			r.complain("input source-registry: %w", err)
		}
	case len(named) == 1:
		login.Registry = named[0]
	case len(named) > 1 && password != "":
		r.ambiguous = true
		r.complain("input image: the lines name several registries, %s, and source-password is for one of them; "+
			"name that with source-registry, for example source-registry: %s", list(named), named[0])
	}
	if password == "" || len(r.complaints) > before {
		return Login{}
	}
	return login
}

// credentials reads and masks those for the store.
func (r *reader) credentials(token string) *charmhub.Credentials {
	if token == "" {
		r.complain("input store-token: no credentials for Charmhub are given; make some with `charmcraft login --export=token.txt`, " +
			"store what that file holds as a secret of the repository, and pass it with " +
			"store-token: ${{ secrets.CHARMHUB_TOKEN }} (a pull request from a fork gets no secrets)")
		return nil
	}
	credentials, err := charmhub.ParseCredentials(token)
	if err != nil {
		r.complaints = append(r.complaints, err)
		return nil
	}
	for _, secret := range credentials.Secrets() {
		r.Mask(secret)
	}
	return credentials
}

// complaint returns all complaints as one error. Those about a tag get the digest
// that it has at the moment, where its registry answers in time. If there are
// others, a line that can't be read, or another input, may be what the password is
// meant for; then it is used only where source-registry says so. No registry is
// asked before it is said which of several the password is for.
func (r *reader) complaint(ctx context.Context, login Login, resolve Resolver) error {
	if r.ambiguous {
		return errors.Join(r.complaints...)
	}
	ctx, cancel := context.WithTimeout(ctx, source.TagTimeout)
	defer cancel()
	if !r.given("source-registry") && slices.ContainsFunc(r.complaints, func(err error) bool {
		_, tag := errors.AsType[*source.TagError](err)
		return !tag
	}) {
		login = Login{}
	}
	var group parallel.Group
	for n, complaint := range r.complaints {
		tag, ok := errors.AsType[*source.TagError](complaint)
		// What the engine has under a name need not be what a registry has.
		if !ok || strings.HasPrefix(tag.Text, "docker-daemon:") {
			continue
		}
		group.Go(func() error {
			if digest, err := resolve(ctx, login, tag.Name); err == nil {
				r.complaints[n] = fmt.Errorf("%w; right now the tag names %s@%s", complaint, tag.Name, digest)
			}
			return nil
		})
	}
	_ = group.Wait() // none fails
	return errors.Join(r.complaints...)
}

// words returns the parts of a text that blanks, commas and lines separate.
func words(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(", \t\r\n", c) })
}

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
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// Inputs are the checked inputs of the step. At most one of Images, File and Metadata is set; if none is, Key is.
type Inputs struct {
	Charm         string                // name on Charmhub; with Metadata it may be empty
	Resource      string                // name, as the charm's metadata declares it; empty with Metadata
	Images        []Part                // several are joined into one index
	File          string                // path, absolute or from the working directory
	Metadata      string                // path of charmcraft.yaml or metadata.yaml, for all images in it
	Architectures []string              // of File, in Debian's names, or just "all"; nil if not given
	Platform      *v1.Platform          // take this one of an image; nil for all there are
	Login         source.Login          // for the registry that an image comes from
	Credentials   *charmhub.Credentials // for the store
	Endpoints     inputs.Endpoints
	Options
}

// Part is an image that an input names.
type Part struct {
	source.Reference
	Platform *v1.Platform // for its entry in a joined index; nil for its own
}

// Lookup finds the digests of names, so that an error can suggest them.
type Lookup struct {
	// Registry returns the digest that a tag, as name:tag, names now in its registry.
	Registry func(ctx context.Context, login source.Login, tagged string) (v1.Hash, error)
	// Engine returns the ID of the image that the container engine has under a name.
	Engine func(ctx context.Context, name string) (v1.Hash, error)
}

// ReadInputs reads and checks the inputs of the step. The error joins all complaints, each with a correction, so that
// one failed run is enough to correct them all. Secrets are masked before anything else is read. It makes no requests
// but those of lookup, for a complaint about a name.
func ReadInputs(ctx context.Context, runner *action.Runner, lookup Lookup) (Inputs, error) {
	r := &UploadReader{Reader: inputs.Reader{Runner: runner}}
	token := r.Token()
	lines := r.List("image", r.RawLines)
	r.MaskPasswords(append(slices.Clone(lines), r.Input("digest"))...)

	in := Inputs{File: r.Input("filepath"), Metadata: r.Input("metadata")}
	if in.Charm = r.Input("charm"); in.Charm != "" || in.Metadata == "" {
		r.CheckName("charm", "my-charm", charm.CheckName)
	}
	if in.Resource = r.Input("resource"); in.Resource != "" || in.Metadata == "" {
		r.CheckName("resource", "my-image", charm.CheckResourceName)
	}
	r.checkSource()
	in.Images = r.digest()
	for _, line := range lines {
		parts := r.Parts("input image", strings.TrimSpace(line))
		r.checkBlanks(line, parts)
		in.Images = append(in.Images, parts...)
	}
	in.Architectures = r.architectures()
	in.Platform = r.platform()
	in.Login = r.Login(in.Images)
	in.Options = Options{
		Compression: r.Compression(), Key: r.key(), PushOnly: r.pushOnly(),
		DryRun: r.Bool("dry-run", false), NoRecord: !r.Bool("locations-record", true),
	}
	in.Endpoints = r.Endpoints()
	in.Credentials = r.Credentials("store-token", token, in.Charm, false)
	return in, r.Finish(ctx, in.Login, lookup)
}

// MaskPasswords masks the password for a registry, and passwords that references contain by mistake. Call it before the
// references are parsed, so that no complaint shows one.
func (r *UploadReader) MaskPasswords(references ...string) {
	r.Mask(r.Input("source-password"))
	maskCredentials(r.Mask, append(references, r.Input("source-registry")+"/")...)
}

// maskCredentials masks the passwords that references contain by mistake.
func maskCredentials(mask func(string), references ...string) {
	for _, reference := range references {
		for _, secret := range source.Credentials(reference) {
			mask(secret)
		}
	}
}

// UploadReader reads and checks the inputs of uploads, and collects complaints.
type UploadReader struct {
	inputs.Reader
	ambiguous bool // it isn't known for which registry the password is
}

// checkSource complains unless exactly one input says what to upload.
func (r *UploadReader) checkSource() {
	var given []string
	for _, name := range []string{"digest", "image", "filepath", "metadata"} {
		if r.Given(name) {
			given = append(given, name)
		}
	}
	switch {
	case len(given) == 0 && r.Given("key"): // looks up an earlier upload
	case len(given) == 0:
		r.Complain("inputs digest, image, filepath, metadata: none is given; give digest or image for a resource " +
			"of type oci-image, filepath for one of type file, metadata for all images of a charm, or key alone to look up an " +
			"earlier upload (hashFiles gives an empty key where no file matches; an expression whose step or " +
			"output doesn't exist is empty)")
	case len(given) > 1:
		r.Complain("inputs %s: given together; keep the one that says what to upload", strings.Join(given, ", "))
	case given[0] == "metadata" && (r.Given("resource") || r.Given("platform")):
		r.Complain(
			"input metadata: given together with resource or platform, but for all images of a charm; leave out " +
				"resource and platform",
		)
	}
}

// nameError is the complaint about a name that has no digest.
type nameError struct {
	error
	name string
}

// digest reads the input digest. The most common mistake is a tag.
func (r *UploadReader) digest() []Part {
	value := r.Input("digest")
	if value == "" {
		return nil
	}
	ref, err := source.ParseDigest(value)
	name, _, named := strings.Cut(value, "@sha256:")
	switch problem := source.DigestProblem(value); {
	case err == nil:
		return []Part{{Reference: ref}}
	case named:
		r.Complain(
			"input digest: %q is more than a digest; leave out %q, or give all of it as the input image",
			value,
			name+"@",
		)
	case problem != "":
		r.Complain("input digest: %q is no digest, since it %s; write sha256: and 64 hexadecimal digits, "+
			"or the first 12 to 40 digits alone, in lower case", value, problem)
	default:
		r.Complaints = append(r.Complaints, &nameError{fmt.Errorf(
			"input digest: %q looks like a name or a tag, and a tag can move to another image at any time; "+
				"give a digest or an image ID instead, from ${{ steps.build.outputs.imageid }} of the step that built it, "+
				"or as docker images --digests or docker inspect --format '{{.Id}}' print it", value), value})
	}
	return nil
}

// Parts parses a line of an input and returns its images. An image with a tag but no digest is returned too, because
// its registry matters for the login. About tells in complaints where the line is.
func (r *UploadReader) Parts(about, line string) (parts []Part) {
	refs, platform, err := source.ParseLine(line, r.Workspace().Exists)
	if err != nil {
		r.Complain("%s: %w", about, err)
	}
	if platform != nil && platform.OS == "linux" && !slices.Contains(charm.PlatformArchitectures, platform.Architecture) {
		r.Complain("%s: %q is for no architecture that Charmhub knows; write one of linux/%s", about, platform,
			strings.Join(charm.PlatformArchitectures, ", linux/"))
	}
	for _, ref := range refs {
		parts = append(parts, Part{ref, platform})
	}
	return parts
}

// emptySource matches the blanks that an empty expression leaves before, between or after sources on one line.
var emptySource = regexp.MustCompile(`^\s|\s\s|\s$`)

// checkBlanks complains about a blank too many in a line of the input image, unless it is part of a path that exists.
func (r *UploadReader) checkBlanks(line string, parts []Part) {
	around := line
	if len(parts) == 1 && parts[0].Path != "" && r.Workspace().Exists(parts[0].Path) {
		around = strings.Replace(line, parts[0].Path, "path", 1)
	}
	if emptySource.MatchString(around) {
		r.ComplainOfBlanks("input image", line)
	}
}

// ComplainOfBlanks complains about a blank too many in text, where an expression may have been empty. About tells where
// the text is.
func (r *UploadReader) ComplainOfBlanks(about, text string) {
	where := "two blanks or one at the end"
	if strings.TrimLeft(text, " \t") != text {
		where = "a blank at the beginning"
	}
	r.Complain("%s: %s of %.80q; a source may be missing there "+
		"(an expression whose step or output doesn't exist is empty); give it, or leave out the blank", about, where, text)
}

// key reads the input key: a text that names what an image is made of. It returns the zero Hash if there is none.
func (r *UploadReader) key() v1.Hash {
	text := r.Input("key")
	if text == "" {
		return v1.Hash{}
	}
	if r.Given("filepath") {
		r.Complain(
			"input key: given with filepath, but for images only; leave it out, since an unchanged file is skipped " +
				"by its content",
		)
	}
	if r.Given("metadata") {
		r.Complain("input key: given with metadata, but for one image; leave it out, " +
			"since an image that the charm's repository has already isn't sent again")
	}
	if !r.Bool("locations-record", true) {
		r.Complain(
			"input key: given with locations-record false, but what a key means is such a record; leave one of them out",
		)
	}
	return KeyOf(text)
}

// KeyOf returns the digest under which an image is recorded for a key.
func KeyOf(text string) v1.Hash {
	digest := sha256.Sum256([]byte(text))
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest[:])}
}

// pushOnly reads whether to create no revision.
func (r *UploadReader) pushOnly() bool {
	only := r.Bool("push-only", false)
	if only && r.Given("filepath") {
		r.Complain("input push-only: given with filepath, but for images only; leave it out")
	}
	return only
}

// Compression reads the compression of layers.
func (r *UploadReader) Compression() pack.Compression {
	value := pack.Compression(cmp.Or(r.Input("compression"), string(pack.Gzip)))
	switch {
	case value != pack.Gzip && value != pack.Zstd:
		r.Complain("input compression: %q is unknown; write gzip or zstd", value)
	case value != pack.Gzip && r.Given("filepath"):
		r.Complain(
			"input compression: given with filepath, but for images only; leave it out, since a file is stored as it is",
		)
	}
	return value
}

// platform reads the platform to select from an image. It returns nil if there is none.
func (r *UploadReader) platform() *v1.Platform {
	value := r.Input("platform")
	if value == "" {
		return nil
	}
	platform, err := image.ParsePlatform(value)
	switch {
	case r.Given("filepath"):
		r.Complain(
			"input platform: given with filepath, but for images only; leave it out, and give architectures to say what " +
				"a file is for",
		)
	case err != nil:
		r.Complain("input platform: %q is no platform; write os/arch or os/arch/variant, for example linux/arm64", value)
	}
	return &platform
}

// architectures reads the architectures of a file. It returns nil if the input is empty, which differs from "all" if a
// revision with the file exists. For an image it accepts "all", which adds nothing to what the image says.
func (r *UploadReader) architectures() []string {
	names := r.List("architectures", r.Words)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil
	}
	if !r.Given("filepath") {
		image := slices.ContainsFunc([]string{"digest", "image", "metadata", "key"}, r.Given)
		if image && !slices.Equal(names, []string{charm.AllArchitectures}) {
			r.Complain(
				"input architectures: given for an image, but for files only; leave it out, since an image says by itself " +
					"what it is for",
			)
		}
		return nil
	}
	for _, name := range names {
		if err := charm.CheckArchitecture(name); err != nil {
			r.Complain("input architectures: %w", err)
		}
	}
	if len(names) > 1 && names[0] == charm.AllArchitectures {
		r.Complain("input architectures: all is given together with others; keep all, or the others")
	}
	return names
}

// Login reads the credentials for a registry and determines which registry they are for.
func (r *UploadReader) Login(images []Part) source.Login {
	registry, username, password := r.Input("source-registry"), r.Input("source-username"), r.Input("source-password")
	before := len(r.Complaints)
	switch {
	case registry == "" && username == "" && password == "":
	case username == "" && password == "":
		r.Complain("input source-registry: given without source-username and source-password, which are for it " +
			"(" + inputs.NoSecrets + "); give all three, or none")
	case username == "":
		r.Complain("input source-password: given without source-username; give both, " +
			"or none where an earlier step logged in or the registry asks for none")
	case password == "":
		r.Complain("input source-username: given without source-password, or the password's secret is empty " +
			"(" + inputs.NoSecrets + "); give both, or none")
	case r.Given("filepath"):
		r.Complain(
			"inputs source-username, source-password: given with filepath, but for an image's registry; leave them out",
		)
	case r.Given("metadata") && registry == "":
		r.Complain(
			"inputs source-username, source-password: given with metadata, whose sources may be in several registries; " +
				"name the one that they are for with source-registry, for example source-registry: ghcr.io",
		)
	}
	var named []string
	for _, part := range images {
		if name := part.Registry(); name != "" && !slices.Contains(named, name) {
			named = append(named, name)
		}
	}
	login := source.Login{Username: username, Password: password}
	switch {
	case registry != "":
		var err error
		if login.Registry, err = source.ParseRegistry(registry); err != nil {
			r.ambiguous = true
			r.Complain("input source-registry: %w", err)
		} else if len(named) > 0 && !slices.Contains(named, login.Registry) {
			r.ambiguous = true
			r.Complain("input source-registry: no image is in %s, but in %s; name the registry that the password is for, or "+
				"leave out the login", login.Registry, joinNames(named))
		}
	case len(named) == 1:
		login.Registry = named[0]
	case len(named) > 1 && password != "":
		r.ambiguous = true
		r.Complain("input source-password: the images are in several registries, %s, and it is for one of them; "+
			"name that with source-registry, for example source-registry: %s", joinNames(named), named[0])
	}
	if password == "" || len(r.Complaints) > before {
		return source.Login{}
	}
	return login
}

// Finish returns all complaints as one error, nil if there are none. To a complaint about a name it adds the ID of
// the image in the container engine and the tag's current digest, if they are found in time. If there are other
// complaints, an image that couldn't be read may be the one in whose registry the password is valid. The password is
// then only sent to a registry that source-registry names. If it isn't clear for which of several registries the
// password is, none is asked.
func (r *UploadReader) Finish(ctx context.Context, login source.Login, lookup Lookup) error {
	ctx, cancel := context.WithTimeout(ctx, source.TagTimeout)
	defer cancel()
	if !r.Given("source-registry") && slices.ContainsFunc(r.Complaints, func(err error) bool {
		_, tag := errors.AsType[*source.TagError](err)
		return !tag
	}) {
		login = source.Login{}
	}
	var group parallel.Group
	for n, complaint := range r.Complaints {
		group.Go(func() error {
			r.Complaints[n] = r.lookUp(ctx, complaint, login, lookup)
			return nil
		})
	}
	_ = group.Wait() // none fails
	return errors.Join(r.Complaints...)
}

// lookUp adds to a complaint about a name what to write instead.
func (r *UploadReader) lookUp(ctx context.Context, complaint error, login source.Login, lookup Lookup) error {
	var local string
	tag, tagged := errors.AsType[*source.TagError](complaint)
	if tagged {
		local = tag.Local
	} else if name, ok := errors.AsType[*nameError](complaint); ok {
		local = name.name
	}
	if local != "" {
		if id, err := lookup.Engine(ctx, local); err == nil {
			complaint = fmt.Errorf(
				"%w; the container engine has an image of that name: give its ID, %s, as the input digest, or in place of the name",
				complaint,
				id,
			)
			if !tagged || tag.Hostless {
				return complaint // a registry would have another image
			}
		}
	}
	// What the engine has under a name need not be what a registry has.
	if !tagged || r.ambiguous || strings.HasPrefix(tag.Text, "docker-daemon:") {
		return complaint
	}
	digest, err := lookup.Registry(ctx, login, tag.Name)
	switch {
	case err != nil:
		return complaint
	case tag.Hostless:
		return fmt.Errorf("%w; on Docker Hub, the tag names %s@%s right now", complaint, tag.Name, digest)
	default:
		return fmt.Errorf("%w; right now the tag names %s@%s", complaint, tag.Name, digest)
	}
}

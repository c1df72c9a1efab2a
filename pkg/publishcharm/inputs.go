package publishcharm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/action"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/inputs"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/publish"
	"github.com/charmhub-actions/upload-resource/pkg/release"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// Inputs holds a step's inputs after they were checked.
type Inputs struct {
	Charm    string              // name, as the charm files have it
	Paths    []string            // of the charm files
	Files    []release.CharmFile // what they contain
	Channels []charmhub.Channel

	Items     []publish.Item // resources to upload, sorted by name
	Revisions map[string]int // revisions that resources get without an upload

	Compression pack.Compression
	Login       source.Login // for the registry that images come from
	Opened      Opened       // images in the workspace
	DryRun      bool         // plan only

	Credentials        *charmhub.Credentials // for uploads
	ReleaseCredentials *charmhub.Credentials // for the release
	Endpoints          inputs.Endpoints
}

// ReadInputs reads the inputs of the step, the charm files, and the manifests of images in the workspace, and checks
// them. The error joins every complaint there is, each with what to write instead. The only calls are those of lookup,
// for a complaint about a name. Close [Inputs.Opened], also after an error.
func ReadInputs(ctx context.Context, runner *action.Runner, lookup publish.Lookup, open OpenFunc) (Inputs, error) {
	r := &reader{UploadReader: publish.UploadReader{Reader: inputs.Reader{Runner: runner}},
		in: Inputs{Revisions: map[string]int{}, Opened: Opened{}}}
	token, releaseToken := r.Token(), r.Input("release-token")
	r.Mask(releaseToken)
	lines := r.List("resources", r.RawLines)
	for _, line := range lines {
		_, value, _ := strings.Cut(line, "=")
		r.MaskPasswords(strings.Fields(value)...)
	}
	in := &r.in
	r.readFiles(ctx)
	r.readLines(lines)
	r.addUpstream()
	r.checkMissing()
	slices.SortFunc(in.Items, func(a, b publish.Item) int { return strings.Compare(a.Resource, b.Resource) })
	in.Channels = r.channels()
	in.Compression = r.Compression()
	in.Login = r.Login(r.images)
	in.DryRun = r.Bool("dry-run", false)
	in.Endpoints = r.Endpoints()
	in.Credentials = r.Credentials("store-token", token, in.Charm, releaseToken == "")
	in.ReleaseCredentials = in.Credentials
	if releaseToken != "" {
		in.ReleaseCredentials = r.Credentials("release-token", releaseToken, in.Charm, true)
	}
	r.openAll(ctx, open)
	return *in, r.Finish(ctx, in.Login, lookup)
}

// reader reads the inputs.
type reader struct {
	publish.UploadReader
	in       Inputs
	declared map[string]charm.Resource // by the charm files; nil if one of them can't be read
	given    map[string]bool           // resources that have a line
	images   []publish.Part            // of all resources
}

// readFiles reads the charm files, and what they declare.
func (r *reader) readFiles(ctx context.Context) {
	for _, line := range r.List("charms", r.Lines) {
		r.in.Paths = append(r.in.Paths, strings.Fields(line)...)
	}
	if len(r.in.Paths) == 0 {
		r.Complain("input charms: missing; give the packed charm files, for example ${{ steps.pack.outputs.charms }} " +
			"(an expression whose step or output doesn't exist is empty)")
		return
	}
	files, err := release.ReadFiles(ctx, r.Workspace(), r.in.Paths, "")
	if err != nil {
		r.Complaints = append(r.Complaints, err)
	}
	declared := map[string]charm.Resource{}
	for _, file := range files {
		for _, name := range slices.Sorted(maps.Keys(file.Resources)) {
			resource := file.Resources[name]
			r.MaskPasswords(resource.Source)
			other, known := declared[name]
			switch {
			case resource.Type != charm.TypeImage && resource.Type != charm.TypeFile:
				r.Complain("input charms: %s declares resource '%s' of type %.80q, which is no type of resource; write oci-image "+
					"or file, and pack it again",
					file.Path, name, resource.Type)
			case known && (other.Type != resource.Type || other.Source != resource.Source):
				r.Complain("input charms: %s declares resource '%s' with another type or upstream-source than the files before "+
					"it; pack them from one source",
					file.Path, name)
				resource.Type, resource.Source = other.Type, other.Source // what is given for it is read once
			}
			resource.Optional = resource.Optional && (!known || other.Optional)
			declared[name] = resource
		}
	}
	if r.in.Files = files; len(files) > 0 {
		r.in.Charm = files[0].Name
	}
	if err == nil {
		r.declared = declared
	}
}

// channels reads the channels to release to.
func (r *reader) channels() (channels []charmhub.Channel) {
	words := r.List("channel", r.Words)
	if len(words) == 0 && !r.Given("channel") {
		r.Complain("input channel: missing; give where to release, for example latest/edge")
	}
	for _, word := range words {
		channel, err := charmhub.ParseChannel(word)
		if err != nil {
			r.Complain("input channel: %w", err)
		}
		channels = append(channels, channel)
	}
	return channels
}

// The words for a revision that there is already.
var (
	revisionForm = regexp.MustCompile(`^revision\s+([0-9]{1,9})$`)
	revisionWord = regexp.MustCompile(`^revision(\s|$)`)
	keyWord      = regexp.MustCompile(`(?:^|\s)key=`)
	emptySource  = regexp.MustCompile(`\s\s|\s$`)     // between sources, or after the last
	emptyFirst   = regexp.MustCompile(`^\s\s+(\S|$)`) // between the = and the first source
)

// keep is the word for the resource that the channel has.
const keep = "keep"

// readLines reads the lines of the input resources: name = source.
func (r *reader) readLines(lines []string) {
	r.given = map[string]bool{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		about := "input resources: " + name
		declared, known := r.declared[name]
		switch {
		case !ok:
			r.Complain("input resources: %.80q has no =; write name = source, for example my-image = my.rock",
				strings.TrimSpace(line))
		case charm.CheckResourceName(name) != nil:
			r.Complain("input resources: %.80q is invalid; %w", name, charm.CheckResourceName(name))
		case r.given[name]:
			r.Complain("%s: there are two lines for it; keep one, and put the images of several platforms on it, separated by "+
				"blanks", about)
		case r.declared != nil && !known:
			r.Complain("%s: the charm files declare no such resource, %s", about, r.correction())
		default:
			r.readValue(about, name, value, declared.Type)
		}
		r.given[name] = true
	}
}

// correction says what can be written in place of a name that isn't declared.
func (r *reader) correction() string {
	if len(r.declared) == 0 {
		return "or any other; leave out the line"
	}
	return "but " + strings.Join(slices.Sorted(maps.Keys(r.declared)), ", ") + "; correct the name, or leave out the line"
}

// readValue reads what a resource gets. The type is empty if it isn't known.
func (r *reader) readValue(about, name, value, kind string) {
	item := publish.Item{Resource: name}
	key := ""
	at := keyWord.FindStringIndex(value)
	if at != nil {
		key, value = strings.TrimSpace(value[at[1]:]), strings.TrimRight(value[:at[0]], " \t")
	}
	given, raw := value, strings.TrimLeft(value, " \t")
	value = strings.TrimSpace(raw)
	number := revisionForm.FindStringSubmatch(value)
	switch {
	case at != nil && key == "":
		r.Complain("%s: the key is empty, as that of hashFiles is where no file matches; give text that names what the "+
			"image is made of", about)
	case at != nil && (value == keep || revisionWord.MatchString(value) || kind == charm.TypeFile):
		r.Complain("%s: given with a key, which is for images that are built; leave out the key", about)
	case value == "" && at == nil:
		r.Complain("%s: the source is empty; give what belongs there, or keep for the revision that the channel has "+
			"(an expression whose step or output doesn't exist is empty)", about)
	case value != "" && emptyFirst.MatchString(given):
		r.ComplainOfBlanks(about, "="+given)
	case value == keep:
	case number != nil:
		r.in.Revisions[name], _ = strconv.Atoi(number[1]) // nine digits are a number
	case revisionWord.MatchString(value):
		r.Complain("%s: %.80q has no number; write for example revision 12, or ./%s for a file of that name", about,
			value, value)
	case kind == charm.TypeFile:
		item.File = value
		r.checkFile(about, value)
		r.in.Items = append(r.in.Items, item)
	case kind == charm.TypeImage:
		if key != "" {
			item.Key = publish.KeyOf(key)
		}
		item.Images = r.imageParts(about, raw)
		r.in.Items = append(r.in.Items, item)
	}
}

// imageParts reads the sources of an image. With blanks in them they are several, unless all is the path of something.
func (r *reader) imageParts(about, raw string) (parts []publish.Part) {
	value := strings.TrimSpace(raw)
	sources := []string{value}
	if text, _, platform := strings.Cut(value, " platform="); !platform && !r.Workspace().Exists(text) {
		sources = strings.Fields(value)
	}
	if len(sources) > 1 && emptySource.MatchString(raw) || len(sources) == 1 && raw != value {
		r.ComplainOfBlanks(about, raw)
	}
	for _, source := range sources {
		parts = append(parts, r.Parts(about, source)...)
	}
	r.images = append(r.images, parts...)
	return parts
}

// checkFile complains about a file that can't be read.
func (r *reader) checkFile(about, path string) {
	file, err := r.Workspace().Open(path)
	if err != nil {
		if _, problem := source.ParseDigest(path); problem == nil {
			name := strings.TrimPrefix(about, "input resources: ")
			err = fmt.Errorf("%s is an image's digest, and %s is of type file; give the path of a file", path, name)
		}
		r.Complain("%s: %w", about, err)
		return
	}
	_ = file.Close()
}

// addUpstream adds the images that have no line, and an upstream-source.
func (r *reader) addUpstream() {
	for _, name := range slices.Sorted(maps.Keys(r.declared)) {
		declared := r.declared[name]
		if r.given[name] || declared.Type != charm.TypeImage || declared.Source == "" {
			continue
		}
		ref, err := source.Parse("docker://" + strings.TrimPrefix(declared.Source, "docker://"))
		if _, tagged := errors.AsType[*source.TagError](err); err != nil && !tagged {
			r.Complain("input charms: the upstream-source of resource '%s': %w", name, err)
		}
		r.images = append(r.images, publish.Part{Reference: ref})
		r.in.Items = append(r.in.Items, publish.Item{Resource: name, Upstream: declared.Source})
	}
}

// checkMissing complains about resources that the charm needs, and that nothing is given for.
func (r *reader) checkMissing() {
	var names, lines []string
	for _, name := range slices.Sorted(maps.Keys(r.declared)) {
		declared := r.declared[name]
		if declared.Optional || r.given[name] || declared.Type == charm.TypeImage && declared.Source != "" {
			continue
		}
		names = append(names, name)
		what := "IMAGE"
		if declared.Type == charm.TypeFile {
			what = "PATH"
		}
		lines = append(lines, fmt.Sprintf("%s = %s", name, what))
	}
	if len(names) > 0 {
		r.Complain("input resources: nothing is given for %s, which the charm needs; add these lines, with keep for what "+
			"the channel has "+
			"(an expression whose step or output doesn't exist is empty):\n%s", strings.Join(names, ", "),
			strings.Join(lines, "\n"))
	}
}

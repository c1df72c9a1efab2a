package image

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	containerd "github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	specs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// readers is how many images of an index are read at once.
const readers = 8

// unknown is what attestations and other attached manifests have for a
// platform.
var unknown = v1.Platform{OS: "unknown", Architecture: "unknown"}

// Platforms returns what an image or the children of an index run on, in
// their order; an image whose config doesn't say has the zero Platform. What an
// index carries besides images, such as attestations, doesn't count. It fails
// for what is no image to run, and for an index without one. Of an index that
// names the platforms of its images it reads nothing else: [Check] does.
func Platforms(m ImageOrIndex) ([]v1.Platform, error) {
	return platformsOf(m, leaf.glance)
}

// Check looks at all images in m, their layers aside, and fails for the first
// one that no engine could run. Manifests of other kinds may go along with an
// index, but can't be all that it has.
func Check(m ImageOrIndex) error {
	_, err := platformsOf(m, leaf.inspect)
	return err
}

func platformsOf(m ImageOrIndex, look func(leaf) (leaf, error)) ([]v1.Platform, error) {
	switch m := m.(type) {
	case v1.ImageIndex:
		leaves, err := flatten(m, look)
		if err != nil {
			return nil, err
		}
		var all []v1.Platform
		for _, l := range leaves {
			if l.runs {
				all = append(all, *l.Platform)
			}
		}
		return all, nil
	case v1.Image:
		platform, err := imagePlatform(m)
		return []v1.Platform{platform}, err
	default:
		return nil, fmt.Errorf("%T is neither an image nor an index", m)
	}
}

// imagePlatform checks an image, and returns the platform in its config.
func imagePlatform(image v1.Image) (v1.Platform, error) {
	mediaType, err := image.MediaType()
	if err != nil {
		return v1.Platform{}, err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return v1.Platform{}, err
	}
	return checkImage(mediaType, manifest, image.RawConfigFile)
}

// leaf is a manifest that an index lists and that is no index: its descriptor,
// and what was found out of it.
type leaf struct {
	v1.Descriptor               // with a platform, if it runs
	parent        v1.ImageIndex // which lists it
	image         v1.Image      // nil before it is opened
	runs          bool          // it is an image to run
}

// open opens a manifest of an image's type, which an index in a registry asks
// for then.
func (l leaf) open() (v1.Image, error) {
	if l.image != nil {
		return l.image, nil
	}
	return l.parent.Image(l.Digest)
}

// IsAttached reports whether an index lists d as something about an image, such as an attestation, and not as an image to
// run: then d's platform is unknown/unknown, which no runtime takes. An annotation alone doesn't say so, because runtimes
// don't read annotations when they choose an image.
func IsAttached(d v1.Descriptor) bool { return d.Platform != nil && d.Platform.Equals(unknown) }

// glance finds out whether a manifest is an image, and for which platform,
// and believes the index.
func (l leaf) glance() (leaf, error) {
	if l.runs = l.MediaType.IsImage() && !IsAttached(l.Descriptor); !l.runs || l.Platform != nil {
		return l, nil
	}
	return l.inspect()
}

// inspect finds out the same from the image itself.
func (l leaf) inspect() (_ leaf, err error) {
	if l.runs = false; !l.MediaType.IsImage() || IsAttached(l.Descriptor) {
		return l, nil
	}
	if l.image, err = l.open(); err != nil {
		return l, err
	}
	platform, err := imagePlatform(l.image)
	var artifact *artifactError
	switch {
	case errors.As(err, &artifact):
		return l, nil // it goes along
	case err != nil:
		return l, fmt.Errorf("the index lists %s: %w", l.Digest, err)
	case l.Platform == nil && platform.OS == "":
		return l, fmt.Errorf("the index lists the image %s without a platform, and the image's config has none; "+
			"pass the image by itself, with ` platform=os/arch` after it where it is to be one of several", l.Digest)
	case l.Platform == nil:
		l.Platform = &platform
	}
	l.runs = true
	return l, nil
}

// No real index is as large as this; one that lists the same index many times,
// on every level, would never end.
const (
	maxManifests = 1000     // images and indexes in an index, and thereby how deep they nest
	maxIndex     = 16 << 20 // bytes of their manifests together, which stay in memory
)

var (
	errTooLarge = errors.New("more than any real index")
	errNoSize   = errors.New("which no manifest or blob has; build, save or pull the image again")
)

// CheckSize returns an error if an index is too large to be real, or lists a
// manifest without its size. It reads the indexes in it, and no image.
func CheckSize(m ImageOrIndex) error {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		return nil
	}
	var d descent
	err := d.into(index, func(v1.ImageIndex, v1.Descriptor) error { return nil })
	if errors.Is(err, errTooLarge) || errors.Is(err, errNoSize) {
		return err
	}
	return nil // what can't be read may not be needed
}

// flatten returns what an index and the indexes in it list, in order, as look
// sees it. It fails if there is no image to run.
func flatten(index v1.ImageIndex, look func(leaf) (leaf, error)) (leaves []leaf, err error) {
	var d descent
	err = d.into(index, func(parent v1.ImageIndex, d v1.Descriptor) error {
		leaves = append(leaves, leaf{Descriptor: d, parent: parent})
		return nil
	})
	if err != nil {
		return nil, err
	}
	var group parallel.Group
	group.SetLimit(readers)
	for n := range leaves {
		group.Go(func() (err error) {
			leaves[n], err = look(leaves[n])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, l := range leaves {
		if l.runs {
			return leaves, nil
		}
	}
	if len(leaves) == 0 {
		return nil, errors.New("the index lists nothing, so there is no image in it; build or push the image anew")
	}
	return nil, fmt.Errorf("an index without an image to run: of the %d manifests in the index, all are attestations or other artifacts; give the image that they belong to", len(leaves))
}

// MaxDepth is how deep indexes may be nested; one that lists only images has depth 1.
const MaxDepth = 8

// descent is one way through an index and the indexes in it.
type descent struct{ manifests, bytes, depth int64 }

// into calls visit for each manifest that is no index.
func (d *descent) into(index v1.ImageIndex, visit func(parent v1.ImageIndex, d v1.Descriptor) error) error {
	mediaType, err := index.MediaType()
	if err != nil {
		return err
	}
	if d.depth++; d.depth > MaxDepth {
		return fmt.Errorf("indexes are nested more than %d deep, %w", MaxDepth, errTooLarge)
	}
	defer func() { d.depth-- }()
	raw, err := index.RawManifest()
	if err != nil {
		return err
	}
	if err := checkIndex(mediaType, raw); err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, child := range manifest.Manifests {
		if err := d.count(child); err != nil {
			return err
		}
		if !child.MediaType.IsIndex() {
			err = visit(index, child)
		} else if nested, failure := index.ImageIndex(child.Digest); failure != nil {
			err = failure
		} else {
			err = d.into(nested, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *descent) count(child v1.Descriptor) error {
	if d.manifests++; d.manifests > maxManifests {
		return fmt.Errorf("the index lists more than %d images, %w", maxManifests, errTooLarge)
	}
	if child.Size <= 0 { // those that are read have the size that is listed
		return fmt.Errorf("the index lists %s with %d bytes, %w", child.Digest, child.Size, errNoSize)
	}
	if d.bytes += child.Size; d.bytes > maxIndex || d.bytes < 0 {
		return fmt.Errorf("the manifests in the index have more than %d bytes, %w", maxIndex, errTooLarge)
	}
	return nil
}

// platformText is a platform as inputs give it.
var platformText = regexp.MustCompile(`^[A-Za-z0-9]+/[A-Za-z0-9_-]+(?:/[A-Za-z0-9.]+)?(?::[A-Za-z0-9.]+)?$`)

// ParsePlatform reads os/arch[/variant][:osversion]. A name that containerd
// takes for another one, such as x86_64 for amd64, becomes that.
func ParsePlatform(text string) (v1.Platform, error) {
	if !platformText.MatchString(text) {
		return v1.Platform{}, fmt.Errorf("%q is no platform; write os/arch[/variant][:osversion]", text)
	}
	p, err := v1.ParsePlatform(text)
	if err != nil {
		return v1.Platform{}, err
	}
	if n := Normalize(*p); n.OS != p.OS || n.Architecture != p.Architecture {
		return n, nil
	}
	return *p, nil // with a variant that says no more than the architecture, if that was given
}

// Normalize returns a platform in the form in which containerd compares them:
// arm64 for arm64/v8 and aarch64, arm/v7 for arm and armhf.
func Normalize(p v1.Platform) v1.Platform {
	if p.OS == "" || p.Architecture == "" {
		return p
	}
	n := containerd.Normalize(specs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	p.OS, p.Architecture, p.Variant = n.OS, n.Architecture, n.Variant
	return p
}

// ConfigPlatform returns what a config says that an image runs on, the zero
// Platform if it doesn't.
func ConfigPlatform(config *v1.ConfigFile) v1.Platform {
	if config.OS == "" || config.Architecture == "" {
		return v1.Platform{}
	}
	return *config.Platform()
}

// SelectPlatform returns the one image of m that runs on want. An image that
// has no other platform to offer is checked, too. Where want has no variant,
// the one that containerd assumes is preferred to the others.
func SelectPlatform(m ImageOrIndex, want v1.Platform) (ImageOrIndex, error) {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		have, err := Platforms(m)
		if err != nil || Satisfies(have[0], want) {
			return m, err
		}
		return nil, fmt.Errorf("the image runs on %s, not on %s; give one for that platform", orUnknown(have[0]), want)
	}
	leaves, err := flatten(index, leaf.glance)
	if err != nil {
		return nil, err
	}
	var images []leaf
	var have []v1.Platform
	var names []string
	for _, l := range leaves {
		if l.runs {
			images, have, names = append(images, l), append(have, *l.Platform), append(names, l.Platform.String())
		}
	}
	if at := Prefer(have, want); at >= 0 {
		return images[at].open()
	}
	return nil, fmt.Errorf("the index has no image for %s; choose from %s", want, strings.Join(names, ", "))
}

// Prefer returns which of the platforms [SelectPlatform] takes for want, -1 for
// none.
func Prefer(have []v1.Platform, want v1.Platform) int {
	usual := Normalize(want)
	if at := slices.IndexFunc(have, func(p v1.Platform) bool { return Normalize(p).Satisfies(usual) }); at >= 0 {
		return at
	}
	return slices.IndexFunc(have, func(p v1.Platform) bool { return Satisfies(p, want) })
}

// Satisfies reports whether what runs on have is what want asks for. A part of
// want that is empty asks for nothing.
func Satisfies(have, want v1.Platform) bool {
	asked := Normalize(want)
	if want.Variant == "" && asked.Architecture == want.Architecture {
		asked.Variant = ""
	}
	return Normalize(have).Satisfies(asked)
}

func orUnknown(p v1.Platform) string {
	if p.OS == "" {
		return "a platform that its config doesn't name"
	}
	return p.String()
}

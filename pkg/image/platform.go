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

// maxReaders is the maximum number of images of an index that are read concurrently.
const maxReaders = 8

// unknown is the platform that indexes give to attestations and other attached manifests.
var unknown = v1.Platform{OS: "unknown", Architecture: "unknown"}

// Platforms returns the platforms of an image, or of the images in an index, in order. An image whose config names none
// has the zero Platform. Attestations and other artifacts are left out. It fails if m isn't an image or contains none.
// It believes the platforms that an index lists and doesn't read those images; [Check] does.
func Platforms(m ImageOrIndex) ([]v1.Platform, error) {
	return platformsOf(m, leaf.fromIndex)
}

// Check reads the manifest and config of each image in m and returns an error for the first image that no engine can
// run. An index may list other artifacts, but must list at least one image. Layers aren't read.
func Check(m ImageOrIndex) error {
	_, err := platformsOf(m, leaf.fromImage)
	return err
}

// platformsOf returns the platforms of the runnable images in m. It calls look for each manifest of an index.
func platformsOf(m ImageOrIndex, look func(leaf) (leaf, error)) ([]v1.Platform, error) {
	switch m := m.(type) {
	case v1.ImageIndex:
		leaves, err := flatten(m, look)
		if err != nil {
			return nil, err
		}
		var all []v1.Platform
		for _, l := range leaves {
			if l.runnable {
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

// imagePlatform checks an image and returns the platform from its config.
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

// leaf is a manifest in an index that isn't an index itself, with what is known about it.
type leaf struct {
	v1.Descriptor               // with a platform, if it runs
	parent        v1.ImageIndex // which lists it
	image         v1.Image      // nil before it is opened
	runnable      bool          // it is an image to run
}

// open returns the manifest as an image. An index in a registry then requests it.
func (l leaf) open() (v1.Image, error) {
	if l.image != nil {
		return l.image, nil
	}
	return l.parent.Image(l.Digest)
}

// IsAttached reports whether an index lists d as something about an image, such as an attestation. Its platform is then
// unknown/unknown, which no runtime selects. Annotations don't count, because runtimes ignore them when they select an
// image.
func IsAttached(d v1.Descriptor) bool { return d.Platform != nil && d.Platform.Equals(unknown) }

// fromIndex decides by the index whether the manifest is a runnable image, and for which platform. It reads the image
// only if the index gives no platform.
func (l leaf) fromIndex() (leaf, error) {
	if l.runnable = l.MediaType.IsImage() && !IsAttached(l.Descriptor); !l.runnable || l.Platform != nil {
		return l, nil
	}
	return l.fromImage()
}

// fromImage reads the image to decide whether it is runnable, and for which platform. An artifact isn't an error.
func (l leaf) fromImage() (_ leaf, err error) {
	if l.runnable = false; !l.MediaType.IsImage() || IsAttached(l.Descriptor) {
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
			"pass the image by itself, with ` platform=os/arch` after it if it is one of several", l.Digest)
	case l.Platform == nil:
		l.Platform = &platform
	}
	l.runnable = true
	return l, nil
}

// No real index is as large as this; one that lists the same index many times, on every level, would never end.
const (
	maxManifests = 1000     // images and indexes in an index, and thereby how deep they nest
	maxIndex     = 16 << 20 // bytes of their manifests together, which stay in memory
)

var (
	errTooLarge = errors.New("more than any real index")
	errNoSize   = errors.New("which no manifest or blob has; build, save or pull the image again")
)

// CheckSize returns an error if an index is too large to be real, or lists a manifest without a size. It reads nested
// indexes, but no images. A single image passes. Indexes that can't be read pass too, because they may not be needed.
func CheckSize(m ImageOrIndex) error {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		return nil
	}
	var d indexWalk
	err := d.walk(index, func(v1.ImageIndex, v1.Descriptor) error { return nil })
	if errors.Is(err, errTooLarge) || errors.Is(err, errNoSize) {
		return err
	}
	return nil // what can't be read may not be needed
}

// flatten returns the manifests of an index and its nested indexes, in order, after calling look for each. It fails if
// none of them is a runnable image.
func flatten(index v1.ImageIndex, look func(leaf) (leaf, error)) (leaves []leaf, err error) {
	var d indexWalk
	err = d.walk(index, func(parent v1.ImageIndex, d v1.Descriptor) error {
		leaves = append(leaves, leaf{Descriptor: d, parent: parent})
		return nil
	})
	if err != nil {
		return nil, err
	}
	var group parallel.Group
	group.SetLimit(maxReaders)
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
		if l.runnable {
			return leaves, nil
		}
	}
	if len(leaves) == 0 {
		return nil, errors.New("the index lists nothing, so there is no image in it; build or push the image again")
	}
	return nil, fmt.Errorf(
		"an index without an image to run: of the %d manifests in the index, all are attestations or other artifacts; "+
			"give the image that they belong to",
		len(leaves),
	)
}

// MaxDepth is the maximum depth of nested indexes. An index that lists only images has depth 1.
const MaxDepth = 8

// indexWalk counts the manifests, their bytes, and the current depth while an index is walked. The zero value is ready
// to use.
type indexWalk struct{ manifests, bytes, depth int64 }

// walk calls visit for each manifest in an index and its nested indexes that isn't an index. It stops at the first
// error.
func (d *indexWalk) walk(index v1.ImageIndex, visit func(parent v1.ImageIndex, d v1.Descriptor) error) error {
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
			err = d.walk(nested, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count adds a manifest and returns an error if the index exceeds a limit.
func (d *indexWalk) count(child v1.Descriptor) error {
	if d.manifests++; d.manifests > maxManifests {
		return fmt.Errorf("the index lists more than %d images, %w", maxManifests, errTooLarge)
	}
	if child.Size <= 0 { // those that are read have the size that is listed
		return fmt.Errorf("the index lists %s with %d bytes, %w", child.Digest, child.Size, errNoSize)
	}
	if child.Size > maxIndex-d.bytes {
		return fmt.Errorf("the manifests in the index have more than %d bytes, %w", maxIndex, errTooLarge)
	}
	d.bytes += child.Size
	return nil
}

// platformText matches a platform as users write it in inputs.
var platformText = regexp.MustCompile(`^[A-Za-z0-9]+/[A-Za-z0-9_-]+(?:/[A-Za-z0-9.]+)?(?::[A-Za-z0-9.]+)?$`)

// ParsePlatform parses os/arch[/variant][:osversion]. Aliases that containerd knows are replaced, such as x86_64 by
// amd64.
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

// Normalize returns a platform in the form that containerd compares: arm64 for arm64/v8 and aarch64, arm/v7 for arm and
// armhf.
func Normalize(p v1.Platform) v1.Platform {
	if p.OS == "" || p.Architecture == "" {
		return p
	}
	n := containerd.Normalize(specs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	p.OS, p.Architecture, p.Variant = n.OS, n.Architecture, n.Variant
	return p
}

// ConfigPlatform returns the platform in a config. It returns the zero Platform if the config lacks the OS or the
// architecture.
func ConfigPlatform(config *v1.ConfigFile) v1.Platform {
	if config.OS == "" || config.Architecture == "" {
		return v1.Platform{}
	}
	return *config.Platform()
}

// SelectPlatform returns the image in m that runs on want. A single image is checked and returned if it runs on want.
// If want has no variant, it prefers the variant that containerd assumes. If no image matches, the error lists the
// platforms that m has.
func SelectPlatform(m ImageOrIndex, want v1.Platform) (ImageOrIndex, error) {
	index, ok := m.(v1.ImageIndex)
	if !ok {
		have, err := Platforms(m)
		if err != nil || Satisfies(have[0], want) {
			return m, err
		}
		return nil, fmt.Errorf("the image runs on %s, not on %s; give one for that platform", orUnknown(have[0]), want)
	}
	leaves, err := flatten(index, leaf.fromIndex)
	if err != nil {
		return nil, err
	}
	var images []leaf
	var have []v1.Platform
	var names []string
	for _, l := range leaves {
		if l.runnable {
			images, have, names = append(images, l), append(have, *l.Platform), append(names, l.Platform.String())
		}
	}
	if at := Prefer(have, want); at >= 0 {
		return images[at].open()
	}
	return nil, fmt.Errorf("the index has no image for %s; choose from %s", want, strings.Join(names, ", "))
}

// Prefer returns the position of the platform in have that [SelectPlatform] selects for want, or -1 if none matches.
func Prefer(have []v1.Platform, want v1.Platform) int {
	usual := Normalize(want)
	if at := slices.IndexFunc(have, func(p v1.Platform) bool { return Normalize(p).Satisfies(usual) }); at >= 0 {
		return at
	}
	return slices.IndexFunc(have, func(p v1.Platform) bool { return Satisfies(p, want) })
}

// Satisfies reports whether an image for the platform have fulfils want. Empty fields of want match anything.
func Satisfies(have, want v1.Platform) bool {
	asked := Normalize(want)
	if want.Variant == "" && asked.Architecture == want.Architecture {
		asked.Variant = ""
	}
	return Normalize(have).Satisfies(asked)
}

// orUnknown returns the platform as text for messages.
func orUnknown(p v1.Platform) string {
	if p.OS == "" {
		return "a platform that its config doesn't name"
	}
	return p.String()
}

package image

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

// walked is an index. It fails with those of its errors that aren't nil.
type walked struct {
	listing
	version                             int64 // of the schema; zero for the right one
	listed                              []v1.Descriptor
	nested                              v1.ImageIndex // all its nested indexes
	typeErr, rawErr, listErr, nestedErr error
}

// Digest returns no digest.
func (w walked) Digest() (v1.Hash, error) { return v1.Hash{}, nil }

// MediaType returns that of an OCI index, with the test's error.
func (w walked) MediaType() (types.MediaType, error) { return types.OCIImageIndex, w.typeErr }

// IndexManifest lists the test's descriptors. The version is 2 unless the test has set another.
func (w walked) IndexManifest() (*v1.IndexManifest, error) {
	version := int64(2)
	if w.version != 0 {
		version = w.version
	}
	return &v1.IndexManifest{SchemaVersion: version, Manifests: w.listed}, w.listErr
}

// RawManifest returns the manifest as JSON, or the test's error.
func (w walked) RawManifest() ([]byte, error) {
	if w.rawErr != nil {
		return nil, w.rawErr
	}
	w.listErr = nil
	manifest, _ := w.IndexManifest()
	return json.Marshal(manifest)
}

// ImageIndex returns the nested index, whatever the digest.
func (w walked) ImageIndex(v1.Hash) (v1.ImageIndex, error) { return w.nested, w.nestedErr }

// ofSize returns a change to a descriptor that sets its size.
func ofSize(size int64) func(*v1.Descriptor) { return func(d *v1.Descriptor) { d.Size = size } }

// nestedIndex turns a descriptor into that of an index.
func nestedIndex(d *v1.Descriptor) { d.MediaType = types.OCIImageIndex }

// TestIndexFails: whoever wants something of an index hears why it can't be read.
func TestIndexFails(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	img, inner := entry(t, digestA), entry(t, digestB, nestedIndex)
	for name, test := range map[string]struct {
		index walked
		want  string
	}{
		"type":                   {walked{listed: []v1.Descriptor{img}, typeErr: gone}, "gone"},
		"bytes":                  {walked{listed: []v1.Descriptor{img}, rawErr: gone}, "gone"},
		"list":                   {walked{listed: []v1.Descriptor{img}, listErr: gone}, "gone"},
		"form":                   {walked{listed: []v1.Descriptor{img}, version: 3}, "schema version 3"},
		"a size":                 {walked{listed: []v1.Descriptor{img, entry(t, digestB, ofSize(0))}}, "with 0 bytes"},
		"nothing":                {walked{}, "lists nothing"},
		"nested":                 {walked{listed: []v1.Descriptor{img, inner}, nestedErr: gone}, "gone"},
		"bytes of the nested":    {walked{listed: []v1.Descriptor{img, inner}, nested: walked{rawErr: gone}}, "gone"},
		"not of the last nested": {walked{listed: []v1.Descriptor{inner, img}, nested: walked{rawErr: gone}}, "gone"},
	} {
		for what, ask := range map[string]func(m ImageOrIndex) error{
			"platforms": func(m ImageOrIndex) error { _, err := Platforms(m); return err },
			"checked":   Check,
			"selected":  func(m ImageOrIndex) error { _, err := SelectPlatform(m, *img.Platform); return err },
			"digests":   func(m ImageOrIndex) error { _, err := Digests(m); return err },
		} {
			t.Run(name+"/"+what, func(t *testing.T) { imagetest.WantError(t, ask(test.index), test.want) })
		}
	}
}

// TestCheckSize: an index may be as large as the limits, and what can't be read isn't too large.
func TestCheckSize(t *testing.T) {
	t.Parallel()
	one, inner := entry(t, digestA, ofSize(1)), entry(t, digestB, nestedIndex, ofSize(1))
	many := func(n int) []v1.Descriptor { return slices.Repeat([]v1.Descriptor{one}, n) }
	oneAnd := func(size int64) walked { return walked{listed: []v1.Descriptor{one, entry(t, digestB, ofSize(size))}} }
	nest := func(depth int) v1.ImageIndex {
		index := walked{listed: []v1.Descriptor{one}}
		for range depth - 1 {
			index = walked{listed: []v1.Descriptor{inner}, nested: index}
		}
		return index
	}
	for name, test := range map[string]struct {
		m    ImageOrIndex
		want string
	}{
		"an image":            {brokenImage{}, ""},
		"many":                {walked{listed: many(maxManifests)}, ""},
		"too many":            {walked{listed: many(maxManifests + 1)}, "lists more than 1000 images"},
		"large":               {oneAnd(maxIndex - 1), ""},
		"too large":           {oneAnd(maxIndex), "more than 16777216 bytes"},
		"larger than numbers": {oneAnd(math.MaxInt64), "more than 16777216 bytes"},
		"deep":                {nest(MaxDepth), ""},
		"too deep":            {nest(MaxDepth + 1), "nested more than 8 deep"},
		"wide":                {walked{listed: slices.Repeat([]v1.Descriptor{inner}, MaxDepth+1), nested: nest(1)}, ""},
		"no size":             {walked{listed: []v1.Descriptor{entry(t, digestA, ofSize(0))}}, "with 0 bytes"},
		"unread":              {walked{rawErr: errors.New("gone")}, ""},
	} {
		if err := CheckSize(test.m); test.want != "" {
			t.Run(name, func(t *testing.T) { imagetest.WantError(t, err, test.want) })
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNormalize: a platform is compared by its usual names, and one that is known in part stays as it is.
func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ given, want v1.Platform }{
		{v1.Platform{OS: "linux", Architecture: "aarch64"}, v1.Platform{OS: "linux", Architecture: "arm64"}},
		{v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, v1.Platform{OS: "linux", Architecture: "arm64"}},
		{v1.Platform{OS: "linux", Architecture: "arm"}, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
		{v1.Platform{OS: "Linux"}, v1.Platform{OS: "Linux"}},
		{v1.Platform{Architecture: "aarch64"}, v1.Platform{Architecture: "aarch64"}},
	} {
		if got := Normalize(test.given); !got.Equals(test.want) {
			t.Errorf("%+v is %+v, want %+v", test.given, got, test.want)
		}
	}
}

// TestSatisfies: a variant that isn't asked for doesn't matter, and one that is, by whatever name, does.
func TestSatisfies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		have, want string
		satisfied  bool
	}{
		{"linux/arm/v6", "linux/arm", true},
		{"linux/arm/v7", "linux/arm/v7", true},
		{"linux/arm/v6", "linux/arm/v7", false},
		{"linux/arm/v7", "linux/armhf", true},
		{"linux/arm/v6", "linux/armhf", false},
		{"linux/arm64/v8", "linux/arm64", true},
		{"linux/amd64", "linux/arm64", false},
	} {
		have, _ := v1.ParsePlatform(test.have)
		want, _ := v1.ParsePlatform(test.want)
		if got := Satisfies(*have, *want); got != test.satisfied {
			t.Errorf("%s for %s: %t", test.have, test.want, got)
		}
	}
}

// TestConfigPlatform: a config has a platform if it names both the system and the architecture.
func TestConfigPlatform(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		config v1.ConfigFile
		want   v1.Platform
	}{
		{
			v1.ConfigFile{OS: "linux", Architecture: "arm", Variant: "v6"},
			v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"},
		},
		{v1.ConfigFile{OS: "linux"}, v1.Platform{}},
		{v1.ConfigFile{Architecture: "arm"}, v1.Platform{}},
		{v1.ConfigFile{}, v1.Platform{}},
	} {
		if got := ConfigPlatform(&test.config); !got.Equals(test.want) {
			t.Errorf("%+v has the platform %+v, want %+v", test.config, got, test.want)
		}
	}
}

package image

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// goldenIndex is the digest of the index that TestJoin makes.
const goldenIndex = "sha256:a93e946fceb800347e134a32f24336bcbfe8e1552d0207a46d7d7febc863494d"

func platforms(t *testing.T, m Manifest) []string {
	t.Helper()
	all, err := Platforms(m)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.String())
	}
	return names
}

func part(t *testing.T, name string, l ociFiles, d v1.Descriptor) Part {
	t.Helper()
	return Part{Name: name, Manifest: l.of(d).open(t)}
}

func TestJoin(t *testing.T) {
	l, root := rich()
	riscv := part(t, "riscv", l, l.image("linux/riscv64"))
	override := part(t, "arm", l, l.image("linux/arm"))
	override.Platform, _ = v1.ParsePlatform("linux/arm/v7")
	parts := []Part{riscv, part(t, "many", l, root), override}
	for range 2 {
		index, err := Join(parts)
		if err != nil {
			t.Fatal(err)
		}
		if got := digestOf(t, index); got != goldenIndex {
			t.Errorf("got %s, want %s", got, goldenIndex)
		}
		want := []string{"linux/riscv64", "linux/amd64", "linux/arm64/v8", "windows/amd64:10.0.14393", "linux/arm/v7"}
		if diff := cmp.Diff(want, platforms(t, index)); diff != "" {
			t.Errorf("platforms (-want +got):\n%s", diff)
		}
	}
}

func TestJoinKeepsChildren(t *testing.T) {
	l, root := rich()
	index, err := Join([]Part{part(t, "many", l, root)})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 4 || manifest.MediaType != ociIndex {
		t.Fatalf("joined as %+v", manifest)
	}
	if got := manifest.Manifests[2]; got.Annotations["vnd.docker.reference.type"] != "attestation-manifest" || !got.Platform.Equals(unknown) {
		t.Errorf("the attestation became %+v", got)
	}
	for _, d := range manifest.Manifests {
		if d.MediaType.IsIndex() {
			t.Errorf("%s is a nested index", d.Digest)
		}
		sameTree(t, childOf(t, index, d), l)
	}
}

// TestJoinWithAttestations: what is about an image goes along with it, and
// doesn't count where the image gets another platform.
func TestJoinWithAttestations(t *testing.T) {
	l := newLayout()
	image := withPlatform(l.image("linux/arm"), "linux/arm")
	attestation := annotated(withPlatform(l.image("unknown/unknown"), "unknown/unknown"), "vnd.docker.reference.digest", image.Digest.String())
	built := part(t, "built", l, l.index(image, attestation))
	built.Platform, _ = v1.ParsePlatform("linux/arm/v6")
	index, err := Join([]Part{built})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image.Platform = built.Platform
	if diff := cmp.Diff([]v1.Descriptor{image, attestation}, manifest.Manifests); diff != "" {
		t.Errorf("children (-want +got):\n%s", diff)
	}
}

// TestJoinWithArtifact: what goes along with an image doesn't get its platform,
// by which engines choose.
func TestJoinWithArtifact(t *testing.T) {
	l := newLayout()
	image := withPlatform(l.image("linux/arm"), "linux/arm")
	chart := l.blob(ociManifest, toJSON(v1.Manifest{
		SchemaVersion: 2, MediaType: ociManifest, Config: l.blob("application/vnd.cncf.helm.config.v1+json", []byte("{}")), Layers: []v1.Descriptor{},
	}))
	both := part(t, "both", l, l.index(chart, image))
	both.Platform, _ = v1.ParsePlatform("linux/arm/v6")
	index, err := Join([]Part{both})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		if runs := d.Digest == image.Digest; runs != (d.Platform != nil) {
			t.Errorf("%s, an image: %v, has the platform %v", d.Digest, runs, d.Platform)
		}
	}
}

func TestJoinMediaType(t *testing.T) {
	docker := func(arch string) Part {
		image := newSaved(tarOf(entry{name: arch}))
		packed := pack(t, image.exportedBy(tarOf(image.dockerNew()...)), PackOptions{})
		return Part{Name: arch, Manifest: packed, Platform: &v1.Platform{OS: "linux", Architecture: arch}}
	}
	l := newLayout()
	for want, parts := range map[types.MediaType][]Part{
		types.DockerManifestList: {docker("amd64"), docker("arm64")},
		types.OCIImageIndex:      {docker("amd64"), part(t, "riscv", l, l.image("linux/riscv64"))},
	} {
		index, err := Join(parts)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := index.IndexManifest()
		if got, _ := index.MediaType(); err != nil || got != want || manifest.MediaType != want {
			t.Errorf("joined as %s, %s, %v, want %s", got, manifest.MediaType, err, want)
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	l := newLayout()
	amd := part(t, "first", l, l.image("linux/amd64"))
	again := part(t, "second", l, l.image("linux/amd64", l.blob(types.OCILayer, []byte("other"))))
	index := part(t, "index", l, l.index(l.image("linux/arm64"), l.image("linux/amd64")))
	index.Platform = &v1.Platform{OS: "linux", Architecture: "s390x"}
	arm, armV8 := part(t, "arm", l, l.image("linux/arm64")), part(t, "armV8", l, l.image("linux/arm64/v8"))
	silent := l.image("")
	disguised := part(t, "third", l, l.image("linux/arm64"))
	disguised.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	for name, try := range map[string]struct {
		parts []Part
		want  string
	}{
		"one platform twice":        {[]Part{amd, again}, "first and second are both for linux/amd64"},
		"the same by an override":   {[]Part{amd, disguised}, "first and third are both for linux/amd64"},
		"a platform for an index":   {[]Part{index}, "index: it is an index of several images|linux/s390x"},
		"the same by another name":  {[]Part{arm, armV8}, "arm and armV8 are both for linux/arm64"},
		"no platform":               {[]Part{part(t, "silent", l, silent)}, "silent: its config doesn't tell|` platform=os/arch`"},
		"no platform in an index":   {[]Part{part(t, "list", l, l.index(silent))}, "list: it lists|without a platform|` platform=os/arch`"},
		"an empty index":            {[]Part{part(t, "empty", l, l.index())}, "empty: it is an index that lists nothing"},
		"attestations alone":        {[]Part{part(t, "about", l, l.index(withPlatform(silent, "unknown/unknown")))}, "about: it is an index without an image to run"},
		"what is no image":          {[]Part{{Name: "nothing"}}, "nothing: "},
		"a child that is not there": {[]Part{part(t, "lost", l, l.index(v1.Descriptor{MediaType: ociManifest, Digest: sum(nil), Size: 1}))}, "lost: |is listed, but not there"},
		"an unknown child":          {[]Part{part(t, "odd", l, l.index(l.image("linux/s390x"), v1.Descriptor{MediaType: "text/plain", Digest: sum(nil)}))}, `odd: |"text/plain"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Join(try.parts)
			wantError(t, err, try.want)
		})
	}
}

func TestOpenRefusesIndexes(t *testing.T) {
	l := newLayout()
	large := l.image("linux/amd64")
	large.Size = maxIndex/2 + 1
	for want, root := range map[string]v1.Descriptor{
		"it lists more than 1000 images":                  endless(l),
		"the manifests that it lists have more than 1677": l.index(large, annotated(large, "n", "1")),
	} {
		_, err := openArchive(t, "oci-archive:", "", l.of(root).tar())
		wantError(t, err, want)
	}
}

// endless returns an index that lists a smaller one hundred times, and so on
// for ten levels, with no image at the end.
func endless(l ociFiles) v1.Descriptor {
	d := l.index()
	for range 10 {
		children := make([]v1.Descriptor, 100)
		for i := range children {
			children[i] = annotated(d, "n", strconv.Itoa(i))
		}
		d = l.index(children...)
	}
	return d
}

func TestPlatforms(t *testing.T) {
	l, root := rich()
	image := l.image("linux/arm64/v8")
	for name, try := range map[string]struct {
		root v1.Descriptor
		want []string
	}{
		"image":                   {image, []string{"linux/arm64/v8"}},
		"index":                   {root, []string{"linux/amd64", "linux/arm64/v8", "windows/amd64:10.0.14393"}},
		"index that knows better": {l.index(withPlatform(image, "linux/arm/v6")), []string{"linux/arm/v6"}},
	} {
		if diff := cmp.Diff(try.want, platforms(t, l.of(try.root).open(t))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// opened notes which images of an index are opened, for each of which a
// registry is asked.
type opened struct {
	index
	images []v1.Hash
}

type index = v1.ImageIndex // which can't be embedded by its name, that of a method

func (o *opened) Image(digest v1.Hash) (v1.Image, error) {
	o.images = append(o.images, digest)
	return o.index.Image(digest)
}

func TestPlatformsOpensNoMoreThanItNeeds(t *testing.T) {
	l := newLayout()
	silent, amd := l.image("linux/s390x"), withPlatform(l.image("linux/amd64"), "linux/amd64")
	arm, attestation := withPlatform(l.image("linux/arm64"), "linux/arm64"), withPlatform(l.image("unknown/unknown"), "unknown/unknown")
	for name, test := range map[string]struct {
		look func(Manifest) error
		want []v1.Hash
	}{
		"platforms": {func(m Manifest) error { _, err := Platforms(m); return err }, []v1.Hash{silent.Digest}},
		"one of them": {func(m Manifest) error {
			_, err := SelectPlatform(m, *arm.Platform)
			return err
		}, []v1.Hash{silent.Digest, arm.Digest}},
	} {
		listing, ok := l.of(l.index(amd, arm, attestation, silent)).open(t).(v1.ImageIndex)
		if !ok {
			t.Fatal("no index")
		}
		o := &opened{index: listing}
		if err := test.look(o); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, o.images); diff != "" {
			t.Errorf("%s: images that were opened (-want +got):\n%s", name, diff)
		}
	}
}

func TestSelectPlatform(t *testing.T) {
	l, root := rich()
	index, image := l.of(root).open(t), l.of(l.image("linux/arm64/v8")).open(t)
	for name, try := range map[string]struct {
		from       Manifest
		want, have string
	}{
		"silent about it":  {index, "linux/amd64", "linux/amd64"},
		"nested":           {index, "linux/arm64", "linux/arm64/v8"},
		"with variant":     {index, "linux/arm64/v8", "linux/arm64/v8"},
		"with version":     {index, "windows/amd64:10.0.14393", "windows/amd64:10.0.14393"},
		"needless variant": {l.of(l.index(withPlatform(l.image("linux/arm64"), "linux/arm64"))).open(t), "linux/arm64/v8", "linux/arm64"},
		"another name":     {index, "linux/x86_64", "linux/amd64"},
		"usual variant":    {l.of(l.index(l.image("linux/arm/v6"), l.image("linux/arm/v7"))).open(t), "linux/arm", "linux/arm/v7"},
		"only variant":     {l.of(l.index(l.image("linux/arm/v6"))).open(t), "linux/arm", "linux/arm/v6"},
		"one image":        {image, "linux/arm64", "linux/arm64/v8"},
	} {
		want, _ := v1.ParsePlatform(try.want)
		got, err := SelectPlatform(try.from, *want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff([]string{try.have}, platforms(t, got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	s390x := v1.Platform{OS: "linux", Architecture: "s390x"}
	_, err := SelectPlatform(index, s390x)
	wantError(t, err, "no image for linux/s390x; it has linux/amd64, linux/arm64/v8, windows/amd64:10.0.14393")
	_, err = SelectPlatform(image, s390x)
	wantError(t, err, "it runs on linux/arm64/v8, not on linux/s390x")
	_, err = SelectPlatform(index, unknown)
	wantError(t, err, "no image for unknown/unknown")
}

func TestMissing(t *testing.T) {
	l := newLayout()
	here, gone := withPlatform(l.image("linux/amd64"), "linux/amd64"), withPlatform(l.image("linux/arm64"), "linux/arm64")
	attestation := withPlatform(l.image("unknown/unknown"), "unknown/unknown")
	delete(l, blobName(gone.Digest))
	delete(l, blobName(attestation.Digest))
	index := l.of(l.index(here, gone, attestation)).open(t)
	if diff := cmp.Diff([]v1.Platform{{OS: "linux", Architecture: "arm64"}}, Missing(index)); diff != "" {
		t.Error(diff)
	}
	selected, err := SelectPlatform(index, *here.Platform)
	if err != nil {
		t.Fatal(err)
	}
	if missing := Missing(selected); missing != nil || digestOf(t, selected) != here.Digest.String() {
		t.Errorf("the part that is there lacks %v", missing)
	}
	_, err = index.(v1.ImageIndex).Image(sum(nil))
	wantError(t, err, "has no such manifest")
}

package image_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/source"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// goldenIndex is the digest of the index that TestJoin makes.
const goldenIndex = "sha256:a93e946fceb800347e134a32f24336bcbfe8e1552d0207a46d7d7febc863494d"

// platforms returns the platforms of an image or index as text.
func platforms(t *testing.T, m image.ImageOrIndex) []string {
	t.Helper()
	all, err := image.Platforms(m)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all {
		names = append(names, p.String())
	}
	return names
}

// digestOf returns the digest of an image or index as text.
func digestOf(t *testing.T, m image.ImageOrIndex) string {
	t.Helper()
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// openLayout returns what the layout holds.
func openLayout(t *testing.T, l imagetest.Layout) image.ImageOrIndex {
	t.Helper()
	ref, err := source.Parse("oci:" + l.Folder(t))
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.NewOpener(zap.NewNop(), source.RegistryAccess{}, workspace.Workspace{}).Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = src.Close() })
	m, err := src.(source.Backed).Manifest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// part returns a part to be joined: what the layout has under the descriptor.
func part(t *testing.T, name string, l imagetest.Layout, d v1.Descriptor) image.Part {
	t.Helper()
	return image.Part{Name: name, Image: openLayout(t, l.Of(d))}
}

func TestJoin(t *testing.T) {
	l, root := imagetest.Rich()
	riscv := part(t, "riscv", l, l.Image("linux/riscv64"))
	override := part(t, "arm", l, l.Image("linux/arm"))
	override.Platform, _ = v1.ParsePlatform("linux/arm/v7")
	parts := []image.Part{riscv, part(t, "many", l, root), override}
	for range 2 {
		index, err := image.Join(parts)
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
	l, root := imagetest.Rich()
	index, err := image.Join([]image.Part{part(t, "many", l, root)})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 4 || manifest.MediaType != types.OCIImageIndex {
		t.Fatalf("joined as %+v", manifest)
	}
	if got := manifest.Manifests[2]; got.Annotations["vnd.docker.reference.type"] != "attestation-manifest" ||
		!got.Platform.Equals(v1.Platform{OS: "unknown", Architecture: "unknown"}) {
		t.Errorf("the attestation became %+v", got)
	}
	for _, d := range manifest.Manifests {
		if d.MediaType.IsIndex() {
			t.Errorf("%s is a nested index", d.Digest)
		}
		imagetest.SameTree(t, imagetest.ChildOf(t, index, d), l)
	}
}

// TestJoinWithAttestations: what is about an image goes along with it, and doesn't count where the image gets another
// platform.
func TestJoinWithAttestations(t *testing.T) {
	l := imagetest.NewLayout()
	arm := imagetest.WithPlatform(l.Image("linux/arm"), "linux/arm")
	attestation := imagetest.Annotate(
		imagetest.WithPlatform(l.Image("unknown/unknown"), "unknown/unknown"),
		"vnd.docker.reference.digest",
		arm.Digest.String(),
	)
	built := part(t, "built", l, l.Index(arm, attestation))
	built.Platform, _ = v1.ParsePlatform("linux/arm/v6")
	index, err := image.Join([]image.Part{built})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	arm.Platform = built.Platform
	if diff := cmp.Diff([]v1.Descriptor{arm, attestation}, manifest.Manifests); diff != "" {
		t.Errorf("children (-want +got):\n%s", diff)
	}
}

// TestJoinWithArtifact: what goes along with an image doesn't get its platform, by which engines choose.
func TestJoinWithArtifact(t *testing.T) {
	l := imagetest.NewLayout()
	arm := imagetest.WithPlatform(l.Image("linux/arm"), "linux/arm")
	chart := l.Blob(types.OCIManifestSchema1, imagetest.JSON(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        l.Blob("application/vnd.cncf.helm.config.v1+json", []byte("{}")),
		Layers:        []v1.Descriptor{},
	}))
	both := part(t, "both", l, l.Index(chart, arm))
	both.Platform, _ = v1.ParsePlatform("linux/arm/v6")
	index, err := image.Join([]image.Part{both})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		if runnable := d.Digest == arm.Digest; runnable != (d.Platform != nil) {
			t.Errorf("%s, an image: %v, has the platform %v", d.Digest, runnable, d.Platform)
		}
	}
}

// TestJoinKeepsArtifactType: an image may have a type besides, by which some tools find it.
func TestJoinKeepsArtifactType(t *testing.T) {
	const typed = "application/vnd.example.app"
	l := imagetest.NewLayout()
	plain, layer := part(t, "plain", l, l.Image("linux/amd64")), l.Blob(types.OCILayer, []byte("a layer"))
	config := v1.ConfigFile{OS: "linux", Architecture: "arm64", RootFS: v1.RootFS{DiffIDs: []v1.Hash{layer.Digest}}}
	app := l.Blob(types.OCIManifestSchema1, imagetest.JSON(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  typed,
		Config:        l.Blob(types.OCIConfigJSON, imagetest.JSON(config)),
		Layers:        []v1.Descriptor{layer},
	}))
	index, err := image.Join([]image.Part{plain, part(t, "app", l, app)})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", typed} {
		if got := manifest.Manifests[i].ArtifactType; got != want {
			t.Errorf("the type of image %d became %q, want %q", i+1, got, want)
		}
	}
}

func TestJoinMediaType(t *testing.T) {
	docker := func(arch string) image.Part {
		saved := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: arch}))
		packed, err := pack.Image(t.Context(), &source.Unpacked{
			ID: saved.ID(), DiffIDs: saved.DiffIDs, Export: imagetest.Export(imagetest.Tar(saved.DockerNew()...)),
		}, pack.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = packed.Close() })
		return image.Part{Name: arch, Image: packed, Platform: &v1.Platform{OS: "linux", Architecture: arch}}
	}
	l := imagetest.NewLayout()
	for want, parts := range map[types.MediaType][]image.Part{
		types.DockerManifestList: {docker("amd64"), docker("arm64")},
		types.OCIImageIndex:      {docker("amd64"), part(t, "riscv", l, l.Image("linux/riscv64"))},
	} {
		index, err := image.Join(parts)
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
	l := imagetest.NewLayout()
	amd := part(t, "first", l, l.Image("linux/amd64"))
	again := part(t, "second", l, l.Image("linux/amd64", l.Blob(types.OCILayer, []byte("other"))))
	index := part(t, "index", l, l.Index(l.Image("linux/arm64"), l.Image("linux/amd64")))
	index.Platform = &v1.Platform{OS: "linux", Architecture: "s390x"}
	arm, armV8 := part(t, "arm", l, l.Image("linux/arm64")), part(t, "armV8", l, l.Image("linux/arm64/v8"))
	silent := l.Image("")
	disguised := part(t, "third", l, l.Image("linux/arm64"))
	disguised.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	nowhere := v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: imagetest.Sum(nil), Size: 1}
	text := nowhere
	text.MediaType = "text/plain"
	damaged := l.Blob(types.OCIManifestSchema1, []byte(`{"schemaVersion":2}`))
	for name, try := range map[string]struct {
		parts []image.Part
		want  string
	}{
		"one image twice":         {[]image.Part{amd, amd}, "images 1 and 2 are the same, sha256:"},
		"one platform twice":      {[]image.Part{amd, again}, "first and second are both for linux/amd64"},
		"the same by an override": {[]image.Part{amd, disguised}, "first and third are both for linux/amd64"},
		"a platform for an index": {[]image.Part{index}, "index: an index of several images|linux/s390x"},
		"the same by another name": {
			[]image.Part{arm, armV8}, "arm and armV8 are both for linux/arm64",
		},
		"no platform": {
			[]image.Part{part(t, "silent", l, silent)}, "silent: the image's config doesn't say|` platform=os/arch`",
		},
		"no platform in an index": {
			[]image.Part{part(t, "list", l, l.Index(silent))},
			"list: the index lists|without a platform|` platform=os/arch`",
		},
		"an empty index": {[]image.Part{part(t, "empty", l, l.Index())}, "empty: the index lists nothing"},
		"attestations alone": {
			[]image.Part{part(t, "about", l, l.Index(imagetest.WithPlatform(silent, "unknown/unknown")))},
			"about: an index without an image to run",
		},
		"what is no image":          {[]image.Part{{Name: "nothing"}}, "nothing: "},
		"a damaged image":           {[]image.Part{part(t, "damaged", l, damaged)}, "damaged: "},
		"a child that is not there": {[]image.Part{part(t, "lost", l, l.Index(nowhere))}, "lost: |is listed, but not there"},
		"an unknown child": {
			[]image.Part{part(t, "odd", l, l.Index(l.Image("linux/s390x"), text))}, `odd: |"text/plain"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := image.Join(try.parts)
			imagetest.WantError(t, err, try.want)
		})
	}
}

func TestPlatforms(t *testing.T) {
	l, root := imagetest.Rich()
	arm := l.Image("linux/arm64/v8")
	for name, try := range map[string]struct {
		root v1.Descriptor
		want []string
	}{
		"image":                   {arm, []string{"linux/arm64/v8"}},
		"index":                   {root, []string{"linux/amd64", "linux/arm64/v8", "windows/amd64:10.0.14393"}},
		"index that knows better": {l.Index(imagetest.WithPlatform(arm, "linux/arm/v6")), []string{"linux/arm/v6"}},
	} {
		if diff := cmp.Diff(try.want, platforms(t, openLayout(t, l.Of(try.root)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// opened notes which images of an index are opened, for each of which a registry is asked.
type opened struct {
	index
	mu     sync.Mutex
	images []v1.Hash
}

type index = v1.ImageIndex // which can't be embedded by its name, that of a method

// Image notes the digest and returns the image of the index.
func (o *opened) Image(digest v1.Hash) (v1.Image, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.images = append(o.images, digest)
	return o.index.Image(digest)
}

func TestOpensNoMoreThanNeeded(t *testing.T) {
	l := imagetest.NewLayout()
	silent, amd := l.Image("linux/s390x"), imagetest.WithPlatform(l.Image("linux/amd64"), "linux/amd64")
	arm := imagetest.WithPlatform(l.Image("linux/arm64"), "linux/arm64")
	attestation := imagetest.WithPlatform(l.Image("unknown/unknown"), "unknown/unknown")
	for name, test := range map[string]struct {
		look func(image.ImageOrIndex) error
		want []v1.Hash
	}{
		"platforms": {
			func(m image.ImageOrIndex) error { _, err := image.Platforms(m); return err },
			[]v1.Hash{silent.Digest},
		},
		"one of them": {func(m image.ImageOrIndex) error {
			_, err := image.SelectPlatform(m, *arm.Platform)
			return err
		}, []v1.Hash{silent.Digest, arm.Digest}},
		"digests": {
			func(m image.ImageOrIndex) error { _, err := image.Digests(m); return err },
			[]v1.Hash{silent.Digest, amd.Digest, arm.Digest},
		},
	} {
		listing, ok := openLayout(t, l.Of(l.Index(amd, arm, attestation, silent))).(v1.ImageIndex)
		if !ok {
			t.Fatal("no index")
		}
		o := &opened{index: listing}
		if err := test.look(o); err != nil {
			t.Fatal(err)
		}
		anyOrder := cmpopts.SortSlices(func(a, b v1.Hash) bool { return a.Hex < b.Hex })
		if diff := cmp.Diff(test.want, o.images, anyOrder); diff != "" {
			t.Errorf("%s: images that were opened (-want +got):\n%s", name, diff)
		}
	}
}

func TestSelectPlatform(t *testing.T) {
	l, root := imagetest.Rich()
	index, one := openLayout(t, l.Of(root)), openLayout(t, l.Of(l.Image("linux/arm64/v8")))
	of := func(images ...v1.Descriptor) image.ImageOrIndex { return openLayout(t, l.Of(l.Index(images...))) }
	for name, try := range map[string]struct {
		from       image.ImageOrIndex
		want, have string
	}{
		"silent about it":  {index, "linux/amd64", "linux/amd64"},
		"nested":           {index, "linux/arm64", "linux/arm64/v8"},
		"with variant":     {index, "linux/arm64/v8", "linux/arm64/v8"},
		"with version":     {index, "windows/amd64:10.0.14393", "windows/amd64:10.0.14393"},
		"needless variant": {of(l.Image("linux/arm64")), "linux/arm64/v8", "linux/arm64"},
		"another name":     {index, "linux/x86_64", "linux/amd64"},
		"usual variant":    {of(l.Image("linux/arm/v6"), l.Image("linux/arm/v7")), "linux/arm", "linux/arm/v7"},
		"only variant":     {of(l.Image("linux/arm/v6")), "linux/arm", "linux/arm/v6"},
		"one image":        {one, "linux/arm64", "linux/arm64/v8"},
	} {
		want, _ := v1.ParsePlatform(try.want)
		got, err := image.SelectPlatform(try.from, *want)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff([]string{try.have}, platforms(t, got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	s390x := v1.Platform{OS: "linux", Architecture: "s390x"}
	_, err := image.SelectPlatform(index, s390x)
	imagetest.WantError(
		t,
		err,
		"the index has no image for linux/s390x; choose from linux/amd64, linux/arm64/v8, windows/amd64:10.0.14393",
	)
	_, err = image.SelectPlatform(one, s390x)
	imagetest.WantError(t, err, "the image runs on linux/arm64/v8, not on linux/s390x")
	_, err = image.SelectPlatform(index, v1.Platform{OS: "unknown", Architecture: "unknown"})
	imagetest.WantError(t, err, "no image for unknown/unknown")
}

func TestMissing(t *testing.T) {
	l := imagetest.NewLayout()
	here, gone := imagetest.WithPlatform(
		l.Image("linux/amd64"),
		"linux/amd64",
	), imagetest.WithPlatform(
		l.Image("linux/arm64"),
		"linux/arm64",
	)
	attestation := imagetest.WithPlatform(l.Image("unknown/unknown"), "unknown/unknown")
	bare, nested := l.Image("linux/s390x"), imagetest.WithPlatform(l.Index(here), "linux/riscv64")
	bare.Platform = nil
	for _, absent := range []v1.Descriptor{gone, attestation, bare, nested} {
		delete(l, imagetest.BlobName(absent.Digest))
	}
	arm64 := []v1.Platform{{OS: "linux", Architecture: "arm64"}}
	if diff := cmp.Diff(
		arm64,
		image.Missing(openLayout(t, l.Of(l.Index(attestation, bare, nested, here, gone)))),
	); diff != "" {
		t.Error(diff)
	}
	index := openLayout(t, l.Of(l.Index(here, gone, attestation)))
	if diff := cmp.Diff(arm64, image.Missing(index)); diff != "" {
		t.Error(diff)
	}
	selected, err := image.SelectPlatform(index, *here.Platform)
	if err != nil {
		t.Fatal(err)
	}
	if missing := image.Missing(selected); missing != nil || digestOf(t, selected) != here.Digest.String() {
		t.Errorf("the part that is there lacks %v", missing)
	}
	_, err = index.(v1.ImageIndex).Image(imagetest.Sum(nil))
	imagetest.WantError(t, err, "has no such manifest")
}

func TestDigests(t *testing.T) {
	l := imagetest.NewLayout()
	amd, arm := imagetest.WithPlatform(
		l.Image("linux/amd64"),
		"linux/amd64",
	), imagetest.WithPlatform(
		l.Image("linux/arm64"),
		"linux/arm64",
	)
	attestation := imagetest.WithPlatform(l.Image("unknown/unknown"), "unknown/unknown")
	root := l.Index(amd, attestation, l.Index(arm, amd))
	config := func(d v1.Descriptor) string {
		manifest, err := v1.ParseManifest(bytes.NewReader(l[imagetest.BlobName(d.Digest)]))
		if err != nil {
			t.Fatal(err)
		}
		return manifest.Config.Digest.String()
	}
	for name, test := range map[string]struct {
		root v1.Descriptor
		want []string
	}{
		"image": {arm, []string{arm.Digest.String(), config(arm)}},
		"index": {root, []string{
			root.Digest.String(), amd.Digest.String(), config(amd), arm.Digest.String(), config(arm),
		}},
	} {
		digests, err := image.Digests(openLayout(t, l.Of(test.root)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, digest := range digests {
			got = append(got, digest.String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

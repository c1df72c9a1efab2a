package publish

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

var (
	amd64 = v1.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = v1.Platform{OS: "linux", Architecture: "arm64"}
)

// newImage returns an image without layers for the platform.
func newImage(tb testing.TB, p v1.Platform) v1.Image {
	tb.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

// both is an index for two platforms, with its images by architecture.
func both(tb testing.TB) (v1.ImageIndex, map[string]v1.Image) {
	tb.Helper()
	index, images := v1.ImageIndex(empty.Index), map[string]v1.Image{}
	for _, platform := range []v1.Platform{amd64, arm64} {
		img := newImage(tb, platform)
		images[platform.Architecture] = img
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	return index, images
}

// runnable returns the descriptors of an index's images that can run, without attestations.
func runnable(tb testing.TB, index v1.ImageIndex) []v1.Descriptor {
	tb.Helper()
	raw, err := index.RawManifest()
	if err != nil {
		tb.Fatal(err)
	}
	return image.RunnableImages(raw)
}

// fakeSource is an image with a manifest, in a file or an engine.
type fakeSource struct {
	digest v1.Hash
	image  image.ImageOrIndex
	images []v1.Descriptor // what an engine says of an index before it is exported
	after  []v1.Descriptor // what the export shows
	local  bool
	err    error // of the export
}

// Identity returns the digest and, for an index whose images are known, these.
func (s *fakeSource) Identity() image.Identity {
	return image.Identity{Manifest: s.digest, Images: s.images}
}

// Local returns what the test has set.
func (s *fakeSource) Local() bool  { return s.local }
func (s *fakeSource) Close() error { return nil }

// Manifest exports the image: it returns the image, and Identity knows its images from then on.
func (s *fakeSource) Manifest(context.Context) (image.ImageOrIndex, error) {
	if s.images == nil {
		s.images = s.after
	}
	return s.image, s.err
}

// backed is what a file or an OCI layout holds.
func backed(tb testing.TB, m image.ImageOrIndex) *fakeSource {
	tb.Helper()
	return &fakeSource{digest: digestOf(tb, m), image: m, local: true}
}

// stored is what an engine with the containerd image store has. With nil images it doesn't say what is in an index.
func stored(tb testing.TB, m image.ImageOrIndex, images []v1.Descriptor) *fakeSource {
	tb.Helper()
	s := &fakeSource{digest: digestOf(tb, m), image: m, images: images}
	if index, ok := m.(v1.ImageIndex); ok {
		s.after = runnable(tb, index)
	}
	return s
}

// unpacked is what an engine with a graph driver has.
func unpacked() *source.Unpacked {
	saved := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "a", Content: []byte("a\n")}))
	return &source.Unpacked{
		ID: saved.ID(), Digest: saved.ID(), DiffIDs: saved.DiffIDs, Platform: v1.Platform{OS: "linux", Architecture: "arm64",
			Variant: "v8"}, Size: 10,
		Export: imagetest.Export(imagetest.Tar(saved.DockerOld()...)),
	}
}

// wantCalls fails the test unless the repository got these calls in this order. What follows Push may come in any
// order.
func (h *house) wantCalls(tb testing.TB, want ...string) {
	tb.Helper()
	got := slices.Clone(h.repository.calls)
	if layers := slices.Index(got, "Layers"); layers > 0 && got[layers-1] == "Lacks" { // which are asked at once
		got[layers-1], got[layers] = got[layers], got[layers-1]
	}
	if pushed := slices.Index(got, "Push"); pushed >= 0 {
		slices.Sort(got[pushed+1:]) // what is done concurrently then
		slices.Sort(want[slices.Index(want, "Push")+1:])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Errorf("calls of the repository (-want +got):\n%s", diff)
	}
}

// wantLog fails the test for each text that the log lacks.
func (h *house) wantLog(tb testing.TB, lines ...string) {
	tb.Helper()
	for _, line := range lines {
		if !strings.Contains(h.out.String(), line) {
			tb.Errorf("the log lacks %q:\n%s", line, h.out)
		}
	}
}

func TestImageIsSent(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	img := newImage(t, arm64)
	h.repository.compared = true
	r := h.publish(t, nil, h.add(t, "./image.tar", backed(t, img)))
	digest := digestOf(t, img).String()
	if !r.Created || !r.Uploaded || *r.Revision != 0 || r.SourceDigest != digest || r.RemoteDigest != digest ||
		r.RemoteImage != "registry.example/my-charm/my-image@"+digest || len(r.Blobs) != 1 || r.Resource != "my-image" {
		t.Errorf("got %+v", r)
	}
	h.wantCalls(t, "Open", "Find", "Plan", "Push", "Record true", "MoveLatest")
	want := []charmhub.NewRevision{{UploadID: "id", Type: charm.TypeImage, Architectures: []string{"arm64"}}}
	if diff := cmp.Diff(want, h.store.created); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if got := h.store.uploaded[1]; got != "my-image.json: description of "+digest {
		t.Errorf("uploaded %q", got)
	}
	h.wantLog(t, "Image uploaded, new remote digest: "+digest, "Revision 0 created of resource 'my-image' for "+
		"charm 'my-charm'")
}

func TestNothingIsRecordedWhereUnwanted(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.NoRecord, h.repository.compared = true, true
	h.publish(t, nil, h.add(t, "./image.tar", backed(t, newImage(t, arm64))))
	h.wantCalls(t, "Open", "Find", "Plan", "Push")
}

// Hints that are refused do no harm.
func TestRefusedHints(t *testing.T) {
	t.Parallel()
	h := newHouse(env{"RUNNER_DEBUG": "1"})
	h.repository.compared = true
	h.repository.fail["Record"] = errors.New("immutable")
	h.publish(t, nil, h.add(t, "./image.tar", backed(t, newImage(t, arm64))))
	h.wantLog(t, "could not write the locations record or move the tag latest")
}

func TestImageDryRun(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.DryRun = true
	r := h.publish(t, nil, h.add(t, "./image.tar", backed(t, newImage(t, arm64))))
	if r.Revision != nil || r.Uploaded || !r.DryRun || len(r.Blobs) != 1 {
		t.Errorf("got %+v", r)
	}
	h.wantCalls(t, "Open", "Find", "Plan")
	h.wantLog(t, "Dry run: would push "+r.RemoteDigest, "Dry run: would create a revision of resource 'my-image'")
}

// What is there already leads to its revision, however it is found.
func TestImageIsThere(t *testing.T) {
	t.Parallel()
	index, images := both(t)
	id := unpacked().ID
	tests := map[string]struct {
		text     string
		src      source.Source // nil where it isn't opened
		there    image.ImageOrIndex
		located  v1.Hash // by which it is found; zero for its own digest
		platform *v1.Platform
		want     image.ImageOrIndex
		calls    []string
		log      string
	}{
		"a digest that the repository alone has": {digestOf(t, index).String(), nil, index, v1.Hash{}, nil, index,
			[]string{"Find config"}, ""},
		"an ID that the repository alone has": {id.String(), nil, images["arm64"], id, nil, images["arm64"],
			[]string{"Find config"}, ""},
		"another registry's": {"x/y@" + digestOf(t, index).String(), nil, index, v1.Hash{}, nil, index,
			[]string{"Find"}, ""},
		"one of another registry's index": {"x/y@" + digestOf(t, index).String(), nil, index, v1.Hash{}, &arm64,
			images["arm64"], []string{"Find"}, ""},
		"a file's": {"./image.tar", backed(t, index), index, v1.Hash{}, nil, index,
			[]string{"Find"}, ""},
		"stored": {"docker-daemon:" + someDigest, stored(t, index, runnable(t, index)), index,
			v1.Hash{}, nil, index, []string{"Find images"}, ""},
		"stored, of a kind unknown": {"docker-daemon:" + someDigest, stored(t, index, nil), index, v1.Hash{},
			nil, index, []string{"Find"}, ""},
		"stored, one of an index": {
			"docker-daemon:" + someDigest, stored(t, index, runnable(t, index)), images["arm64"], v1.Hash{}, &arm64,
			images["arm64"],
			[]string{"Find", "Find"}, "",
		},
		"built again": {
			"docker-daemon:" + someDigest, stored(t, index, runnable(t, index)), images["arm64"], digestOf(t, images["amd64"]),
			nil, images["arm64"],
			[]string{"Find images"}, "only attestations differ",
		},
		"built again, of a kind unknown": {
			"docker-daemon:" + someDigest, stored(t, index, nil), images["arm64"], digestOf(t, images["amd64"]), nil,
			images["arm64"],
			[]string{"Find", "Find images"}, "only attestations differ",
		},
		"unpacked": {id.String(), unpacked(), images["arm64"], id, nil, images["arm64"], []string{"Find config"}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			part := h.add(t, test.text, test.src)
			if test.src == nil {
				delete(h.sources.images, test.text)
			}
			if test.there != nil && test.located == (v1.Hash{}) {
				h.repository.images[digestOf(t, test.there)] = test.there
			} else if test.there != nil {
				h.repository.located[test.located] = test.there
			}
			h.repository.present = test.there == nil
			remote := digestOf(t, test.want)
			text := imageContent("", []byte("description of "+remote.String()), nil)
			h.store.revisions = []charmhub.Revision{{Revision: 7, SHA256: text.sha256}, {Revision: 3, SHA256: "other"}}
			r := h.publish(t, test.platform, part)
			if r.Revision == nil || *r.Revision != 7 || r.Created || r.Uploaded || r.RemoteDigest != remote.String() {
				t.Errorf("got %+v, want revision 7 with %s", r, remote)
			}
			h.wantCalls(t, append([]string{"Open"}, test.calls...)...)
			h.wantLog(t, "Using the OCI image from Canonical's registry", "Revision 7 of resource 'my-image' for charm "+
				"'my-charm' is unchanged", test.log)
			if h.store.count("Upload") > 0 {
				t.Error("something was uploaded")
			}
		})
	}
}

func TestImageIsPacked(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	src := unpacked()
	h.repository.compared = true
	r := h.publish(t, nil, h.add(t, src.ID.String(), src))
	if !r.Created || r.SourceDigest != src.ID.String() || r.RemoteDigest == r.SourceDigest {
		t.Errorf("got %+v", r)
	}
	h.wantCalls(t, "Open", "Find config", "Layers", "Lacks", "Plan", "Push", "Record true", "MoveLatest")
	h.wantLog(t, "Packed "+src.ID.String()+": 1 layer compressed, 0 known to the registry")
}

// streamedSource gives its blobs in one stream, as an engine or a compressed archive does.
type streamedSource struct {
	*fakeSource
	blobs    map[string]string // by what their digest is made of
	streamed int
	broken   error
}

// Stream hands every blob to take, in any order, and ends with the test's error.
func (s *streamedSource) Stream(_ context.Context, take func(v1.Descriptor, io.Reader)) error {
	s.streamed++
	for name, content := range s.blobs {
		take(v1.Descriptor{Digest: imagetest.Sum([]byte(name)), Size: int64(len(content))}, strings.NewReader(content))
	}
	return s.broken
}

// TestStreamed: an image that is exported or decompressed in one stream is sent meanwhile, unless the repository has
// it, a platform of it has to be selected first, or nothing may be sent. An export is also read if its manifest isn't
// known otherwise.
func TestStreamed(t *testing.T) {
	t.Parallel()
	img := newImage(t, arm64)
	large := strings.Repeat("large", smallBlob)
	for name, test := range map[string]struct {
		local, present, dry bool
		platform            *v1.Platform
		refused             error
		streamed            int
		early               int64
	}{
		"absent":                 {streamed: 1, early: 3},
		"early refused":          {refused: errors.New("refused"), streamed: 1, early: 3},
		"there":                  {present: true},
		"a platform":             {platform: &arm64},
		"a dry run":              {dry: true, streamed: 1},
		"an archive, absent":     {local: true, streamed: 1, early: 3},
		"an archive, there":      {local: true, present: true},
		"an archive, a platform": {local: true, platform: &arm64},
		"an archive, a dry run":  {local: true, dry: true},
	} {
		h := newHouse(nil)
		h.DryRun, h.repository.fail["SendBlob"] = test.dry, test.refused
		if test.present {
			h.repository.images[digestOf(t, img)] = img
		}
		from := stored(t, img, nil)
		if test.local {
			from = backed(t, img)
		}
		src := &streamedSource{fakeSource: from, blobs: map[string]string{"a": "small", "b": large, "c": large}}
		h.publish(t, test.platform, h.add(t, "docker-daemon:"+someDigest, src))
		if got := h.repository.early.Load(); src.streamed != test.streamed || got != test.early {
			t.Errorf("%s: streamed %d times, %d blobs sent early; want %d, %d", name, src.streamed, got, test.streamed,
				test.early)
		}
	}
	crashed := newHouse(nil)
	crashed.Repository = func(context.Context, charmhub.RegistryCredentials, *zap.Logger) (Repository, error) {
		return Repository{crashed.repository, crashing{crashed.repository}}, nil
	}
	crashed.fails(t, []Part{crashed.add(t, "docker-daemon:"+someDigest,
		&streamedSource{fakeSource: stored(t, img, nil), blobs: map[string]string{"b": large}})}, "the action crashed: a bug")
	h := newHouse(nil)
	src := &streamedSource{fakeSource: stored(t, img, nil), broken: errors.New("the engine died")}
	h.fails(t, []Part{h.add(t, "docker-daemon:"+someDigest, src)}, "docker-daemon:"+someDigest+": the engine died")
}

// crashing is a repository that can't send anything early.
type crashing struct{ *repository }

// SendBlob panics.
func (crashing) SendBlob(context.Context, partial.CompressedLayer) error { panic("a bug") }

// TestImageThatTheEngineLacks: of an image that only the engine may have, nothing is said about its digits.
func TestImageThatTheEngineLacks(t *testing.T) {
	t.Parallel()
	ref, err := source.Parse("docker-daemon:" + someDigest)
	if err != nil {
		t.Fatal(err)
	}
	newHouse(nil).fails(t, []Part{{Reference: ref}},
		"image docker-daemon:"+someDigest+" is unknown: the container engine has none by that name or ID; build")
}

// TestRevisionOfAnImageExisted: a revision that the store made earlier of the same content gets the image's
// architectures, also if the list of revisions lags behind.
func TestRevisionOfAnImageExisted(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.store.answer = &charmhub.Revision{Revision: 7, Architectures: []string{"all"}}
	h.store.existed, h.store.late = true, 3
	r := h.publish(t, nil, h.add(t, "./image.tar", backed(t, newImage(t, arm64))))
	if h.store.count("SetArchitectures 7 [arm64]") != 1 || !r.ArchitecturesChanged || r.Created {
		t.Errorf("got %+v after %q", r, h.store.calls)
	}
}

// TestArchitecturesInAnyOrder: the order of the recorded architectures means nothing.
func TestArchitecturesInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{charm.TypeImage, charm.TypeFile} {
		c := content{kind: kind, architectures: []string{"amd64", "arm64"}}
		if got := c.architecturesToRecord([]string{"arm64", "amd64"}); got != nil {
			t.Errorf("%s: %q would be recorded", kind, got)
		}
	}
}

// The text of an image whose digest is known at the start is asked for together with everything else. If the repository
// lacks the image, that text is thrown away, and it is no failure if the store had none.
func TestTextIsAskedForEarly(t *testing.T) {
	t.Parallel()
	img := newImage(t, arm64)
	digest := digestOf(t, img)
	for name, test := range map[string]struct {
		text     string
		src      source.Source
		present  bool
		platform *v1.Platform
		refused  bool
		texts    int
	}{
		"a file, there":             {"./a", backed(t, img), true, nil, false, 1},
		"a file, absent":            {"./a", backed(t, img), false, nil, false, 2},
		"a file, absent, refused":   {"./a", backed(t, img), false, nil, true, 2},
		"a file, there, refused":    {"./a", backed(t, img), true, nil, true, 2},
		"stored, there":             {"docker-daemon:" + someDigest, stored(t, img, nil), true, nil, false, 1},
		"another registry's, there": {"x/y@" + digest.String(), nil, true, nil, false, 1},
		"of a platform":             {"./a", backed(t, img), true, &arm64, false, 1},
		"unpacked":                  {someDigest, unpacked(), false, nil, false, 1},
	} {
		h := newHouse(nil)
		if test.present {
			h.repository.images[digest] = img
		}
		if test.refused {
			h.store.fail["ImageBlob"] = []error{errors.New("unknown image")}
		}
		part := h.add(t, test.text, test.src)
		if r := h.publish(t, test.platform, part); r.Uploaded == test.present {
			t.Errorf("%s: got %+v", name, r)
		}
		if n := h.store.count("ImageBlob"); n != test.texts {
			t.Errorf("%s: %d texts, want %d", name, n, test.texts)
		}
	}
}

// countedSource counts the calls of Close.
type countedSource struct {
	*fakeSource
	closed atomic.Int64
}

func (s *countedSource) Close() error {
	s.closed.Add(1)
	return nil
}

// An image in another registry is opened while the repository is being asked, if the store has no text for it: the
// repository most likely lacks it. Otherwise nothing is asked of the other registry before it is needed.
func TestRemoteSourceIsOpenedEarly(t *testing.T) {
	t.Parallel()
	img := newImage(t, arm64)
	digest := digestOf(t, img)
	for name, test := range map[string]struct {
		refused, present bool
		opened, closed   int64
	}{
		"absent":                  {refused: true, opened: 1, closed: 1},
		"there, but without text": {refused: true, present: true, opened: 1, closed: 1},
		"there":                   {present: true},
		"absent, with a text":     {opened: 1, closed: 1},
	} {
		h := newHouse(nil)
		src := &countedSource{fakeSource: backed(t, img)}
		part := h.add(t, "x/y@"+digest.String(), src)
		if test.present {
			h.repository.images[digest] = img
		}
		opened := make(chan struct{})
		var opens atomic.Int64
		h.sources.on = func() { opens.Add(1); close(opened) }
		if test.refused {
			h.store.fail["ImageBlob"] = []error{errors.New("unknown image")}
			h.repository.on = func(call string) {
				if call != "Find" {
					return
				}
				select {
				case <-opened:
				case <-time.After(10 * time.Second):
					t.Errorf("%s: not opened while the repository is asked", name)
				}
			}
		}
		h.publish(t, nil, part)
		if got := opens.Load(); got != test.opened || src.closed.Load() != test.closed {
			t.Errorf("%s: opened %d times, closed %d times; want %d, %d", name, got, src.closed.Load(), test.opened, test.closed)
		}
	}
}

// Layers are sent while others are packed only if no manifest of the image can be there, and not in a dry run. What
// fails then is left to Push.
func TestLayersAreSentEarly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lacks, dry bool
		lookup     error
		early      int64
	}{
		"the config is absent": {lacks: true, early: 1},
		"the config is there":  {},
		"it isn't known":       {lacks: true, lookup: errors.New("down")},
		"a dry run":            {lacks: true, dry: true},
	} {
		h := newHouse(nil)
		h.DryRun = test.dry
		h.repository.lacks, h.repository.fail["Lacks"] = test.lacks, test.lookup
		h.repository.fail["SendBlob"] = errors.New("refused")
		src := unpacked()
		if r := h.publish(t, nil, h.add(t, src.ID.String(), src)); r.Uploaded == test.dry {
			t.Errorf("%s: got %+v", name, r)
		}
		if got := h.repository.early.Load(); got != test.early {
			t.Errorf("%s: %d layers were sent early, want %d", name, got, test.early)
		}
	}
}

func TestStoredIsExported(t *testing.T) {
	t.Parallel()
	index, images := both(t)
	for name, test := range map[string]struct {
		src      source.Source
		platform *v1.Platform
		want     image.ImageOrIndex
		calls    []string
	}{
		"index": {stored(t, index, runnable(t, index)), nil, index, []string{"Find images", "Plan", "Push",
			"Record false " + digestOf(t, images["amd64"]).String(), "MoveLatest"}},
		"index, of a kind unknown": {stored(t, index, nil), nil, index, []string{"Find", "Find images", "Plan", "Push",
			"Record false " + digestOf(t, images["amd64"]).String(), "MoveLatest"}},
		"one of an index": {stored(t, index, runnable(t, index)), &arm64, images["arm64"],
			[]string{"Find", "Find", "Plan", "Push", "MoveLatest"}},
		"a platform of no image": {stored(t, images["arm64"], nil), &arm64, images["arm64"],
			[]string{"Find", "Plan", "Push", "MoveLatest"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			r := h.publish(t, test.platform, h.add(t, "docker-daemon:"+someDigest, test.src))
			if r.RemoteDigest != digestOf(t, test.want).String() {
				t.Errorf("got %+v", r)
			}
			h.wantCalls(t, append([]string{"Open"}, test.calls...)...)
		})
	}
}

func TestImagesAreJoined(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.repository.compared = true
	one, other := newImage(t, amd64), unpacked()
	r := h.publish(t, nil, h.add(t, "./a.tar", backed(t, one)), h.add(t, "./b.tar", other))
	if len(r.Platforms) != 2 || r.SourceDigest != r.RemoteDigest {
		t.Errorf("got %+v", r)
	}
	h.wantCalls(t, "Open", "Find", "Find config", "Layers", "Lacks", "Plan", "Push", "Record true", "Record true",
		"MoveLatest")
	if diff := cmp.Diff([]string{"amd64", "arm64"}, h.store.created[0].Architectures); diff != "" {
		t.Errorf("architectures (-want +got):\n%s", diff)
	}
}

// An index of the containerd image store goes into the joined one, and isn't in the repository itself: no record leads
// to it.
func TestIndexesAreJoined(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	index, _ := both(t)
	other := newImage(t, v1.Platform{OS: "linux", Architecture: "s390x"})
	r := h.publish(t, nil, h.add(t, "docker-daemon:"+digestOf(t, index).String(), stored(t, index, runnable(t, index))),
		h.add(t, "./b.tar", backed(t, other)))
	if len(r.Platforms) != 3 {
		t.Errorf("got %+v", r)
	}
	h.wantCalls(t, "Open", "Find images", "Find", "Plan", "Push", "MoveLatest")
}

// An image whose line has a platform becomes an index of one.
func TestOneImageWithAPlatform(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	part := h.add(t, "./a.tar", backed(t, newImage(t, v1.Platform{})))
	part.Platform = &arm64
	if r := h.publish(t, nil, part); len(r.Platforms) != 1 || r.Platforms[0].Architecture != "arm64" {
		t.Errorf("got %+v", r)
	}
}

func TestImageFails(t *testing.T) {
	t.Parallel()
	index, images := both(t)
	gone := errors.New("gone")
	unreachable := errors.Join(gone)
	tests := map[string]struct {
		parts []string
		src   source.Source
		set   func(*house)
		want  []string
	}{
		"not declared": {[]string{"./a"}, backed(t, index),
			func(h *house) { h.store.resources = h.store.resources[1:] },
			[]string{"has no resource 'my-image' on Charmhub: the charm has my-file", "declares it first"}},
		"nothing is declared": {[]string{"./a"}, backed(t, index), func(h *house) { h.store.resources = nil },
			[]string{"the charm has none"}},
		"declared as a file": {[]string{"./a"}, backed(t, index),
			func(h *house) { h.store.resources[0].Type = charm.TypeFile },
			[]string{"is of type file, not oci-image; use the input filepath"}},
		"resources": {[]string{"./a"}, backed(t, index),
			func(h *house) { h.store.fail["Resources"] = []error{gone} }, []string{"gone"}},
		"no credentials": {[]string{"./a"}, backed(t, index),
			func(h *house) { h.store.fail["UploadCredentials"] = []error{gone} }, []string{"gone"}},
		"no repository": {[]string{"./a"}, backed(t, index), func(h *house) { h.repository.fail["Open"] = gone },
			[]string{"gone"}},
		"no file": {[]string{"./a"}, nil, func(h *house) { h.sources.fail["./a"] = gone }, []string{"gone"}},
		"unknown digest": {[]string{someDigest}, nil, nil, []string{someDigest, "neither the charm's repository " +
			"registry.example/my-charm/my-image nor the container engine has it", "build, load or pull it"}},
		"unknown short digest": {[]string{someDigest[7:20]}, nil, nil,
			[]string{"the container engine has none by that ID or digest", "give the whole digest"}},
		"no engine": {[]string{someDigest}, nil, func(h *house) { h.sources.fail[someDigest] = unreachable },
			[]string{"is not in the charm's repository", "gone"}},
		"no engine, short digest": {[]string{someDigest[7:20]}, nil,
			func(h *house) { h.sources.fail[someDigest[7:20]] = unreachable }, []string{"gone"}},
		"Find": {[]string{someDigest}, nil, func(h *house) { h.repository.fail["Find config"] = gone },
			[]string{"gone"}},
		"a search that fails": {[]string{someDigest}, nil, func(h *house) { h.repository.fail["unread"] = gone },
			[]string{"image " + someDigest + " may be in the charm's repository", "gone; run this again later"}},
		"Find of an ID": {[]string{unpacked().ID.String()}, unpacked(),
			func(h *house) { h.repository.fail["Find config"] = gone }, []string{"gone"}},
		"Find of a stored one": {[]string{"docker-daemon:" + someDigest}, stored(t, index, nil),
			func(h *house) { h.repository.fail["Find"] = gone }, []string{"gone"}},
		"another registry": {[]string{"x/y@" + someDigest}, nil,
			func(h *house) { h.sources.fail["x/y@"+someDigest] = gone }, []string{"gone"}},
		"a lookup of a stored one": {
			[]string{"docker-daemon:" + someDigest}, stored(t, index, nil),
			func(h *house) { h.repository.fail["Find images"] = gone }, []string{"gone"},
		},
		"an export": {[]string{"docker-daemon:" + someDigest}, &fakeSource{err: gone}, nil,
			[]string{"docker-daemon:" + someDigest + ": gone"}},
		"an index that can't be read": {[]string{"docker-daemon:" + someDigest}, &fakeSource{err: &image.MissingError{}}, nil,
			[]string{"pull or write it again as a whole"}},
		"an engine's stream": {[]string{unpacked().ID.String()}, &source.Unpacked{
			DiffIDs: unpacked().DiffIDs, Export: func(context.Context) (io.ReadCloser, error) { return nil, gone },
		}, nil, []string{"gone"}},
		"Plan": {[]string{"./a"}, backed(t, index), func(h *house) { h.repository.fail["Plan"] = gone },
			[]string{"./a: gone"}},
		"Push": {[]string{"./a"}, backed(t, index), func(h *house) { h.repository.fail["Push"] = gone },
			[]string{"./a: gone"}},
		"one of two": {[]string{"./a", "./b"}, nil, func(h *house) { h.repository.fail["Push"] = gone; two(t, h, images) },
			[]string{"one of ./a, ./b: gone"}},
		"both for one": {[]string{"./a", "./b"}, backed(t, images["arm64"]), nil, []string{"cannot join the images",
			"images 1 and 2 are the same"}},
		"no image": {[]string{"./a"}, backed(t, mutate.ConfigMediaType(images["arm64"], "application/x")), nil,
			[]string{"no image to run"}},
		"no platform": {[]string{"./a"}, backed(t, empty.Index), nil, []string{"./a: the index lists nothing"}},
		"ImageBlob": {[]string{"./a"}, backed(t, index),
			func(h *house) { h.store.fail["ImageBlob"] = []error{gone, gone} }, []string{"gone"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			var parts []Part
			for _, text := range test.parts {
				part := h.add(t, text, test.src)
				if test.src == nil {
					delete(h.sources.images, text)
				}
				parts = append(parts, part)
			}
			if test.set != nil {
				test.set(h)
			}
			h.fails(t, parts, test.want...)
			if h.store.count("CreateRevision") > 0 {
				t.Error("a revision was asked for")
			}
		})
	}
}

// two makes images for amd64 and arm64 available as ./a and ./b.
func two(t *testing.T, h *house, images map[string]v1.Image) {
	t.Helper()
	h.add(t, "./a", backed(t, images["amd64"]))
	h.add(t, "./b", backed(t, images["arm64"]))
}

// anIndex has another name than the method of v1.ImageIndex.
type anIndex = v1.ImageIndex

// partly is an index that lacks one of its images.
type partly struct{ anIndex }

// Image returns MissingError for the first image of the index.
func (p partly) Image(digest v1.Hash) (v1.Image, error) {
	manifest, err := p.IndexManifest()
	if err == nil && manifest.Manifests[0].Digest == digest {
		return nil, &image.MissingError{Descriptor: manifest.Manifests[0]}
	}
	return p.anIndex.Image(digest)
}

// TestIncomplete: all platforms that an index lacks are named.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	index, _ := both(t)
	h := newHouse(nil)
	h.repository.fail["Plan"] = &image.MissingError{}
	h.fails(t, []Part{h.add(t, "./a", backed(t, partly{index}))}, "./a: the image lists linux/amd64, but doesn't hold it")
}

// A platform that isn't there is an error wherever the image is.
func TestNoSuchPlatform(t *testing.T) {
	t.Parallel()
	index, images := both(t)
	for name, test := range map[string]struct {
		src   source.Source
		there image.ImageOrIndex
		want  string
	}{
		"in the repository": {nil, index, "in the charm's repository: the index has no image for linux/s390x"},
		"where it is from":  {backed(t, images["arm64"]), nil, "the image runs on linux/arm64, not on linux/s390x"},
		"stored":            {stored(t, index, runnable(t, index)), nil, "the index has no image for linux/s390x"},
		"unpacked":          {unpacked(), nil, "runs on linux/arm64/v8, not on linux/s390x"},
	} {
		h := newHouse(nil)
		part := h.add(t, digestOf(t, index).String(), test.src)
		if test.there != nil {
			delete(h.sources.images, part.Text)
			h.repository.images[digestOf(t, index)] = test.there
		}
		_, err := h.PublishImage(t.Context(), Target{"my-charm", "my-image"}, []Part{part},
			&v1.Platform{OS: "linux", Architecture: "s390x"})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want %q", name, err, test.want)
		}
	}
}

// The tag beside a digest is checked.
func TestTagIsChecked(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	text := "x/y:1@" + someDigest
	h.publish(t, nil, h.add(t, text, backed(t, newImage(t, arm64))))
	if diff := cmp.Diff([]string{text}, h.sources.tagged); diff != "" {
		t.Errorf("checked (-want +got):\n%s", diff)
	}
}

// TestWanted: from an engine's list, the same image is chosen as from the index itself.
func TestWanted(t *testing.T) {
	t.Parallel()
	var images []v1.Descriptor
	for _, text := range []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"} {
		platform, err := v1.ParsePlatform(text)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, v1.Descriptor{Platform: platform})
	}
	for text, want := range map[string]string{
		"linux/arm": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6", "linux/arm64/v8": "linux/arm64", "linux/s390x": "",
	} {
		platform, err := image.ParsePlatform(text)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if d, ok := imageForPlatform(images, &platform); ok {
			got = d.Platform.String()
		}
		if got != want {
			t.Errorf("for %s it is %q, want %q", text, got, want)
		}
	}
}

func TestArchitecturesOfAnImage(t *testing.T) {
	t.Parallel()
	for want, platforms := range map[string][]v1.Platform{
		"all":         {{OS: "windows", Architecture: "amd64"}, {OS: "linux", Architecture: "wasm"}, {}},
		"amd64 arm64": {arm64, amd64, {OS: "linux", Architecture: "aarch64"}, {OS: "windows", Architecture: "s390x"}},
	} {
		if got := strings.Join(architectures(platforms), " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

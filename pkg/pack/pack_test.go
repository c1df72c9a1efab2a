package pack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/source"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// savedByDocker is what engine 20.10 saved of a small image named example:1.
const savedByDocker = "testdata/docker-20.10.tar"

// These are the digests of the packed example and of the image in savedByDocker. A change of them means that the next
// release sends every image of every user once more.
const (
	goldenSaved = "sha256:6075beb61de420475bbf0386183b470ac3c65433ae20b20681adfd83f06d4d74"
	golden      = "sha256:9cead418a5d208c81cafbfce68658a77e0d78c5693004ed84ea89461208c4840"
	goldenZstd  = "sha256:19808b1503d2163ce78a5694bdca7b09bbb38ab7e8f9b7689e53a46f6be23627"
)

// packed packs an image. It fails the test on an error, and closes the packed image when the test ends.
func packed(t *testing.T, u *source.Unpacked, opts pack.Options) *pack.Packed {
	t.Helper()
	img, err := pack.Image(t.Context(), u, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	})
	return img
}

// uncompressed is an image as an engine describes it, whose export is the archive.
func uncompressed(s imagetest.Saved, archive []byte) *source.Unpacked {
	return &source.Unpacked{ID: s.ID(), DiffIDs: s.DiffIDs, Export: imagetest.Export(archive)}
}

// open opens the image that an input's text names.
func open(t *testing.T, text string) (source.Source, error) {
	t.Helper()
	ref, err := source.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.NewOpener(zap.NewNop(), source.RegistryAccess{}, workspace.Workspace{}).Open(t.Context(), ref)
	if err == nil {
		t.Cleanup(func() { _ = src.Close() })
	}
	return src, err
}

// digestOf returns the digest of an image or index.
func digestOf(t *testing.T, m image.ImageOrIndex) string {
	t.Helper()
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestPackIsDeterministic(t *testing.T) {
	example := imagetest.Example()
	archive := imagetest.Tar(example.DockerOld()...)
	for compression, want := range map[pack.Compression]string{"": golden, pack.Gzip: golden, pack.Zstd: goldenZstd} {
		for _, procs := range []int{1, 2, 7} {
			before := runtime.GOMAXPROCS(procs)
			img := packed(t, uncompressed(example, archive), pack.Options{Compression: compression})
			runtime.GOMAXPROCS(before)
			if got := digestOf(t, img); got != want {
				t.Errorf("%s with %d processors: %s, want %s", compression, procs, got, want)
			}
		}
	}
}

func TestPackUnknownCompression(t *testing.T) {
	_, err := pack.Image(t.Context(), uncompressed(imagetest.Example(), nil), pack.Options{Compression: "lzma"})
	imagetest.WantError(t, err, `"lzma" is no compression|gzip or zstd`)
}

func TestPackSavedByDocker(t *testing.T) {
	src, err := open(t, "docker-archive:"+savedByDocker+":example:1")
	if err != nil {
		t.Fatal(err)
	}
	const want = "sha256:53019c7e8b1a52ddc7307388ad0b2b45ba6a037ec8bbf9b7814b5c897ccc9ed9"
	if src.Identity().Config.String() != want {
		t.Errorf("its ID is %s, want %s", src.Identity().Config, want)
	}
	if got := digestOf(t, packed(t, src.(*source.Unpacked), pack.Options{})); got != goldenSaved {
		t.Errorf("got %s, want %s", got, goldenSaved)
	}
}

// Whatever comes in whatever pieces, the blocks that are compressed are the same.
func TestPackIgnoresHowBytesArrive(t *testing.T) {
	example := imagetest.Example()
	u := uncompressed(example, nil)
	u.Export = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(&trickle{bytes.NewReader(imagetest.Tar(example.DockerNew()...)), 1}), nil
	}
	if got := digestOf(t, packed(t, u, pack.Options{})); got != golden {
		t.Errorf("got %s, want %s", got, golden)
	}
}

// trickle gives fewer bytes than it is asked for, in changing numbers.
type trickle struct {
	*bytes.Reader
	n int
}

func (s *trickle) Read(p []byte) (int, error) {
	s.n = s.n*31%4093 + 1
	return s.Reader.Read(p[:min(len(p), s.n)])
}

func TestPackEveryDialect(t *testing.T) {
	example := imagetest.Example()
	plain := func(content []byte) []byte { return content }
	for name, archive := range map[string][]byte{
		"docker up to 24":       imagetest.Tar(example.DockerOld()...),
		"docker up to 24, gzip": imagetest.Gzip(imagetest.Tar(example.DockerOld()...)),
		"docker from 25":        imagetest.Tar(example.DockerNew()...),
		"docker from 25, zstd":  imagetest.Zstd(imagetest.Tar(example.DockerNew()...)),
		"podman":                imagetest.Tar(example.Podman()...),
		"crane":                 imagetest.Tar(example.Crane(imagetest.Gzip)...),
		"crane, not compressed": imagetest.Tar(example.Crane(plain)...),
		"crane, zstd":           imagetest.Tar(example.Crane(imagetest.Zstd)...),
	} {
		t.Run(name, func(t *testing.T) {
			src, err := open(t, imagetest.TempFile(t, "image.tar", archive))
			if err != nil {
				t.Fatal(err)
			}
			u, ok := src.(*source.Unpacked)
			if !ok || u.ID != example.ID() || u.Digest != u.ID {
				t.Fatalf("opened as %+v, want the unpacked image %s", src, example.ID())
			}
			if got := digestOf(t, packed(t, u, pack.Options{})); got != golden {
				t.Errorf("got %s, want %s", got, golden)
			}
		})
	}
}

func TestPackEngineExports(t *testing.T) {
	example := imagetest.Example()
	for name, entries := range map[string][]imagetest.Entry{
		"docker up to 24": example.DockerOld(), "docker from 25": example.DockerNew(), "podman": example.Podman(),
	} {
		img := packed(t, uncompressed(example, imagetest.Tar(entries...)), pack.Options{})
		if got := digestOf(t, img); got != golden {
			t.Errorf("%s: got %s, want %s", name, got, golden)
		}
	}
}

// A layer of no image in question is read, for only its bytes tell what it is, and dropped.
// TestPackLayerNamedLikeBzip2: a layer isn't compressed because the name of its first file begins as bzip2 does.
func TestPackLayerNamedLikeBzip2(t *testing.T) {
	s := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "BZh9 notes", Content: []byte("content")}))
	for _, entries := range [][]imagetest.Entry{s.DockerOld(), s.DockerNew(), s.Podman()} {
		img := packed(t, uncompressed(s, imagetest.Tar(entries...)), pack.Options{})
		if err := validate.Image(img.Image); err != nil {
			t.Error(err)
		}
	}
}

func TestPackDropsStrays(t *testing.T) {
	example := imagetest.Example()
	entries := append([]imagetest.Entry{{Name: "stray.tar", Content: []byte("stray")}}, example.Podman()...)
	img := packed(t, uncompressed(example, imagetest.Tar(entries...)), pack.Options{})
	if got := digestOf(t, img); got != golden || img.Compressed != 2 {
		t.Errorf("got %s of %d layers, want %s of 2", got, img.Compressed, golden)
	}
}

func TestPackIsValid(t *testing.T) {
	example := imagetest.Example()
	empty := imagetest.NewSaved(nil)
	for _, compression := range []pack.Compression{pack.Gzip, pack.Zstd} {
		img := packed(t, uncompressed(example, imagetest.Tar(example.DockerOld()...)), pack.Options{Compression: compression})
		if err := valid(img, compression); err != nil {
			t.Errorf("%s: %v", compression, err)
		}
		config, err := img.RawConfigFile()
		if err != nil || !bytes.Equal(config, example.Config) {
			t.Errorf("%s: the config became %s, %v", compression, config, err)
		}
		if img.Compressed != 2 || img.Reused != 0 {
			t.Errorf("%s: %d layers compressed, %d reused, want 2 and 0", compression, img.Compressed, img.Reused)
		}
		img = packed(t, uncompressed(empty, imagetest.Tar(empty.DockerOld()...)), pack.Options{Compression: compression})
		if err := valid(img, compression); err != nil {
			t.Errorf("%s, a layer without a byte: %v", compression, err)
		}
	}
}

// valid fails for an image that isn't what its manifest and config say. What go-containerregistry validates of layers
// is gzip alone.
func valid(img v1.Image, compression pack.Compression) error {
	if compression == pack.Gzip {
		return validate.Image(img)
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	for i, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			return err
		}
		got, _, err := v1.SHA256(content)
		if err != nil || got != config.RootFS.DiffIDs[i] {
			return fmt.Errorf("layer %d has the diff ID %s, %w", i, got, err)
		}
	}
	return validate.Image(img, validate.Fast)
}

func TestPackZstdMediaTypes(t *testing.T) {
	example := imagetest.Example()
	gzipped := v1.Descriptor{MediaType: types.DockerLayer, Digest: imagetest.Sum([]byte("elsewhere")), Size: 9}
	img := packed(t, uncompressed(example, imagetest.Tar(example.DockerOld()...)), pack.Options{
		Compression: pack.Zstd, Known: knowing(map[v1.Hash]v1.Descriptor{example.DiffIDs[1]: gzipped}),
	})
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	mediaTypes := []types.MediaType{manifest.MediaType, manifest.Config.MediaType}
	for _, layer := range manifest.Layers {
		mediaTypes = append(mediaTypes, layer.MediaType)
	}
	want := []types.MediaType{
		types.OCIManifestSchema1,
		types.OCIConfigJSON,
		types.OCILayerZStd,
		types.OCILayer,
		types.OCILayer,
	}
	if !slices.Equal(mediaTypes, want) {
		t.Errorf("media types %v, want %v", mediaTypes, want)
	}
}

// knowing returns a function that returns the known layers.
func knowing(known map[v1.Hash]v1.Descriptor) func() map[v1.Hash]v1.Descriptor {
	return func() map[v1.Hash]v1.Descriptor { return known }
}

// TestPackGivesLayersAsTheyAreDone: each compressed layer can be read before the next one is, and what the repository
// knows is reused for once, after the export has begun.
func TestPackGivesLayersAsTheyAreDone(t *testing.T) {
	example := imagetest.Example()
	archive := imagetest.Tar(example.DockerOld()...)
	exported, reused := false, 0
	u := uncompressed(example, archive)
	export := u.Export
	u.Export = func(ctx context.Context) (io.ReadCloser, error) { exported = true; return export(ctx) }
	var given []string
	img := packed(t, u, pack.Options{
		Known: func() map[v1.Hash]v1.Descriptor {
			if reused++; !exported {
				t.Error("asked before the export has begun")
			}
			return nil
		},
		Packed: func(layer v1.Layer) {
			content, err := layer.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			given = append(given, imagetest.Sum(raw).String())
		},
	})
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil || !slices.Contains(given, digest.String()) {
			t.Errorf("%s wasn't given: %v", digest, err)
		}
	}
	if reused != 1 || len(given) != img.Compressed {
		t.Errorf("asked %d times, given %d layers of %d", reused, len(given), img.Compressed)
	}
}

func TestPackReusesKnownLayers(t *testing.T) {
	example := imagetest.Example()
	whole := packed(t, uncompressed(example, imagetest.Tar(example.DockerOld()...)), pack.Options{})
	manifest, err := whole.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	big, small := manifest.Layers[0], manifest.Layers[1]
	zstd := big
	zstd.MediaType = types.OCILayerZStd
	plain := big
	plain.MediaType = types.OCIUncompressedLayer
	oci := big
	oci.MediaType = types.OCILayer
	for name, try := range map[string]struct {
		known              map[v1.Hash]v1.Descriptor
		compressed, reused int
	}{
		"the big one":       {map[v1.Hash]v1.Descriptor{example.DiffIDs[0]: big}, 1, 1},
		"the repeated one":  {map[v1.Hash]v1.Descriptor{example.DiffIDs[1]: small}, 1, 1},
		"as an OCI layer":   {map[v1.Hash]v1.Descriptor{example.DiffIDs[0]: oci}, 1, 1},
		"all":               {map[v1.Hash]v1.Descriptor{example.DiffIDs[0]: big, example.DiffIDs[1]: small}, 0, 2},
		"zstd, not reused":  {map[v1.Hash]v1.Descriptor{example.DiffIDs[0]: zstd}, 2, 0},
		"plain, not reused": {map[v1.Hash]v1.Descriptor{example.DiffIDs[0]: plain}, 2, 0},
		"of another image":  {map[v1.Hash]v1.Descriptor{imagetest.Sum(nil): big}, 2, 0},
	} {
		for dialect, archive := range map[string][]byte{"old": imagetest.Tar(example.DockerOld()...),
			"new": imagetest.Tar(example.DockerNew()...)} {
			img := packed(t, uncompressed(example, archive), pack.Options{Known: knowing(try.known)})
			if got := digestOf(t, img); got != golden {
				t.Errorf("%s, %s: got %s, want %s", name, dialect, got, golden)
			}
			if img.Compressed != try.compressed || img.Reused != try.reused {
				t.Errorf("%s, %s: %d compressed, %d reused, want %d and %d", name, dialect,
					img.Compressed, img.Reused, try.compressed, try.reused)
			}
		}
	}
}

// A known blob is used as it is, though it was compressed by someone else.
func TestPackTakesKnownDescriptor(t *testing.T) {
	example := imagetest.Example()
	known := v1.Descriptor{MediaType: types.OCILayer, Digest: imagetest.Sum([]byte("elsewhere")), Size: 9}
	img := packed(t, uncompressed(example, imagetest.Tar(example.DockerOld()...)),
		pack.Options{Known: knowing(map[v1.Hash]v1.Descriptor{example.DiffIDs[1]: known})})
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest.Layers[1:] {
		if layer.Digest != known.Digest || layer.Size != 9 || layer.MediaType != types.DockerLayer {
			t.Errorf("the known layer became %+v", layer)
		}
	}
	layer, err := img.LayerByDigest(known.Digest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = layer.Compressed()
	imagetest.WantError(t, err, "was in the repository a moment ago")
}

// When the registry has all layers, none is spooled, and the export is read no further than the config.
func TestPackWritesNothingForKnownLayers(t *testing.T) {
	example := imagetest.Example()
	known := map[v1.Hash]v1.Descriptor{}
	for _, diffID := range example.DiffIDs {
		known[diffID] = v1.Descriptor{MediaType: types.DockerLayer, Digest: diffID, Size: 1}
	}
	entries := example.DockerOld()
	slices.Reverse(entries) // the config first
	needed := bytes.TrimRight(imagetest.Tar(entries[:2]...), "\x00")
	u := uncompressed(example, slices.Concat(needed, bytes.Repeat([]byte{0xff}, 4096))) // and then no tar any more
	t.Setenv("TMPDIR", "/nowhere/to/write")
	img := packed(t, u, pack.Options{Known: knowing(known), Progress: func(int64) { t.Error("a layer is read") }})
	if img.Compressed != 0 || img.Reused != 2 {
		t.Errorf("%d compressed, %d reused, want 0 and 2", img.Compressed, img.Reused)
	}
}

func TestPackLeavesNoFile(t *testing.T) {
	example := imagetest.Example()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var read int64
	empty := func() {
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Errorf("in the folder are %v, %v", files, err)
		}
	}
	img := packed(t, uncompressed(example, imagetest.Tar(example.DockerOld()...)), pack.Options{Progress: func(n int64) {
		read += n
		empty()
	}})
	empty()
	if want := int64(len(example.Layers[0]) + len(example.Layers[1])); read != want {
		t.Errorf("progress reported %d bytes, want %d", read, want)
	}
	if err := validate.Image(img); err != nil { // the blobs are there all the same
		t.Error(err)
	}
}

func TestPackDamaged(t *testing.T) {
	example := imagetest.Example()
	edit := func(entries []imagetest.Entry, change func(*imagetest.Entry)) []byte {
		for i := range entries {
			change(&entries[i])
		}
		return imagetest.Tar(entries...)
	}
	flip := func(e *imagetest.Entry) {
		e.Content = bytes.Clone(e.Content)
		e.Content[len(e.Content)/2] ^= 1
	}
	old := imagetest.Tar(example.DockerOld()...)
	for name, try := range map[string]struct {
		archive []byte
		want    string
	}{
		"layer": {edit(example.DockerNew(), func(e *imagetest.Entry) {
			if len(e.Content) > 1<<20 {
				flip(e)
			}
		}), "layer " + example.DiffIDs[0].String() + " has the digest|the image is damaged"},
		"layer proven by its v1 JSON": {edit(example.DockerOld(), func(e *imagetest.Entry) {
			if len(e.Content) > 1<<20 {
				flip(e)
			}
		}), "layer " + example.DiffIDs[0].String() + " has the digest|the image is damaged"},
		"config": {edit(example.DockerOld(), func(e *imagetest.Entry) {
			if e.Name == example.ID().Hex+".json" {
				flip(e)
			}
		}), "the config of image " + example.ID().String() + " has the digest|damaged"},
		"no layer": {imagetest.Tar(slices.DeleteFunc(example.DockerNew(), func(e imagetest.Entry) bool {
			return e.Name == imagetest.BlobName(example.DiffIDs[1])
		})...), "layer " + example.DiffIDs[1].String() + " is missing"},
		"no config": {imagetest.Tar(slices.DeleteFunc(example.DockerOld(), func(e imagetest.Entry) bool {
			return e.Name == example.ID().Hex+".json"
		})...), "has no config"},
		"cut in a layer":  {old[:1<<20], "a layer is cut short|unexpected EOF"},
		"cut in a header": {imagetest.Tar(example.DockerNew()...)[:200], "damaged, cut short"},
		"empty":           {nil, "has no config"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pack.Image(t.Context(), uncompressed(example, try.archive), pack.Options{})
			imagetest.WantError(t, err, "cannot pack image "+example.ID().String()+"|"+try.want)
		})
	}
}

func TestPackLayerMissing(t *testing.T) {
	example := imagetest.Example()
	src, err := open(
		t,
		imagetest.TempFile(t, "image.tar", imagetest.Tar(slices.DeleteFunc(example.Podman(), func(e imagetest.Entry) bool {
			return e.Name == example.DiffIDs[1].Hex+".tar"
		})...)),
	)
	if err != nil {
		t.Fatal(err)
	}
	_, err = pack.Image(t.Context(), src.(*source.Unpacked), pack.Options{})
	imagetest.WantError(t, err, "layer "+example.DiffIDs[1].String()+" is missing")
}

func TestPackConfigOfOtherLayers(t *testing.T) {
	example := imagetest.Example()
	u := uncompressed(example, imagetest.Tar(example.DockerOld()...))
	u.DiffIDs = u.DiffIDs[:1]
	_, err := pack.Image(t.Context(), u, pack.Options{})
	imagetest.WantError(t, err, "lists other layers than the engine does")
}

func TestPackNoRoom(t *testing.T) {
	example := imagetest.Example()
	t.Setenv("TMPDIR", imagetest.TempFile(t, "file", nil))
	_, err := pack.Image(t.Context(), uncompressed(example, imagetest.Tar(example.DockerOld()...)), pack.Options{})
	imagetest.WantError(t, err, "set TMPDIR")
}

func TestPackCancelled(t *testing.T) {
	example := imagetest.Example()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by a signal")
	_, err := pack.Image(
		ctx,
		&source.Unpacked{ID: example.ID(), DiffIDs: example.DiffIDs, Export: func(context.Context) (io.ReadCloser, error) {
			cancel(stop)
			return nil, io.ErrUnexpectedEOF
		}},
		pack.Options{},
	)
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want the cause of the cancellation", err)
	}
}

// A layer passes through; it is never held whole.
func TestPackMemory(t *testing.T) {
	const size = 192 << 20
	out, in := io.Pipe()
	go func() {
		w := tar.NewWriter(in)
		_ = w.WriteHeader(&tar.Header{Name: "x.tar", Size: size, Typeflag: tar.TypeReg})
		_, _ = io.CopyN(w, zeros{}, size)
		_ = in.CloseWithError(io.ErrUnexpectedEOF)
	}()
	u := &source.Unpacked{
		ID:      imagetest.Sum(nil),
		DiffIDs: []v1.Hash{imagetest.Sum(nil)},
		Export:  func(context.Context) (io.ReadCloser, error) { return out, nil },
	}
	before, peak := heap(), uint64(0)
	var read, sampled int64
	_, err := pack.Image(t.Context(), u, pack.Options{Progress: func(n int64) {
		if read += n; read-sampled > 32<<20 {
			sampled, peak = read, max(peak, heap())
		}
	}})
	imagetest.WantError(t, err, "unexpected EOF")
	if read != size || peak > before+size/4 {
		t.Errorf("%d bytes read, heap grown from %d to %d bytes", read, before, peak)
	}
}

// heap returns how many bytes of the heap are in use after a garbage collection.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// zeros is an endless stream of zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

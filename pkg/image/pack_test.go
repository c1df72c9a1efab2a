package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// savedByDocker is what engine 20.10 saved of a small image named example:1.
const savedByDocker = "testdata/docker-20.10.tar"

// These are the digests of the packed example and of the image in
// savedByDocker. A change of them means that the next release sends every
// image of every user once more.
const (
	goldenSaved = "sha256:6075beb61de420475bbf0386183b470ac3c65433ae20b20681adfd83f06d4d74"
	golden      = "sha256:9cead418a5d208c81cafbfce68658a77e0d78c5693004ed84ea89461208c4840"
)

func pack(t *testing.T, u *Unpacked, opts PackOptions) *Packed {
	t.Helper()
	packed, err := Pack(t.Context(), u, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := packed.Close(); err != nil {
			t.Error(err)
		}
	})
	return packed
}

func digestOf(t *testing.T, m Manifest) string {
	t.Helper()
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestPackIsDeterministic(t *testing.T) {
	image := example()
	archive := tarOf(image.dockerOld()...)
	for _, procs := range []int{1, 2, 7} {
		before := runtime.GOMAXPROCS(procs)
		packed := pack(t, image.exportedBy(archive), PackOptions{Dir: t.TempDir()})
		runtime.GOMAXPROCS(before)
		if got := digestOf(t, packed); got != golden {
			t.Errorf("with %d processors: %s, want %s", procs, got, golden)
		}
	}
}

func TestPackSavedByDocker(t *testing.T) {
	src, err := openText(t, "docker-archive:"+savedByDocker+":example:1")
	if err != nil {
		t.Fatal(err)
	}
	if want := "sha256:53019c7e8b1a52ddc7307388ad0b2b45ba6a037ec8bbf9b7814b5c897ccc9ed9"; src.Digest.String() != want {
		t.Errorf("its ID is %s, want %s", src.Digest, want)
	}
	if got := digestOf(t, pack(t, src.Unpacked, PackOptions{})); got != goldenSaved {
		t.Errorf("got %s, want %s", got, goldenSaved)
	}
}

// Whatever comes in whatever pieces, the blocks that are compressed are the
// same.
func TestPackIgnoresHowBytesArrive(t *testing.T) {
	image := example()
	u := image.exportedBy(nil)
	u.open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(&trickle{bytes.NewReader(tarOf(image.dockerNew()...)), 1}), nil
	}
	if got := digestOf(t, pack(t, u, PackOptions{})); got != golden {
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
	image := example()
	plain := func(content []byte) []byte { return content }
	for name, archive := range map[string][]byte{
		"docker up to 24":       tarOf(image.dockerOld()...),
		"docker up to 24, gzip": gzipped(tarOf(image.dockerOld()...)),
		"docker from 25":        tarOf(image.dockerNew()...),
		"docker from 25, zstd":  zstandard(tarOf(image.dockerNew()...)),
		"podman":                tarOf(image.podman()...),
		"crane":                 tarOf(image.crane(gzipped)...),
		"crane, not compressed": tarOf(image.crane(plain)...),
		"crane, zstd":           tarOf(image.crane(zstandard)...),
	} {
		t.Run(name, func(t *testing.T) {
			src, err := openArchive(t, "", "", archive)
			if err != nil {
				t.Fatal(err)
			}
			if src.Unpacked == nil || src.Addressed != nil || src.Digest != image.id() {
				t.Fatalf("opened as %+v, want the unpacked image %s", src, image.id())
			}
			if got := digestOf(t, pack(t, src.Unpacked, PackOptions{})); got != golden {
				t.Errorf("got %s, want %s", got, golden)
			}
		})
	}
}

func TestPackEngineExports(t *testing.T) {
	image := example()
	for name, entries := range map[string][]entry{
		"docker up to 24": image.dockerOld(), "docker from 25": image.dockerNew(), "podman": image.podman(),
	} {
		packed := pack(t, image.exportedBy(tarOf(entries...)), PackOptions{})
		if got := digestOf(t, packed); got != golden {
			t.Errorf("%s: got %s, want %s", name, got, golden)
		}
	}
}

// A layer of no image in question is read, for only its bytes tell what it
// is, and dropped.
func TestPackDropsStrays(t *testing.T) {
	image := example()
	entries := append([]entry{{name: "stray.tar", content: []byte("stray")}}, image.podman()...)
	packed := pack(t, image.exportedBy(tarOf(entries...)), PackOptions{})
	if got := digestOf(t, packed); got != golden || packed.Compressed != 2 {
		t.Errorf("got %s of %d layers, want %s of 2", got, packed.Compressed, golden)
	}
}

func TestPackIsValid(t *testing.T) {
	image := example()
	packed := pack(t, image.exportedBy(tarOf(image.dockerOld()...)), PackOptions{})
	if err := validate.Image(packed); err != nil {
		t.Error(err)
	}
	config, err := packed.RawConfigFile()
	if err != nil || !bytes.Equal(config, image.config) {
		t.Errorf("the config became %s, %v", config, err)
	}
	if packed.Compressed != 2 || packed.Reused != 0 {
		t.Errorf("%d layers compressed, %d reused, want 2 and 0", packed.Compressed, packed.Reused)
	}
}

func TestPackReusesKnownLayers(t *testing.T) {
	image := example()
	whole := pack(t, image.exportedBy(tarOf(image.dockerOld()...)), PackOptions{})
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
		"the big one":       {map[v1.Hash]v1.Descriptor{image.diffIDs[0]: big}, 1, 1},
		"the repeated one":  {map[v1.Hash]v1.Descriptor{image.diffIDs[1]: small}, 1, 1},
		"as an OCI layer":   {map[v1.Hash]v1.Descriptor{image.diffIDs[0]: oci}, 1, 1},
		"all":               {map[v1.Hash]v1.Descriptor{image.diffIDs[0]: big, image.diffIDs[1]: small}, 0, 2},
		"zstd, not reused":  {map[v1.Hash]v1.Descriptor{image.diffIDs[0]: zstd}, 2, 0},
		"plain, not reused": {map[v1.Hash]v1.Descriptor{image.diffIDs[0]: plain}, 2, 0},
		"of another image":  {map[v1.Hash]v1.Descriptor{sum(nil): big}, 2, 0},
	} {
		for dialect, archive := range map[string][]byte{"old": tarOf(image.dockerOld()...), "new": tarOf(image.dockerNew()...)} {
			packed := pack(t, image.exportedBy(archive), PackOptions{Known: try.known})
			if got := digestOf(t, packed); got != golden {
				t.Errorf("%s, %s: got %s, want %s", name, dialect, got, golden)
			}
			if packed.Compressed != try.compressed || packed.Reused != try.reused {
				t.Errorf("%s, %s: %d compressed, %d reused, want %d and %d", name, dialect,
					packed.Compressed, packed.Reused, try.compressed, try.reused)
			}
		}
	}
}

// A known blob is used as it is, though it was compressed by someone else.
func TestPackTakesKnownDescriptor(t *testing.T) {
	image := example()
	known := v1.Descriptor{MediaType: types.OCILayer, Digest: sum([]byte("elsewhere")), Size: 9}
	packed := pack(t, image.exportedBy(tarOf(image.dockerOld()...)),
		PackOptions{Known: map[v1.Hash]v1.Descriptor{image.diffIDs[1]: known}})
	manifest, err := packed.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest.Layers[1:] {
		if layer.Digest != known.Digest || layer.Size != 9 || layer.MediaType != types.DockerLayer {
			t.Errorf("the known layer became %+v", layer)
		}
	}
	layer, err := packed.LayerByDigest(known.Digest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = layer.Compressed()
	wantError(t, err, "was in the repository a moment ago")
}

// When the registry has all layers, none is spooled, and the export is read
// no further than the config.
func TestPackWritesNothingForKnownLayers(t *testing.T) {
	image := example()
	known := map[v1.Hash]v1.Descriptor{}
	for _, diffID := range image.diffIDs {
		known[diffID] = v1.Descriptor{MediaType: types.DockerLayer, Digest: diffID, Size: 1}
	}
	entries := image.dockerOld()
	slices.Reverse(entries) // the config first
	needed := bytes.TrimRight(tarOf(entries[:2]...), "\x00")
	u := image.exportedBy(slices.Concat(needed, bytes.Repeat([]byte{0xff}, 4096))) // and then no tar any more
	packed := pack(t, u, PackOptions{Known: known, Dir: "/nowhere/to/write", Progress: func(int64) { t.Error("a layer is read") }})
	if packed.Compressed != 0 || packed.Reused != 2 {
		t.Errorf("%d compressed, %d reused, want 0 and 2", packed.Compressed, packed.Reused)
	}
}

func TestPackLeavesNoFile(t *testing.T) {
	image := example()
	dir := t.TempDir()
	var read int64
	empty := func() {
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Errorf("in the folder are %v, %v", files, err)
		}
	}
	packed := pack(t, image.exportedBy(tarOf(image.dockerOld()...)), PackOptions{Dir: dir, Progress: func(n int64) {
		read += n
		empty()
	}})
	empty()
	if want := int64(len(image.layers[0]) + len(image.layers[1])); read != want {
		t.Errorf("progress reported %d bytes, want %d", read, want)
	}
	if err := validate.Image(packed); err != nil { // the blobs are there all the same
		t.Error(err)
	}
}

func TestPackDamaged(t *testing.T) {
	image := example()
	edit := func(entries []entry, change func(*entry)) []byte {
		for i := range entries {
			change(&entries[i])
		}
		return tarOf(entries...)
	}
	flip := func(e *entry) {
		e.content = bytes.Clone(e.content)
		e.content[len(e.content)/2] ^= 1
	}
	old := tarOf(image.dockerOld()...)
	for name, try := range map[string]struct {
		archive []byte
		want    string
	}{
		"layer": {edit(image.dockerNew(), func(e *entry) {
			if len(e.content) > 1<<20 {
				flip(e)
			}
		}), "layer " + image.diffIDs[0].String() + " has the digest|the image is damaged"},
		"layer proven by its v1 JSON": {edit(image.dockerOld(), func(e *entry) {
			if len(e.content) > 1<<20 {
				flip(e)
			}
		}), "layer " + image.diffIDs[0].String() + " has the digest|the image is damaged"},
		"config": {edit(image.dockerOld(), func(e *entry) {
			if e.name == image.id().Hex+".json" {
				flip(e)
			}
		}), "the config of image " + image.id().String() + " has the digest|damaged"},
		"no layer": {tarOf(slices.DeleteFunc(image.dockerNew(), func(e entry) bool {
			return e.name == blobName(image.diffIDs[1])
		})...), "layer " + image.diffIDs[1].String() + " is missing"},
		"no config": {tarOf(slices.DeleteFunc(image.dockerOld(), func(e entry) bool {
			return e.name == image.id().Hex+".json"
		})...), "has no config"},
		"cut in a layer":  {old[:1<<20], "a layer is cut short|unexpected EOF"},
		"cut in a header": {tarOf(image.dockerNew()...)[:200], "damaged, cut short"},
		"empty":           {nil, "has no config"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Pack(t.Context(), image.exportedBy(try.archive), PackOptions{Dir: dir})
			wantError(t, err, "cannot pack image "+image.id().String()+"|"+try.want)
		})
	}
}

func TestPackConfigOfOtherLayers(t *testing.T) {
	image := example()
	u := image.exportedBy(tarOf(image.dockerOld()...))
	u.DiffIDs = u.DiffIDs[:1]
	_, err := Pack(t.Context(), u, PackOptions{})
	wantError(t, err, "lists other layers than the engine does")
}

func TestPackNoRoom(t *testing.T) {
	image := example()
	file := tempFile(t, "file", nil)
	_, err := Pack(t.Context(), image.exportedBy(tarOf(image.dockerOld()...)), PackOptions{Dir: file})
	wantError(t, err, "set TMPDIR")
}

func TestPackCancelled(t *testing.T) {
	image := example()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by a signal")
	_, err := Pack(ctx, &Unpacked{ID: image.id(), DiffIDs: image.diffIDs, open: func(context.Context) (io.ReadCloser, error) {
		cancel(stop)
		return nil, io.ErrUnexpectedEOF
	}}, PackOptions{})
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
	u := &Unpacked{ID: sum(nil), DiffIDs: []v1.Hash{sum(nil)}, open: func(context.Context) (io.ReadCloser, error) { return out, nil }}
	before, peak := heap(), uint64(0)
	var read, sampled int64
	_, err := Pack(t.Context(), u, PackOptions{Dir: t.TempDir(), Progress: func(n int64) {
		if read += n; read-sampled > 32<<20 {
			sampled, peak = read, max(peak, heap())
		}
	}})
	wantError(t, err, "unexpected EOF")
	if read != size || peak > before+size/4 {
		t.Errorf("%d bytes read, heap grown from %d to %d bytes", read, before, peak)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

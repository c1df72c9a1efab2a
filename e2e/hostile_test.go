package e2e

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// mostMemory is what a run may take, in megabytes, whatever it is given.
const mostMemory = 128

// files writes what is in an archive. It must hold no more in memory than the
// archive's reader may.
type files struct {
	*tar.Writer
	t     *testing.T
	added map[string]types.MediaType // of blobs, by digest
}

func (f files) add(name string, content []byte) {
	f.t.Helper()
	f.header(tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(content))})
	if _, err := f.Write(content); err != nil {
		f.t.Fatal(err)
	}
}

func (f files) link(kind byte, name, target string) {
	f.t.Helper()
	f.header(tar.Header{Name: name, Typeflag: kind, Linkname: target})
}

func (f files) header(header tar.Header) {
	f.t.Helper()
	header.Mode = 0o644
	if err := f.WriteHeader(&header); err != nil {
		f.t.Fatal(err)
	}
}

// zeros adds a file of so many bytes that are all zero.
func (f files) zeros(name string, size int64) {
	f.t.Helper()
	f.header(tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size})
	if _, err := io.CopyN(f, zeros{}, size); err != nil {
		f.t.Fatal(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// blob adds content to an OCI layout and returns its descriptor.
func (f files) blob(mediaType types.MediaType, content []byte) descriptor {
	f.t.Helper()
	digest := digestOf(content)
	if _, ok := f.added[digest]; !ok {
		f.added[digest] = mediaType
		f.add("blobs/sha256/"+strings.TrimPrefix(digest, "sha256:"), content)
	}
	return descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(content))}
}

// descriptor is one of OCI, with any size.
type descriptor struct {
	MediaType    types.MediaType   `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Platform     map[string]string `json:"platform,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Data         []byte            `json:"data,omitempty"`
}

type object = map[string]any

// index adds an index of children, or an image of a config and a layer.
func (f files) index(children ...descriptor) descriptor {
	f.t.Helper()
	return f.blob(types.OCIImageIndex, marshal(f.t, object{"schemaVersion": 2, "mediaType": types.OCIImageIndex, "manifests": children}))
}

// image adds an image that is as it should be, but for what change does to its
// manifest.
func (f files) image(change func(manifest object, layer *descriptor)) descriptor {
	f.t.Helper()
	layer := []byte("a layer")
	config := f.blob(types.OCIConfigJSON, marshal(f.t, object{
		"os": "linux", "architecture": "amd64", "rootfs": object{"type": "layers", "diff_ids": []string{digestOf(layer)}},
	}))
	described := f.blob(types.OCIUncompressedLayer, layer)
	manifest := object{"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "config": config}
	change(manifest, &described)
	manifest["layers"] = []descriptor{described}
	return f.blob(types.OCIManifestSchema1, marshal(f.t, manifest))
}

// top adds index.json, which makes a layout.
func (f files) top(children ...descriptor) {
	f.t.Helper()
	f.add("index.json", marshal(f.t, object{"schemaVersion": 2, "manifests": children}))
}

// saved adds manifest.json and a config for layers, which makes an archive of
// `docker save`.
func (f files) saved(diffIDs []string, layers ...string) {
	f.t.Helper()
	f.add("config.json", marshal(f.t, object{
		"os": "linux", "architecture": "amd64", "rootfs": object{"type": "layers", "diff_ids": diffIDs},
	}))
	f.toc("config.json", layers...)
}

func (f files) toc(config string, layers ...string) {
	f.t.Helper()
	f.add("manifest.json", marshal(f.t, []object{{"Config": config, "RepoTags": nil, "Layers": layers}}))
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// writeTar writes an archive, compressed as its name says.
func writeTar(t *testing.T, name string, fill func(files)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	closers := []io.Closer{file}
	var out io.Writer = file
	switch filepath.Ext(name) {
	case ".gz":
		zip := gzip.NewWriter(out)
		out, closers = zip, append(closers, zip)
	case ".zst":
		zip, err := zstd.NewWriter(out)
		if err != nil {
			t.Fatal(err)
		}
		out, closers = zip, append(closers, zip)
	}
	w := tar.NewWriter(out)
	fill(files{w, t, map[string]types.MediaType{}})
	for _, c := range slices.Backward(append(closers, w)) {
		if err := c.Close(); err != nil && !strings.Contains(err.Error(), "missed writing") {
			t.Fatal(err)
		}
	}
	return path
}

const (
	huge = int64(1) << 60
	many = 1500
)

// hostileArchives are archives that nobody means well with, and how each is
// refused.
var hostileArchives = map[string]struct {
	file string
	fill func(files)
	want string
}{
	"a name that leads out": {"image.tar", func(f files) {
		f.add("../../../../tmp/evil", []byte("evil"))
		f.top(f.image(asItIs))
	}, `"../../../../tmp/evil" leads out of the archive`},
	"an absolute name": {"image.tar", func(f files) {
		f.add("/etc/cron.d/evil", []byte("evil"))
		f.top(f.image(asItIs))
	}, `"/etc/cron.d/evil" leads out of the archive`},
	"a config that leads out": {"image.tar", func(f files) { f.toc("../../../../etc/passwd") },
		"has no ../../../../etc/passwd, which its manifest.json names"},
	"a link that leads out": {"image.tar", func(f files) {
		f.link(tar.TypeSymlink, "a/layer.tar", "../../../etc/passwd")
		f.saved([]string{someDigest}, "a/layer.tar")
	}, `"a/layer.tar" leads out of the archive, to "../../../etc/passwd"`},
	"a hard link": {"image.tar", func(f files) {
		f.link(tar.TypeLink, "layer.tar", "/etc/passwd")
		f.saved([]string{someDigest}, "layer.tar")
	}, `"layer.tar" in the archive is a hard link`},
	"a device": {"image.tar", func(f files) {
		f.link(tar.TypeChar, "layer.tar", "")
		f.saved([]string{someDigest}, "layer.tar")
	}, `"layer.tar" in the archive is a hard link, a device`},
	"links in a circle": {"image.tar", func(f files) {
		f.link(tar.TypeSymlink, "a", "b")
		f.link(tar.TypeSymlink, "b", "a")
		f.saved([]string{someDigest}, "a")
	}, `layer "a" is a link to another link`},
	"one name twice": {"image.tar", func(f files) {
		f.top(f.image(asItIs))
		f.top()
	}, `two files named "index.json"`},
	"two spellings of a name": {"image.tar", func(f files) {
		f.saved(nil)
		f.add("./x/../config.json", []byte("{}"))
	}, `two files named "config.json"`},
	"a layer with two digests": {"image.tar", func(f files) {
		f.add("layer.tar", []byte("content"))
		f.saved([]string{digestOf([]byte("other content"))}, "layer.tar")
	}, "has the digest " + digestOf([]byte("content")) + ": the image is damaged"},

	"a file of an exabyte": {"image.tar", func(f files) {
		f.header(tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Size: huge})
	}, "manifest.json"},
	"a compressed file of an exabyte": {"image.tar.gz", func(f files) {
		f.header(tar.Header{Name: "layer.tar", Typeflag: tar.TypeReg, Size: huge})
	}, "damaged, cut short"},
	"a manifest of an exabyte": {"image.tar", func(f files) {
		d := f.image(asItIs)
		d.Size = huge
		f.top(d)
	}, "where 1152921504606846976 are declared"},
	"a child of an exabyte": {"image.tar", func(f files) {
		d := f.image(asItIs)
		d.Size, d.Platform = huge, map[string]string{"os": "linux", "architecture": "amd64"}
		f.top(f.index(d))
	}, "have more than 16777216 bytes, more than any real index"},
	"a child of less than nothing": {"image.tar", func(f files) {
		d := f.image(asItIs)
		d.Size, d.Platform = -1, map[string]string{"os": "linux", "architecture": "amd64"}
		f.top(f.index(d))
	}, "with -1 bytes, which no manifest"},
	"a config of an exabyte": {"image.tar", func(f files) {
		f.top(f.image(func(manifest object, _ *descriptor) {
			config := manifest["config"].(descriptor)
			config.Size = huge
			manifest["config"] = config
		}))
	}, "where 1152921504606846976 are declared"},
	"a layer of an exabyte": {"image.tar", func(f files) {
		f.top(f.image(func(_ object, layer *descriptor) { layer.Size = huge }))
	}, "where 1152921504606846976 are declared"},
	"a layer of less than nothing": {"image.tar", func(f files) {
		f.top(f.image(func(_ object, layer *descriptor) { layer.Size = -7 }))
	}, "with -7 bytes, which no manifest"},
	"a layer behind a link": {"image.tar", func(f files) {
		f.top(f.image(func(_ object, layer *descriptor) {
			forged := f.blob(types.OCIUncompressedLayer, []byte("7 bytes"))
			layer.MediaType, layer.Digest = types.OCILayer, someDigest
			f.link(tar.TypeSymlink, "blobs/sha256/"+someDigest[len("sha256:"):], forged.Digest[len("sha256:"):])
		}))
	}, "the blob is damaged: its 7 bytes hash to " + digestOf([]byte("7 bytes"))},
	"a layer of another digest": {"image.tar", func(f files) {
		f.top(f.image(func(_ object, layer *descriptor) {
			layer.MediaType, layer.Digest = types.OCILayer, someDigest
			f.add("blobs/sha256/"+someDigest[len("sha256:"):], []byte("7 bytes"))
		}))
	}, "the blob is damaged: its 7 bytes hash to " + digestOf([]byte("7 bytes"))},
	"a digest that leads out": {"image.tar", func(f files) {
		f.top(descriptor{MediaType: types.OCIManifestSchema1, Digest: "sha256:../../../../etc/passwd", Size: 100})
	}, "index.json is damaged"},

	"a large list of images": {"image.tar", func(f files) { f.zeros("index.json", 1<<30) },
		"larger than 4194304 bytes"},
	"a large table of contents": {"image.tar.gz", func(f files) { f.zeros("manifest.json", 1<<30) },
		"larger than 4194304 bytes"},
	"a large config": {"image.tar", func(f files) {
		f.zeros("config.json", 1<<30)
		f.toc("config.json")
	}, "larger than 16777216 bytes"},
	"a list of objects": {"image.tar", func(f files) {
		f.add("manifest.json", slices.Concat([]byte("["), bytes.Repeat([]byte("{},"), 1_000_000), []byte("{}]")))
	}, "more than 20000 values"},
	"deep JSON": {"image.tar", func(f files) { f.add("manifest.json", bytes.Repeat([]byte("["), 4_000_000)) },
		"more than 20000 values"},
	"many short strings": {"image.tar", func(f files) {
		f.add("manifest.json", slices.Concat([]byte(`[{"Config":"c","Layers":["`), bytes.Repeat([]byte(`","`), 1_000_000), []byte(`"]}]`)))
	}, "more than 20000 values"},
	"many labels": {"image.tar", func(f files) {
		config := slices.Concat([]byte(`{"config":{"Labels":{`), manyLabels(300_000), []byte(`}}}`))
		f.add("config.json", config)
		f.toc("config.json", "a layer")
	}, "more than 100000 values"},
	"many annotations": {"image.tar", func(f files) {
		f.top(f.image(func(manifest object, _ *descriptor) {
			manifest["annotations"] = json.RawMessage(slices.Concat([]byte("{"), manyLabels(300_000), []byte("}")))
		}))
	}, "more than 20000 values"},
	"many large configs": {"image.tar", func(f files) {
		layer := f.blob(types.OCILayer, []byte("a layer"))
		layer.Size = 1 // so that it comes to be sent, with all of this around
		children := make([]descriptor, 8)
		for n := range children {
			config := f.blob(types.OCIConfigJSON, marshal(f.t, object{
				"os": "linux", "architecture": fmt.Sprint("a", n), "rootfs": object{"type": "layers", "diff_ids": []string{someDigest}},
				"config": object{"Labels": map[string]string{"bom": strings.Repeat("{", 16<<20-500)}},
			}))
			children[n] = f.blob(types.OCIManifestSchema1, marshal(f.t, object{
				"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "config": config, "layers": []descriptor{layer},
			}))
		}
		f.top(f.index(children...))
	}, "where 1 are declared"},
	"children of no size": {"image.tar.gz", func(f files) {
		all := make([]descriptor, 160)
		for n := range all {
			all[n] = f.image(func(manifest object, _ *descriptor) {
				manifest["annotations"] = map[string]string{"n": fmt.Sprint(n, strings.Repeat("large", 800_000))}
			})
			all[n].Size, all[n].Platform = 0, map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
		}
		f.top(f.index(all...))
	}, "with 0 bytes, which no manifest"},
	"a manifest of no size": {"image.tar", func(f files) {
		d := f.image(asItIs)
		d.Size = 0
		f.top(d)
	}, "with 0 bytes, which no manifest"},
	"a config of no size": {"image.tar", func(f files) {
		f.top(f.image(func(manifest object, _ *descriptor) {
			config := manifest["config"].(descriptor)
			config.Size = 0
			manifest["config"] = config
		}))
	}, "with 0 bytes, which no manifest"},
	"a layer of no size": {"image.tar", func(f files) {
		f.top(f.image(func(_ object, layer *descriptor) { layer.Size = 0 }))
	}, "with 0 bytes, which no manifest"},
	"many annotations of several images": {"image.tar", func(f files) {
		f.top(f.several(80, func(n int, manifest object, layer *descriptor) {
			manifest["annotations"] = json.RawMessage(slices.Concat([]byte("{"), manyLabels(19_000+n), []byte("}")))
			layer.Size = 1 // so that it comes to be sent, with all of this around
		}))
	}, "where 1 are declared"},
	"windows of layers": {"image.tar", func(f files) {
		f.top(f.several(6, func(n int, _ object, layer *descriptor) {
			*layer = f.blob(types.OCILayerZStd, window(f.t, 64<<20, int64(200<<20+n)))
		}))
	}, "but it has sha256:"},
	"layers that explode together": {"image.tar", func(f files) {
		f.top(f.several(3, func(n int, _ object, layer *descriptor) {
			*layer = f.blob(types.OCILayerZStd, window(f.t, 1<<20, int64(3<<30+n)))
		}))
	}, "a decompression bomb"},
	"windows in a window": {"image.tar.zst", func(f files) {
		f.add("layer.tar.zst", window(f.t, 64<<20, 200<<20))
		f.saved([]string{someDigest}, "layer.tar.zst")
	}, "the layers of a compressed archive are compressed, too"},
	"many files": {"image.tar.gz", func(f files) {
		for n := range 1_000_000 {
			f.add(fmt.Sprint(strings.Repeat("long/", 100), n), nil)
			if n > 30_000 {
				return
			}
		}
	}, "more than 20000 files"},
	"a long name": {"image.tar.gz", func(f files) { f.add(strings.Repeat("n", 900_000), nil) },
		"name has more than 1024 bytes"},

	"many manifests": {"image.tar", func(f files) {
		one := f.image(asItIs)
		all := make([]descriptor, many)
		for n := range all {
			all[n] = one
			all[n].Platform = map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
		}
		f.top(f.index(all...))
	}, "more than 1000 images"},
	"many large manifests": {"image.tar", func(f files) {
		var all []descriptor
		for n := range 100 {
			d := f.image(func(manifest object, _ *descriptor) {
				manifest["annotations"] = map[string]string{"n": fmt.Sprint(n, strings.Repeat("large", 100_000))}
			})
			d.Platform = map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
			all = append(all, d)
		}
		f.top(f.index(all...))
	}, "have more than 16777216 bytes, more than any real index"},
	"deep indexes": {"image.tar", func(f files) {
		d := f.image(asItIs)
		for range many {
			d = f.index(d)
		}
		f.top(d)
	}, "indexes are nested more than 8 deep"},
	"indexes that multiply": {"image.tar", func(f files) {
		d := f.image(asItIs)
		for range 20 {
			other := d
			other.Annotations = map[string]string{"a": "b"}
			d = f.index(d, other)
		}
		f.top(d)
	}, "indexes are nested more than 8 deep"},

	"an archive that explodes": {"image.tar.gz", func(f files) { f.zeros("layer.tar", 5<<30) },
		"a decompression bomb"},
	"an archive that explodes in zstd": {"image.tar.zst", func(f files) { f.zeros("layer.tar", 5<<30) },
		"a decompression bomb"},
}

// several adds an index of n images that are as they should be, but for what change does to each.
func (f files) several(n int, change func(n int, manifest object, layer *descriptor)) descriptor {
	f.t.Helper()
	all := make([]descriptor, n)
	for n := range all {
		all[n] = f.image(func(manifest object, layer *descriptor) { change(n, manifest, layer) })
		all[n].Platform = map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
	}
	return f.index(all...)
}

// window returns noise and then zeros, compressed with zstd so that a decoder needs a window of that size. The noise makes
// it too large to be sent in one request.
func window(t *testing.T, window int, size int64) []byte {
	t.Helper()
	const noise = 512 << 10
	var b bytes.Buffer
	zip, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	content := io.MultiReader(io.LimitReader(rand.NewChaCha8([32]byte{}), noise), zeros{})
	if _, err := io.CopyN(zip, content, size); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asItIs(object, *descriptor) {}

func manyLabels(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `"%d":"",`, i)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte(","))
}

// TestHostileArchives: each is refused by the name of what is wrong with it,
// in little memory, with nothing sent that anybody could find.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	for name, test := range hostileArchives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuse(t, writeTar(t, test.file, test.fill), test.want)
		})
	}
}

func refuse(t *testing.T, path, want string) {
	t.Helper()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	measured(t, sandbox, nil, "resource="+imageResource, "image="+path).failed(t, sandbox, want)
	sentNoManifest(t, sandbox)
}

// hostileYAML is the metadata of charms that is small to read and large to understand: aliases of a long text, of which
// each conversion makes copies, and as many fields as fit.
var hostileYAML = map[string]struct{ text, want string }{
	"aliases of a long text": {
		"name: my-charm\nx: &x " + strings.Repeat("x", 500_000) + "\nresources:\n  my-image: {type: *x, description: [" +
			strings.Repeat("*x,", 19_000) + "]}\n", "",
	},
	"many more aliases": {
		"x: &x " + strings.Repeat("x", 500_000) + "\ny: [" + strings.Repeat("*x,", 160_000) + "]\n", "more keys and entries than the 20000",
	},
	"many fields":     {"x: {" + strings.Repeat("a,", 500_000) + "}\n", "more keys and entries than the 20000"},
	"many directives": {strings.Repeat("%TAG ! x\n", 100_000) + "---\n", "directives"},
}

// TestHostileMetadata: the file that metadata names, and the files in a charm file.
func TestHostileMetadata(t *testing.T) {
	t.Parallel()
	for name, test := range hostileYAML {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "charmcraft.yaml")
			writeFile(t, path, test.text)
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := measured(t, sandbox, nil, "metadata="+path)
			r.failed(t, sandbox, cmp.Or(test.want, "has no resource of type oci-image"))
			file := writeCharm(t, test.text, noble)
			r = measured(t, sandbox, []string{"release"}, "charms="+file, "channel=latest/edge", "resources=my-image:1")
			if r.exit != 1 || !strings.Contains(theError(r), cmp.Or(test.want, "my-image")) {
				t.Errorf("exit %d, want 1 for the charm file:\n%s", r.exit, r.log)
			}
		})
	}
}

// measured runs the program with arguments, and fails the test if that takes too much memory.
func measured(t *testing.T, sandbox *server.Server, args []string, inputs ...string) result {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	peak := peakOf(t, command)
	r := execute(t, command, sandbox, inputs...)
	t.Logf("at most %d MB of memory", peak())
	if peak() >= mostMemory {
		t.Errorf("the run took %d MB of memory, want less than %d", peak(), mostMemory)
	}
	return r
}

// TestHostileLayer: a layer in an archive that is compressed and grows without
// end.
func TestHostileLayer(t *testing.T) {
	t.Parallel()
	var layer bytes.Buffer
	zip, err := gzip.NewWriterLevel(&layer, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(zip, zeros{}, 5<<30); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	refuse(t, writeTar(t, "image.tar", func(f files) {
		f.add("layer.tar.gz", layer.Bytes())
		f.saved([]string{someDigest}, "layer.tar.gz")
	}), "a decompression bomb")
}

// TestHostileLayouts: a folder can have links that an archive can't.
func TestHostileLayouts(t *testing.T) {
	t.Parallel()
	blob := filepath.Join("blobs", "sha256", someDigest[len("sha256:"):])
	index := string(marshal(t, object{"schemaVersion": 2, "manifests": []descriptor{
		{MediaType: types.OCIManifestSchema1, Digest: someDigest, Size: 100},
	}}))
	for name, test := range map[string]struct {
		link, target string
		want         string
	}{
		"a list outside":       {"index.json", "/etc/passwd", "index.json is a symbolic link that leads out of"},
		"a list in a circle":   {"index.json", "index.json", "too many levels of symbolic links"},
		"a blob outside":       {blob, "../../../../../../etc/passwd", "is a symbolic link that leads out of"},
		"a blob in a circle":   {blob, filepath.Base(blob), "too many levels of symbolic links"},
		"blobs without end":    {blob, "/dev/zero", "is a symbolic link that leads out of"},
		"a folder in a circle": {blob, ".", "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
				t.Fatal(err)
			}
			if test.link != "index.json" {
				writeFile(t, filepath.Join(dir, "index.json"), index)
			}
			if err := os.Symlink(test.target, filepath.Join(dir, test.link)); err != nil {
				t.Fatal(err)
			}
			refuse(t, dir, test.want)
		})
	}
}

// evil is text that a terminal and a runner act on, in each way in which one
// of them might take it.
const evil = "x\r\n::set-output name=revision::99\n  ::add-mask::a\n##[error]forged\x1b[2J\x1b]0;title\x07\u202e\u009b31m"

// isHarmless fails the test if text from outside became more than text.
func (r result) isHarmless(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(r.log) {
		line = strings.TrimSuffix(line, "\n")
		if at := strings.IndexFunc(line, func(c rune) bool { return c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0 || c == '\u202e' }); at >= 0 {
			t.Errorf("a control character in the line %q", line)
		}
		command := strings.HasPrefix(strings.TrimSpace(line), "::")
		ours := slices.ContainsFunc([]string{"error", "warning", "debug", "add-mask", "group", "endgroup"}, func(name string) bool {
			return strings.HasPrefix(line, "::"+name+"::") || strings.HasPrefix(line, "::"+name+" ")
		})
		if command && !ours || strings.Contains(line, "##[") || line == maskCommand+"a" {
			t.Errorf("text from outside became a command: %q", line)
		}
	}
	if strings.Contains(r.summary, "\x1b") || r.outputs["revision"] == "99" {
		t.Errorf("text from outside is in the outputs %v or the summary %q", r.outputs, r.summary)
	}
}

func TestHostileText(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	image := []string{"resource=" + imageResource, "image=" + archive}
	fault := func(where string, status int) func(server.Request) *server.Fault {
		return func(r server.Request) *server.Fault {
			if r.Server != where || r.Method == http.MethodGet && where == "registry" {
				return nil
			}
			return &server.Fault{Status: status, Header: http.Header{"X-Message": {"::x"}}, Body: fmt.Sprintf(
				`{"error-list":[{"code":%q,"message":%q}],"errors":[{"code":"DENIED","message":%q,"detail":%q}],"details":%q}`,
				evil, evil, evil, evil, evil)}
		}
	}
	evilFile := filepath.Join(t.TempDir(), strings.ReplaceAll(evil, "/", ""))
	writeFile(t, evilFile, "content")
	labelled := writeTar(t, "image.tar", func(f files) {
		f.add("layer.tar", []byte("layer"))
		f.add("config.json", marshal(t, object{
			"os": evil, "architecture": evil, "config": object{"Labels": object{evil: evil}},
			"rootfs": object{"type": evil, "diff_ids": []string{digestOf([]byte("layer"))}},
		}))
		f.add("manifest.json", marshal(t, []object{{"Config": "config.json", "RepoTags": []string{evil}, "Layers": []string{"layer.tar"}}}))
	})
	choice := writeTar(t, "image.tar", func(f files) {
		f.add("manifest.json", marshal(t, []object{{"Config": evil, "RepoTags": []string{evil}}, {"Config": "b"}}))
	})
	twice := writeTar(t, "image.tar", func(f files) {
		f.add(evil, nil)
		f.add(evil, nil)
	})
	for name, test := range map[string]struct {
		options server.Options
		fault   func(server.Request) *server.Fault
		inputs  []string
		exit    int
	}{
		"store's refusal":         {fault: fault("store", http.StatusForbidden), inputs: image, exit: 1},
		"store's answer":          {fault: fault("store", http.StatusOK), inputs: image, exit: 1},
		"storage's refusal":       {fault: fault("storage", http.StatusBadRequest), inputs: image, exit: 1},
		"registry's refusal":      {fault: fault("registry", http.StatusForbidden), inputs: image, exit: 1},
		"realm's refusal":         {fault: fault("auth", http.StatusForbidden), inputs: image, exit: 1},
		"realm's answer":          {fault: fault("auth", http.StatusOK), inputs: image, exit: 1},
		"reason of a rejection":   {options: server.Options{RejectReason: evil}, inputs: image, exit: 1},
		"name of a file":          {inputs: []string{"resource=" + fileResource, "filepath=" + evilFile}, exit: 1}, // no form can have that name
		"name of a missing file":  {inputs: []string{"resource=" + fileResource, "filepath=" + evilFile + evil}, exit: 1},
		"name of an image":        {inputs: []string{"resource=" + imageResource, "image=docker://" + evil}, exit: 1},
		"digest":                  {inputs: []string{"resource=" + imageResource, "digest=" + evil}, exit: 1},
		"charm":                   {inputs: []string{"charm=" + evil, "resource=" + evil, "platform=" + evil, "image=" + archive}, exit: 1},
		"labels and platform":     {inputs: []string{"resource=" + imageResource, "image=" + labelled}},
		"another platform":        {inputs: []string{"resource=" + imageResource, "platform=linux/arm64", "image=" + labelled}, exit: 1},
		"names of the images":     {inputs: []string{"resource=" + imageResource, "image=" + choice}, exit: 1},
		"name in an archive":      {inputs: []string{"resource=" + imageResource, "image=" + twice}, exit: 1},
		"address of the registry": {inputs: append(image, "registry-url=https://"+evil), exit: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.options.InMemory = true
			sandbox := startSandbox(t, test.options)
			sandbox.Fault(test.fault)
			r := action(t, sandbox, test.inputs...)
			if r.exit != test.exit {
				t.Errorf("exit %d, want %d:\n%s", r.exit, test.exit, r.log)
			}
			r.isHarmless(t)
		})
	}
}

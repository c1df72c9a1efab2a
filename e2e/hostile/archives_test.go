package hostile

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

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const (
	huge = int64(1) << 60
	many = 1500
)

// hostileArchives are archives that nobody means well with, and how each is refused.
var hostileArchives = map[string]struct {
	file string
	fill func(harness.Archive)
	want string
}{
	"a name that leads out": {"image.tar", func(f harness.Archive) {
		f.Add("../../../../tmp/evil", []byte("evil"))
		f.LayoutIndex(f.Image(asItIs))
	}, `"../../../../tmp/evil" leads out of the archive`},
	"an absolute name": {"image.tar", func(f harness.Archive) {
		f.Add("/etc/cron.d/evil", []byte("evil"))
		f.LayoutIndex(f.Image(asItIs))
	}, `"/etc/cron.d/evil" leads out of the archive`},
	"a config that leads out": {"image.tar", func(f harness.Archive) { f.SavedContents("../../../../etc/passwd") },
		"has no ../../../../etc/passwd, which its manifest.json names"},
	"a link that leads out": {"image.tar", func(f harness.Archive) {
		f.Link(tar.TypeSymlink, "a/layer.tar", "../../../etc/passwd")
		f.SavedImage([]string{harness.SomeDigest}, "a/layer.tar")
	}, `"a/layer.tar" leads out of the archive, to "../../../etc/passwd"`},
	"a hard link": {"image.tar", func(f harness.Archive) {
		f.Link(tar.TypeLink, "layer.tar", "/etc/passwd")
		f.SavedImage([]string{harness.SomeDigest}, "layer.tar")
	}, `"layer.tar" in the archive is a hard link`},
	"a device": {"image.tar", func(f harness.Archive) {
		f.Link(tar.TypeChar, "layer.tar", "")
		f.SavedImage([]string{harness.SomeDigest}, "layer.tar")
	}, `"layer.tar" in the archive is a hard link, a device`},
	"links in a circle": {"image.tar", func(f harness.Archive) {
		f.Link(tar.TypeSymlink, "a", "b")
		f.Link(tar.TypeSymlink, "b", "a")
		f.SavedImage([]string{harness.SomeDigest}, "a")
	}, `layer "a" is a link to another link`},
	"one name twice": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(asItIs))
		f.LayoutIndex()
	}, `two files named "index.json"`},
	"two spellings of a name": {"image.tar", func(f harness.Archive) {
		f.SavedImage(nil)
		f.Add("./x/../config.json", []byte("{}"))
	}, `two files named "config.json"`},
	"a layer with two digests": {"image.tar", func(f harness.Archive) {
		f.Add("layer.tar", []byte("content"))
		f.SavedImage([]string{harness.DigestOf([]byte("other content"))}, "layer.tar")
	}, "has the digest " + harness.DigestOf([]byte("content")) + ": the image is damaged"},

	"a file of an exabyte": {"image.tar", func(f harness.Archive) {
		f.Header(tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Size: huge})
	}, "manifest.json"},
	"a compressed file of an exabyte": {"image.tar.gz", func(f harness.Archive) {
		f.Header(tar.Header{Name: "layer.tar", Typeflag: tar.TypeReg, Size: huge})
	}, "damaged, cut short"},
	"a manifest of an exabyte": {"image.tar", func(f harness.Archive) {
		d := f.Image(asItIs)
		d.Size = huge
		f.LayoutIndex(d)
	}, "where 1152921504606846976 are declared"},
	"a child of an exabyte": {"image.tar", func(f harness.Archive) {
		d := f.Image(asItIs)
		d.Size, d.Platform = huge, map[string]string{"os": "linux", "architecture": "amd64"}
		f.LayoutIndex(f.Index(d))
	}, "have more than 16777216 bytes, more than any real index"},
	"a child of less than nothing": {"image.tar", func(f harness.Archive) {
		d := f.Image(asItIs)
		d.Size, d.Platform = -1, map[string]string{"os": "linux", "architecture": "amd64"}
		f.LayoutIndex(f.Index(d))
	}, "with -1 bytes, which no manifest"},
	"a config of an exabyte": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(manifest harness.Object, _ *harness.Descriptor) {
			config := manifest["config"].(harness.Descriptor)
			config.Size = huge
			manifest["config"] = config
		}))
	}, "where 1152921504606846976 are declared"},
	"a layer of an exabyte": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(_ harness.Object, layer *harness.Descriptor) { layer.Size = huge }))
	}, "where 1152921504606846976 are declared"},
	"a layer of less than nothing": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(_ harness.Object, layer *harness.Descriptor) { layer.Size = -7 }))
	}, "with -7 bytes, which no manifest"},
	"a layer behind a link": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(_ harness.Object, layer *harness.Descriptor) {
			forged := f.Blob(types.OCIUncompressedLayer, []byte("7 bytes"))
			layer.MediaType, layer.Digest = types.OCILayer, harness.SomeDigest
			f.Link(tar.TypeSymlink, "blobs/sha256/"+harness.SomeDigest[len("sha256:"):], forged.Digest[len("sha256:"):])
		}))
	}, "the blob is damaged: its 7 bytes hash to " + harness.DigestOf([]byte("7 bytes"))},
	"a layer of another digest": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(_ harness.Object, layer *harness.Descriptor) {
			layer.MediaType, layer.Digest = types.OCILayer, harness.SomeDigest
			f.Add("blobs/sha256/"+harness.SomeDigest[len("sha256:"):], []byte("7 bytes"))
		}))
	}, "the blob is damaged: its 7 bytes hash to " + harness.DigestOf([]byte("7 bytes"))},
	"a digest that leads out": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(harness.Descriptor{MediaType: types.OCIManifestSchema1, Digest: "sha256:../../../../etc/passwd",
			Size: 100})
	}, "index.json is damaged"},

	"a large list of images": {"image.tar", func(f harness.Archive) { f.Zeros("index.json", 1<<30) },
		"larger than 4194304 bytes"},
	"a large table of contents": {"image.tar.gz", func(f harness.Archive) { f.Zeros("manifest.json", 1<<30) },
		"larger than 4194304 bytes"},
	"a large config": {"image.tar", func(f harness.Archive) {
		f.Zeros("config.json", 1<<30)
		f.SavedContents("config.json")
	}, "larger than 16777216 bytes"},
	"a list of objects": {"image.tar", func(f harness.Archive) {
		f.Add("manifest.json", slices.Concat([]byte("["), bytes.Repeat([]byte("{},"), 1_000_000), []byte("{}]")))
	}, "more than 20000 values"},
	"deep JSON": {"image.tar", func(f harness.Archive) { f.Add("manifest.json", bytes.Repeat([]byte("["), 4_000_000)) },
		"more than 20000 values"},
	"many short strings": {"image.tar", func(f harness.Archive) {
		f.Add("manifest.json", slices.Concat([]byte(`[{"Config":"c","Layers":["`), bytes.Repeat([]byte(`","`), 1_000_000),
			[]byte(`"]}]`)))
	}, "more than 20000 values"},
	"many labels": {"image.tar", func(f harness.Archive) {
		config := slices.Concat([]byte(`{"config":{"Labels":{`), manyLabels(300_000), []byte(`}}}`))
		f.Add("config.json", config)
		f.SavedContents("config.json", "a layer")
	}, "more than 100000 values"},
	"many annotations": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(manifest harness.Object, _ *harness.Descriptor) {
			manifest["annotations"] = json.RawMessage(slices.Concat([]byte("{"), manyLabels(300_000), []byte("}")))
		}))
	}, "more than 20000 values"},
	"many large configs": {"image.tar", func(f harness.Archive) {
		layer := f.Blob(types.OCILayer, []byte("a layer"))
		layer.Size = 1 // so that it comes to be sent, with all of this around
		children := make([]harness.Descriptor, 8)
		for n := range children {
			config := f.Blob(types.OCIConfigJSON, harness.Marshal(f.T, harness.Object{
				"os": "linux", "architecture": fmt.Sprint("a", n),
				"rootfs": harness.Object{"type": "layers", "diff_ids": []string{harness.SomeDigest}},
				"config": harness.Object{"Labels": map[string]string{"bom": strings.Repeat("{", 16<<20-500)}},
			}))
			children[n] = f.Blob(types.OCIManifestSchema1, harness.Marshal(f.T, harness.Object{
				"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "config": config, "layers": []harness.Descriptor{layer},
			}))
		}
		f.LayoutIndex(f.Index(children...))
	}, "where 1 are declared"},
	"children of no size": {"image.tar.gz", func(f harness.Archive) {
		all := make([]harness.Descriptor, 160)
		for n := range all {
			all[n] = f.Image(func(manifest harness.Object, _ *harness.Descriptor) {
				manifest["annotations"] = map[string]string{"n": fmt.Sprint(n, strings.Repeat("large", 800_000))}
			})
			all[n].Size, all[n].Platform = 0, map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
		}
		f.LayoutIndex(f.Index(all...))
	}, "with 0 bytes, which no manifest"},
	"a manifest of no size": {"image.tar", func(f harness.Archive) {
		d := f.Image(asItIs)
		d.Size = 0
		f.LayoutIndex(d)
	}, "with 0 bytes, which no manifest"},
	"a config of no size": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(manifest harness.Object, _ *harness.Descriptor) {
			config := manifest["config"].(harness.Descriptor)
			config.Size = 0
			manifest["config"] = config
		}))
	}, "with 0 bytes, which no manifest"},
	"a layer of no size": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Image(func(_ harness.Object, layer *harness.Descriptor) { layer.Size = 0 }))
	}, "with 0 bytes, which no manifest"},
	"many annotations of several images": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Several(80, func(n int, manifest harness.Object, layer *harness.Descriptor) {
			manifest["annotations"] = json.RawMessage(slices.Concat([]byte("{"), manyLabels(19_000+n), []byte("}")))
			layer.Size = 1 // so that it comes to be sent, with all of this around
		}))
	}, "where 1 are declared"},
	"windows of layers": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Several(6, func(n int, _ harness.Object, layer *harness.Descriptor) {
			*layer = f.Blob(types.OCILayerZStd, window(f.T, 64<<20, int64(200<<20+n)))
		}))
	}, "but it has sha256:"},
	"layers that explode together": {"image.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Several(3, func(n int, _ harness.Object, layer *harness.Descriptor) {
			*layer = f.Blob(types.OCILayerZStd, window(f.T, 1<<20, int64(3<<30+n)))
		}))
	}, "a decompression bomb"},
	"windows in a window": {"image.tar.zst", func(f harness.Archive) {
		f.Add("layer.tar.zst", window(f.T, 64<<20, 200<<20))
		f.SavedImage([]string{harness.SomeDigest}, "layer.tar.zst")
	}, "the layers of a compressed archive are compressed, too"},
	"many files": {"image.tar.gz", func(f harness.Archive) {
		for n := range 1_000_000 {
			f.Add(fmt.Sprint(strings.Repeat("long/", 100), n), nil)
			if n > 30_000 {
				return
			}
		}
	}, "more than 20000 files"},
	"a long name": {"image.tar.gz", func(f harness.Archive) { f.Add(strings.Repeat("n", 900_000), nil) },
		"name has more than 1024 bytes"},

	"many manifests": {"image.tar", func(f harness.Archive) {
		one := f.Image(asItIs)
		all := make([]harness.Descriptor, many)
		for n := range all {
			all[n] = one
			all[n].Platform = map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
		}
		f.LayoutIndex(f.Index(all...))
	}, "more than 1000 images"},
	"many large manifests": {"image.tar", func(f harness.Archive) {
		var all []harness.Descriptor
		for n := range 100 {
			d := f.Image(func(manifest harness.Object, _ *harness.Descriptor) {
				manifest["annotations"] = map[string]string{"n": fmt.Sprint(n, strings.Repeat("large", 100_000))}
			})
			d.Platform = map[string]string{"os": "linux", "architecture": fmt.Sprint("a", n)}
			all = append(all, d)
		}
		f.LayoutIndex(f.Index(all...))
	}, "have more than 16777216 bytes, more than any real index"},
	"deep indexes": {"image.tar", func(f harness.Archive) {
		d := f.Image(asItIs)
		for range many {
			d = f.Index(d)
		}
		f.LayoutIndex(d)
	}, "indexes are nested more than 8 deep"},
	"indexes that multiply": {"image.tar", func(f harness.Archive) {
		d := f.Image(asItIs)
		for range 20 {
			other := d
			other.Annotations = map[string]string{"a": "b"}
			d = f.Index(d, other)
		}
		f.LayoutIndex(d)
	}, "indexes are nested more than 8 deep"},

	"an archive that explodes": {"image.tar.gz", func(f harness.Archive) { f.Zeros("layer.tar", 5<<30) },
		"a decompression bomb"},
	"an archive that explodes in zstd": {"image.tar.zst", func(f harness.Archive) { f.Zeros("layer.tar", 5<<30) },
		"a decompression bomb"},
}

// window returns noise and then zeros, compressed with zstd so that a decoder needs a window of that size. The noise
// makes it too large to be sent in one request.
func window(t *testing.T, window int, size int64) []byte {
	t.Helper()
	const noise = 512 << 10
	var b bytes.Buffer
	zip, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	content := io.MultiReader(io.LimitReader(rand.NewChaCha8([32]byte{}), noise), harness.Zeros{})
	if _, err := io.CopyN(zip, content, size); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// asItIs changes nothing in a manifest and its descriptor.
func asItIs(harness.Object, *harness.Descriptor) {}

// manyLabels returns the members of a JSON object that has n labels, without the braces.
func manyLabels(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `"%d":"",`, i)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte(","))
}

// TestHostileArchives: each is refused by the name of what is wrong with it, in little memory, with nothing sent that
// anybody could find.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	for name, test := range hostileArchives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuse(t, harness.WriteTar(t, test.file, test.fill), test.want)
		})
	}
}

// refuse uploads the archive at path, and fails the test unless the action fails with the text want and sends no
// manifest.
func refuse(t *testing.T, path, want string) {
	t.Helper()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	measured(t, sandbox, nil, "resource="+harness.ImageResource, "image="+path).Failed(t, sandbox, want)
	harness.SentNoManifest(t, sandbox)
}

// hostileYAML is the metadata of charms that is small to read and large to understand: aliases of a long text, of which
// each conversion makes copies, and as many fields as fit.
var hostileYAML = map[string]struct{ text, want string }{
	"aliases of a long text": {
		"name: my-charm\nx: &x " + strings.Repeat("x", 500_000) + "\nresources:\n  my-image: {type: *x, description: [" +
			strings.Repeat("*x,", 19_000) + "]}\n", "",
	},
	"many more aliases": {
		"x: &x " + strings.Repeat("x", 500_000) + "\ny: [" + strings.Repeat("*x,", 160_000) + "]\n",
		"more keys and entries than the 20000",
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
			harness.WriteFile(t, path, test.text)
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := measured(t, sandbox, nil, "metadata="+path)
			r.Failed(t, sandbox, cmp.Or(test.want, "has no resource of type oci-image"))
			file := harness.WriteCharmFile(t, test.text, harness.Noble)
			r = measured(t, sandbox, []string{"release"}, "charms="+file, "channel=latest/edge", "resources=my-image:1")
			if r.Exit != 1 || !strings.Contains(harness.ErrorText(r), cmp.Or(test.want, "my-image")) {
				t.Errorf("exit %d, want 1 for the charm file:\n%s", r.Exit, r.Log)
			}
		})
	}
}

// measured runs the program with arguments, and fails the test if that takes too much memory.
func measured(t *testing.T, sandbox *server.Server, args []string, inputs ...string) harness.Result {
	t.Helper()
	command := exec.CommandContext(t.Context(), harness.Program, args...)
	peak := harness.MeasurePeak(t, command)
	r := harness.Execute(t, command, sandbox, inputs...)
	t.Logf("at most %d MB of memory", peak())
	if peak() >= harness.MaxMemory {
		t.Errorf("the run took %d MB of memory, want less than %d", peak(), harness.MaxMemory)
	}
	return r
}

// TestHostileLayer: a layer in an archive that is compressed and grows without end.
func TestHostileLayer(t *testing.T) {
	t.Parallel()
	var layer bytes.Buffer
	zip, err := gzip.NewWriterLevel(&layer, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(zip, harness.Zeros{}, 5<<30); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	refuse(t, harness.WriteTar(t, "image.tar", func(f harness.Archive) {
		f.Add("layer.tar.gz", layer.Bytes())
		f.SavedImage([]string{harness.SomeDigest}, "layer.tar.gz")
	}), "a decompression bomb")
}

// TestHostileLayouts: a folder can have links that an archive can't.
func TestHostileLayouts(t *testing.T) {
	t.Parallel()
	blob := filepath.Join("blobs", "sha256", harness.SomeDigest[len("sha256:"):])
	index := string(harness.Marshal(t, harness.Object{"schemaVersion": 2, "manifests": []harness.Descriptor{
		{MediaType: types.OCIManifestSchema1, Digest: harness.SomeDigest, Size: 100},
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
				harness.WriteFile(t, filepath.Join(dir, "index.json"), index)
			}
			if err := os.Symlink(test.target, filepath.Join(dir, test.link)); err != nil {
				t.Fatal(err)
			}
			refuse(t, dir, test.want)
		})
	}
}

// evil is text that a terminal and a runner act on, in each way in which one of them might take it.
const evil = "x\r\n::set-output name=revision::99\n  " +
	"::add-mask::a\n##[error]forged\x1b[2J\x1b]0;title\x07\u202e\u009b31m"

func TestHostileText(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	image := []string{"resource=" + harness.ImageResource, "image=" + archive}
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
	harness.WriteFile(t, evilFile, "content")
	labelled := harness.WriteTar(t, "image.tar", func(f harness.Archive) {
		f.Add("layer.tar", []byte("layer"))
		f.Add("config.json", harness.Marshal(t, harness.Object{
			"os": evil, "architecture": evil, "config": harness.Object{"Labels": harness.Object{evil: evil}},
			"rootfs": harness.Object{"type": evil, "diff_ids": []string{harness.DigestOf([]byte("layer"))}},
		}))
		f.Add("manifest.json", harness.Marshal(t,
			[]harness.Object{{"Config": "config.json", "RepoTags": []string{evil}, "Layers": []string{"layer.tar"}}}))
	})
	choice := harness.WriteTar(t, "image.tar", func(f harness.Archive) {
		f.Add("manifest.json", harness.Marshal(t, []harness.Object{{"Config": evil, "RepoTags": []string{evil}},
			{"Config": "b"}}))
	})
	twice := harness.WriteTar(t, "image.tar", func(f harness.Archive) {
		f.Add(evil, nil)
		f.Add(evil, nil)
	})
	for name, test := range map[string]struct {
		options server.Options
		fault   func(server.Request) *server.Fault
		inputs  []string
		exit    int
	}{
		"store's refusal":       {fault: fault("store", http.StatusForbidden), inputs: image, exit: 1},
		"store's answer":        {fault: fault("store", http.StatusOK), inputs: image, exit: 1},
		"storage's refusal":     {fault: fault("storage", http.StatusBadRequest), inputs: image, exit: 1},
		"registry's refusal":    {fault: fault("registry", http.StatusForbidden), inputs: image, exit: 1},
		"realm's refusal":       {fault: fault("auth", http.StatusForbidden), inputs: image, exit: 1},
		"realm's answer":        {fault: fault("auth", http.StatusOK), inputs: image, exit: 1},
		"reason of a rejection": {options: server.Options{RejectReason: evil}, inputs: image, exit: 1},
		// no form can have that name
		"name of a file": {inputs: []string{"resource=" + harness.FileResource, "filepath=" + evilFile}, exit: 1},
		"name of a missing file": {inputs: []string{"resource=" + harness.FileResource, "filepath=" + evilFile + evil},
			exit: 1},
		"name of an image": {inputs: []string{"resource=" + harness.ImageResource, "image=docker://" + evil}, exit: 1},
		"digest":           {inputs: []string{"resource=" + harness.ImageResource, "digest=" + evil}, exit: 1},
		"charm": {inputs: []string{"charm=" + evil, "resource=" + evil, "platform=" + evil,
			"image=" + archive}, exit: 1},
		"labels and platform": {inputs: []string{"resource=" + harness.ImageResource, "image=" + labelled}},
		"another platform": {inputs: []string{"resource=" + harness.ImageResource, "platform=linux/arm64",
			"image=" + labelled}, exit: 1},
		"names of the images":     {inputs: []string{"resource=" + harness.ImageResource, "image=" + choice}, exit: 1},
		"name in an archive":      {inputs: []string{"resource=" + harness.ImageResource, "image=" + twice}, exit: 1},
		"address of the registry": {inputs: append(image, "registry-url=https://"+evil), exit: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.options.InMemory = true
			sandbox := harness.StartSandbox(t, test.options)
			sandbox.Fault(test.fault)
			r := harness.Upload(t, sandbox, test.inputs...)
			if r.Exit != test.exit {
				t.Errorf("exit %d, want %d:\n%s", r.Exit, test.exit, r.Log)
			}
			r.IsHarmless(t)
		})
	}
}

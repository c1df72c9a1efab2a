package image

import (
	"archive/tar"
	"bytes"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// twoImages holds image a as a:1 and image b as b:1 and b:2. They share a
// layer, which engines up to 24 link to where it is used again.
func twoImages() (a, b saved, archive []byte) {
	shared := tarOf(entry{name: "shared", content: []byte("shared")})
	a = newSaved(shared)
	b = newSaved(tarOf(entry{name: "base", content: []byte("base")}), shared)
	toc := entry{name: "manifest.json", content: toJSON([]savedImage{
		{Config: a.id().Hex + ".json", RepoTags: []string{"a:1"}, Layers: []string{"x/layer.tar"}},
		{Config: b.id().Hex + ".json", RepoTags: []string{"b:1", "b:2"}, Layers: []string{"y/layer.tar", "z/layer.tar"}},
	})}
	return a, b, tarOf(
		entry{name: "x/layer.tar", content: a.layers[0]},
		entry{name: "y/layer.tar", content: b.layers[0]},
		entry{name: "z/layer.tar", link: "../x/layer.tar"},
		entry{name: a.id().Hex + ".json", content: a.config},
		entry{name: b.id().Hex + ".json", content: b.config}, toc,
	)
}

func TestDockerArchiveSelects(t *testing.T) {
	a, b, archive := twoImages()
	for selector, want := range map[string]saved{
		":a:1": a, ":b:1": b, ":b:2": b, ":" + a.id().String(): a, ":" + b.id().Hex: b,
		":" + b.id().Hex[:12]: b, ":sha256:" + a.id().Hex[:20]: a,
	} {
		src, err := openArchive(t, "docker-archive:", selector, archive)
		if err != nil {
			t.Errorf("%s: %v", selector, err)
			continue
		}
		if src.Digest != want.id() {
			t.Errorf("%s selects %s, want %s", selector, src.Digest, want.id())
		}
		packed := pack(t, src.Unpacked, PackOptions{})
		if packed.Compressed != len(want.layers) {
			t.Errorf("%s has %d layers, want %d", selector, packed.Compressed, len(want.layers))
		}
	}
	for selector, want := range map[string]string{
		"":                    "holds 2 images; choose one as docker-archive:FILE:TAG|a:1|b:1 b:2|" + a.id().Hex,
		":c:1":                `has no image "c:1"|b:1 b:2`,
		":" + b.id().Hex[:11]: "has no image",
	} {
		_, err := openArchive(t, "docker-archive:", selector, archive)
		wantError(t, err, want)
	}
	_, err := openArchive(t, "", "", archive)
	wantError(t, err, "holds 2 images; choose one")
}

func TestDockerArchiveDescribes(t *testing.T) {
	image := example()
	archive := tarOf(image.podman()...)
	src, err := openArchive(t, "docker-archive:", "", archive)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("linux/arm64/v8", src.Unpacked.Platform.String()); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(src.Unpacked.DiffIDs, image.diffIDs) || src.Unpacked.Size != int64(len(archive)) {
		t.Errorf("opened as %+v", src.Unpacked)
	}
	if !strings.HasPrefix(src.Name, "docker-archive:") {
		t.Errorf("its name is %q", src.Name)
	}
}

func TestDockerArchiveRefused(t *testing.T) {
	image := newSaved(tarOf(entry{name: "a"}))
	good := image.podman()
	config := image.id().Hex + ".json"
	toc := image.toc(config, nil, []string{image.diffIDs[0].Hex + ".tar"})
	with := func(entries ...entry) []byte { return tarOf(append(slices.Clone(good), entries...)...) }
	without := func(name string, entries ...entry) []byte {
		kept := slices.DeleteFunc(slices.Clone(good), func(e entry) bool { return e.name == name })
		return tarOf(append(kept, entries...)...)
	}
	for name, try := range map[string]struct {
		archive []byte
		want    string
	}{
		"two tables of contents":    {with(toc), `two files named "manifest.json"`},
		"the same, by another name": {with(entry{name: "./x/../manifest.json", content: toc.content}), `two files named "manifest.json"`},
		"two configs":               {with(entry{name: config, content: image.config}), "two files named"},
		"a file and a link":         {with(entry{name: "manifest.json", link: "c"}), "two files named"},
		"no table of contents":      {without("manifest.json"), "has no manifest.json"},
		"a link for one":            {without("manifest.json", entry{name: "manifest.json", link: "c"}), "holds 0 images"},
		"a damaged one":             {without("manifest.json", entry{name: "manifest.json", content: []byte("[")}), "manifest.json is damaged"},
		"an empty one":              {without("manifest.json", entry{name: "manifest.json", content: []byte("[]")}), "holds 0 images"},
		"a huge one":                {without("manifest.json", entry{name: "manifest.json", content: make([]byte, maxDocument+1)}), "larger than 4194304 bytes"},
		"one of too many objects":   {without("manifest.json", entry{name: "manifest.json", content: bytes.Repeat([]byte("{},"), maxObjects+1)}), "more than 20000 objects"},
		"no config":                 {without(config), "has no " + config + "|incomplete"},
		"a damaged config":          {without(config, entry{name: config, content: image.config[1:]}), "has the digest|damaged"},
		"a config that is none":     {without("manifest.json", entry{name: "c", content: []byte("[]")}, image.toc("c", nil, []string{"l"})), "config is damaged"},
		"a config of other layers":  {without("manifest.json", image.toc(config, nil, nil)), "holds 0 layers where its config lists 1"},
		"an absolute name":          {with(entry{name: "/etc/passwd"}), `file "/etc/passwd" leads out of the archive`},
		"a name outside":            {with(entry{name: "x/../../c", content: image.config}), `file "../c" leads out of the archive`},
		"a config outside":          {without("manifest.json", image.toc("../etc/passwd", nil, []string{"x"})), "has no ../etc/passwd"},
		"an absolute link":          {with(entry{name: "a", link: "/etc/passwd"}), `link "a" leads out of the archive, to "/etc/passwd"`},
		"a link outside":            {with(entry{name: "x/a", link: "../../c"}), `link "x/a" leads out of the archive, to "../../c"`},
		"a link to itself":          {without("manifest.json", entry{name: "a", link: "a"}, image.toc(config, nil, []string{"a"})), `layer "a" is a link to another link`},
		"a hard link":               {hardLink(), `its "a" is a hard link`},
		"a long name":               {with(entry{name: strings.Repeat("n/", maxName) + "n"}), "name has more than 1024 bytes"},
		"too many files":            {tooManyFiles(), "more than 20000 files"},
		"a sparse file":             {sparseFile(), "is sparse"},
		"cut short":                 {tarOf(good...)[:700], "damaged, cut short"},
		"no tar":                    {bytes.Repeat([]byte("no tar "), 1000), "no image at all"},
		"damaged gzip":              {gzipped(tarOf(good...))[:60], "unexpected EOF"},
		"zstd that asks for memory": {append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90}, make([]byte, 1024)...), "window size exceeded"},
		"damaged xz":                {[]byte("\xfd7zXZ\x00 and so on"), "can't be decompressed from xz"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openArchive(t, "docker-archive:", "", try.archive)
			wantError(t, err, "docker-archive:|"+try.want)
		})
	}
}

func tooManyFiles() []byte {
	entries := make([]entry, maxEntries+1)
	for i := range entries {
		entries[i].name = string(rune('a'+i%26)) + strings.Repeat("x", i/26%90) + string(toJSON(i))
	}
	return gzipped(tarOf(entries...))
}

func hardLink() []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "manifest.json"})
	_ = w.Close()
	return out.Bytes()
}

// sparseFile has a terabyte of nothing in the format of GNU tar.
func sparseFile() []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg})
	_ = w.Flush()
	raw := out.Bytes()
	raw[156] = tar.TypeGNUSparse
	copy(raw[257:], "ustar  \x00")
	copy(raw[386:], "00000000000\x0000000000000\x00")
	copy(raw[483:], "20000000000\x00")
	copy(raw[148:], "        ")
	var check int
	for _, b := range raw[:512] {
		check += int(b)
	}
	for i := 5; i >= 0; i, check = i-1, check>>3 {
		raw[148+i] = byte('0' + check&7)
	}
	raw[154] = 0
	return append(raw, make([]byte, 1024)...)
}

func TestDockerArchiveLayerMissing(t *testing.T) {
	image := example()
	src, err := openArchive(t, "docker-archive:", "", tarOf(slices.DeleteFunc(image.podman(), func(e entry) bool {
		return e.name == image.diffIDs[1].Hex+".tar"
	})...))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Pack(t.Context(), src.Unpacked, PackOptions{})
	wantError(t, err, "layer "+image.diffIDs[1].String()+" is missing")
}

func TestPathRefused(t *testing.T) {
	pipe := t.TempDir() + "/pipe"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for text, want := range map[string]string{
		dir + "/no.rock":                "there is no " + dir + "/no.rock here",
		"oci:" + dir + "/no":            "there is no",
		"docker-archive:" + dir + "/no": "there is no",
		"oci-archive:" + dir + "/no":    "there is no",
		dir:                             "has no index.json, so it is no OCI layout",
		"docker-archive:" + dir:         "is no regular file",
		pipe:                            "is no regular file",
		"oci-archive:" + pipe:           "is no regular file",
		tempFile(t, "empty.rock", nil):  "neither a rock or other OCI archive|nor a docker archive",
		tempFile(t, "text.rock", []byte("hello, this is text")): "no image at all",
	} {
		_, err := openText(t, text)
		wantError(t, err, want)
	}
	if _, err := os.Stat(pipe); err != nil {
		t.Fatal(err)
	}
}

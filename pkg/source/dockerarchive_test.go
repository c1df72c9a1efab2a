package source

import (
	"archive/tar"
	"bytes"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

// twoImages holds image a as a:1 and image b as b:1 and b:2. They share a
// layer, which engines up to 24 link to where it is used again.
func twoImages() (a, b imagetest.Saved, archive []byte) {
	shared := imagetest.Tar(imagetest.Entry{Name: "shared", Content: []byte("shared")})
	a = imagetest.NewSaved(shared)
	b = imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "base", Content: []byte("base")}), shared)
	toc := imagetest.Entry{Name: "manifest.json", Content: imagetest.JSON([]savedImage{
		{Config: a.ID().Hex + ".json", RepoTags: []string{"a:1"}, Layers: []string{"x/layer.tar"}},
		{Config: b.ID().Hex + ".json", RepoTags: []string{"b:1", "b:2"}, Layers: []string{"y/layer.tar", "z/layer.tar"}},
	})}
	return a, b, imagetest.Tar(
		imagetest.Entry{Name: "x/layer.tar", Content: a.Layers[0]},
		imagetest.Entry{Name: "y/layer.tar", Content: b.Layers[0]},
		imagetest.Entry{Name: "z/layer.tar", Link: "../x/layer.tar"},
		imagetest.Entry{Name: a.ID().Hex + ".json", Content: a.Config},
		imagetest.Entry{Name: b.ID().Hex + ".json", Content: b.Config}, toc,
	)
}

func TestDockerArchiveSelects(t *testing.T) {
	a, b, archive := twoImages()
	for selector, want := range map[string]imagetest.Saved{
		":a:1": a, ":b:1": b, ":b:2": b, ":" + a.ID().String(): a, ":" + b.ID().Hex: b,
		":" + b.ID().Hex[:12]: b, ":sha256:" + a.ID().Hex[:20]: a,
	} {
		src, err := openArchive(t, "docker-archive:", selector, archive)
		if err != nil {
			t.Errorf("%s: %v", selector, err)
			continue
		}
		if src.Identity().Digest() != want.ID() {
			t.Errorf("%s selects %s, want %s", selector, src.Identity().Digest(), want.ID())
		}
		if !slices.Equal(unpackedOf(src).DiffIDs, want.DiffIDs) {
			t.Errorf("%s has the layers %v, want %v", selector, unpackedOf(src).DiffIDs, want.DiffIDs)
		}
	}
	for selector, want := range map[string]string{
		"":                    "holds 2 images; choose one as docker-archive:FILE:TAG|a:1|b:1 b:2|" + a.ID().Hex,
		":c:1":                `has no image "c:1"|b:1 b:2`,
		":" + b.ID().Hex[:11]: "has no image",
	} {
		_, err := openArchive(t, "docker-archive:", selector, archive)
		imagetest.WantError(t, err, want)
	}
	_, err := openArchive(t, "", "", archive)
	imagetest.WantError(t, err, "holds 2 images; choose one")
}

func TestDockerArchiveDescribes(t *testing.T) {
	image := imagetest.Example()
	archive := imagetest.Tar(image.Podman()...)
	src, err := openArchive(t, "docker-archive:", "", archive)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("linux/arm64/v8", unpackedOf(src).Platform.String()); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(unpackedOf(src).DiffIDs, image.DiffIDs) || unpackedOf(src).Size != int64(len(archive)) {
		t.Errorf("opened as %+v", unpackedOf(src))
	}
}

func TestDockerArchiveRefused(t *testing.T) {
	image := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "a"}))
	good := image.Podman()
	config := image.ID().Hex + ".json"
	toc := image.Contents(config, nil, []string{image.DiffIDs[0].Hex + ".tar"})
	with := func(entries ...imagetest.Entry) []byte {
		return imagetest.Tar(append(slices.Clone(good), entries...)...)
	}
	without := func(name string, entries ...imagetest.Entry) []byte {
		kept := slices.DeleteFunc(slices.Clone(good), func(e imagetest.Entry) bool { return e.Name == name })
		return imagetest.Tar(append(kept, entries...)...)
	}
	for name, try := range map[string]struct {
		archive []byte
		want    string
	}{
		"two tables of contents": {with(toc), `two files named "manifest.json"`},
		"the same, by another name": {with(imagetest.Entry{Name: "./x/../manifest.json", Content: toc.Content}),
			`two files named "manifest.json"`},
		"two configs":          {with(imagetest.Entry{Name: config, Content: image.Config}), "two files named"},
		"a file and a link":    {with(imagetest.Entry{Name: "manifest.json", Link: "c"}), "two files named"},
		"no table of contents": {without("manifest.json"), "no manifest.json, so no docker archive"},
		"a link for one": {without("manifest.json", imagetest.Entry{Name: "manifest.json", Link: "c"}),
			"holds 0 images"},
		"a damaged one": {without("manifest.json", imagetest.Entry{Name: "manifest.json", Content: []byte("[")}),
			"manifest.json is damaged"},
		"an empty one": {without("manifest.json", imagetest.Entry{Name: "manifest.json", Content: []byte("[]")}),
			"holds 0 images"},
		"a huge one": {without("manifest.json", imagetest.Entry{Name: "manifest.json",
			Content: make([]byte, maxManifest+1)}), "larger than 4194304 bytes"},
		"one of too many values": {without("manifest.json", imagetest.Entry{Name: "manifest.json",
			Content: bytes.Repeat([]byte("{},"), manifestLimit.values)}), "more than 20000 values"},
		"no config": {without(config), "has no " + config + "|incomplete"},
		"a damaged config": {without(config, imagetest.Entry{Name: config, Content: image.Config[1:]}),
			"has the digest|damaged"},
		"a config that is none": {without("manifest.json", imagetest.Entry{Name: "c", Content: []byte("[]")},
			image.Contents("c", nil, []string{"l"})), "config is damaged"},
		"a config of other layers": {without("manifest.json", image.Contents(config, nil, nil)),
			"has 0 layers where its config lists 1"},
		"an absolute name": {with(imagetest.Entry{Name: "/etc/passwd"}),
			`file "/etc/passwd" leads out of the archive`},
		"a name outside": {with(imagetest.Entry{Name: "x/../../c", Content: image.Config}),
			`file "../c" leads out of the archive`},
		"a config outside": {without("manifest.json", image.Contents("../etc/passwd", nil, []string{"x"})),
			"has no ../etc/passwd"},
		"an absolute link": {with(imagetest.Entry{Name: "a", Link: "/etc/passwd"}),
			`link "a" leads out of the archive, to "/etc/passwd"`},
		"a link outside": {with(imagetest.Entry{Name: "x/a", Link: "../../c"}),
			`link "x/a" leads out of the archive, to "../../c"`},
		"a link to itself": {without("manifest.json", imagetest.Entry{Name: "a", Link: "a"},
			image.Contents(config, nil, []string{"a"})), `layer "a" is a link to another link`},
		"a hard link": {hardLink(), `"a" in the archive is a hard link`},
		"a long name": {with(imagetest.Entry{Name: strings.Repeat("n/", maxName) + "n"}),
			"name has more than 1024 bytes"},
		"too many files": {tooManyFiles(), "more than 20000 files"},
		"a sparse file":  {sparseFile(), "is sparse"},
		"cut short":      {imagetest.Tar(good...)[:700], "damaged, cut short"},
		"no tar":         {bytes.Repeat([]byte("no tar "), 1000), "no image at all"},
		"damaged gzip":   {imagetest.Gzip(imagetest.Tar(good...))[:60], "unexpected EOF"},
		"zstd that asks for memory": {append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90}, make([]byte, 1024)...),
			"window size exceeded"},
		"damaged xz": {[]byte("\xfd7zXZ\x00 and so on"), "cannot decompress the content from xz"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := openArchive(t, "docker-archive:", "", try.archive)
			imagetest.WantError(t, err, "docker-archive:|"+try.want)
		})
	}
}

// tooManyFiles returns an archive with one entry more than is allowed.
func tooManyFiles() []byte {
	entries := make([]imagetest.Entry, maxEntries+1)
	for i := range entries {
		entries[i].Name = string(rune('a'+i%26)) + strings.Repeat("x", i/26%90) + string(imagetest.JSON(i))
	}
	return imagetest.Gzip(imagetest.Tar(entries...))
}

// hardLink returns an archive in which an entry is a hard link to the manifest.
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

func TestPathRefused(t *testing.T) {
	pipe := t.TempDir() + "/pipe"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for text, want := range map[string]string{
		dir + "/no.rock":                         "cannot find " + dir + "/no.rock: ",
		"oci:" + dir + "/no":                     "cannot find",
		"docker-archive:" + dir + "/no":          "cannot find",
		"oci-archive:" + dir + "/no":             "cannot find",
		dir:                                      "no index.json, so no OCI layout",
		"docker-archive:" + dir:                  "not a regular file",
		pipe:                                     "not a regular file",
		"oci-archive:" + pipe:                    "not a regular file",
		imagetest.TempFile(t, "empty.rock", nil): "neither a rock or other OCI archive|nor a docker archive",
		imagetest.TempFile(t, "text.rock", []byte("hello, this is text")): "no image at all",
	} {
		_, err := openText(t, text)
		imagetest.WantError(t, err, want)
	}
	if _, err := os.Stat(pipe); err != nil {
		t.Fatal(err)
	}
}

package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

func TestLayoutEveryForm(t *testing.T) {
	l, root := imagetest.Rich()
	for text, archive := range map[string][]byte{
		"a.tar": l.Tar(), "a.rock": l.Tar(), "a.tar.gz": imagetest.Gzip(l.Tar()), "a.tar.zst": imagetest.Zstd(l.Tar()),
		"": nil,
	} {
		path, transport := l.Folder(t), "oci:"
		if text != "" {
			path, transport = imagetest.TempFile(t, text, archive), "oci-archive:"
		}
		for _, ref := range []string{path, transport + path, transport + path + ":latest", transport + path + ":" +
			root.Digest.String()} {
			src, err := openText(t, ref)
			if err != nil {
				t.Errorf("%s: %v", ref, err)
				continue
			}
			if unpackedOf(src) != nil || src.Identity().Digest() != root.Digest {
				t.Errorf("%s: opened as %+v", ref, src)
			}
			imagetest.SameTree(t, imageOf(t, src), l)
		}
	}
}

func TestLayoutSelects(t *testing.T) {
	l := imagetest.NewLayout()
	a, b := l.Image("linux/amd64"), l.Image("linux/arm64")
	dir := l.Of(imagetest.Annotate(a, refName, "a"), imagetest.Annotate(b, refName, "b")).Folder(t)
	for selector, want := range map[string]v1.Hash{":a": a.Digest, ":b": b.Digest, ":" + b.Digest.String(): b.Digest} {
		src, err := openText(t, "oci:"+dir+selector)
		if err != nil || src.Identity().Digest() != want {
			t.Errorf("%s selects %+v, %v", selector, src, err)
		}
	}
	for selector, want := range map[string]string{
		"":   "holds 2 images; choose one by adding a colon|" + a.Digest.String() + " a, " + b.Digest.String() + " b",
		":c": `has no image "c"; choose from `,
	} {
		_, err := openText(t, "oci:"+dir+selector)
		imagetest.WantError(t, err, want)
	}
	named := l.Of(imagetest.Annotate(a, refName, "1.0"), imagetest.Annotate(a, refName, "latest")).Folder(t)
	if src, err := openText(t, named); err != nil || src.Identity().Digest() != a.Digest {
		t.Errorf("one image of two names: %+v, %v", src, err)
	}
	_, err := openText(t, l.Of().Folder(t))
	imagetest.WantError(t, err, "lists nothing")
}

// TestLayoutOfOras: oras lists every manifest that it copies: the image or index, what an index lists, and with -r the
// referrers of all of them.
func TestLayoutOfOras(t *testing.T) {
	l := imagetest.NewLayout()
	empty := l.Blob(types.OCIEmptyJSON, []byte("{}"))
	referrer := func(subject v1.Descriptor, content string) v1.Descriptor {
		return l.Blob(types.OCIManifestSchema1, imagetest.JSON(v1.Manifest{
			SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: empty, Subject: &subject,
			Layers: []v1.Descriptor{l.Blob("application/spdx+json", []byte(content))},
		}))
	}
	named := func(d v1.Descriptor, name string) v1.Descriptor { return imagetest.Annotate(d, refName, name) }
	a, b := l.Image("linux/amd64"), imagetest.WithPlatform(l.Image("linux/arm64"), "linux/arm64")
	sbom := referrer(a, "an SBOM")
	signature := referrer(sbom, "a signature of the SBOM")
	index := l.Index(imagetest.WithPlatform(a, "linux/amd64"), b)
	lost := referrer(a, "not copied")
	delete(l, imagetest.BlobName(lost.Digest))
	for name, test := range map[string]struct {
		listed []v1.Descriptor
		want   v1.Hash
		err    string
	}{
		"image and referrers": {[]v1.Descriptor{signature, named(a, "1.0"), sbom}, a.Digest, ""},
		"image without name":  {[]v1.Descriptor{sbom, a}, a.Digest, ""},
		"referrer with name": {[]v1.Descriptor{named(sbom, "sha256-1.sbom"), named(a, "1.0"), named(a, "latest")},
			a.Digest, ""},
		"index, its images, referrers": {[]v1.Descriptor{b, sbom, named(index, "1.0"), a, signature}, index.Digest, ""},
		"list of a tag's referrers": {[]v1.Descriptor{named(l.Index(sbom), "sha256-"+a.Digest.Hex), named(a, "1.0"),
			sbom}, a.Digest, ""},
		"image of another's name": {[]v1.Descriptor{named(l.Index(b), "sha256-"+b.Digest.Hex), named(a, "1.0")},
			v1.Hash{}, "holds 2 images; choose one"},
		"referrer alone":            {[]v1.Descriptor{sbom}, sbom.Digest, ""},
		"two images and a referrer": {[]v1.Descriptor{a, sbom, b}, v1.Hash{}, "holds 2 images; choose one"},
		"index and image that is named": {[]v1.Descriptor{named(index, "1.0"), named(b, "arm")}, v1.Hash{},
			"holds 2 images; choose one"},
		"referrers alone":           {[]v1.Descriptor{sbom, signature}, v1.Hash{}, "holds 2 images; choose one"},
		"manifest that isn't there": {[]v1.Descriptor{a, lost}, v1.Hash{}, "holds 2 images; choose one"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := l.Of(test.listed...).Folder(t)
			src, err := openText(t, "oci:"+dir)
			if test.err != "" {
				imagetest.WantError(t, err, test.err)
			} else if err != nil || src.Identity().Digest() != test.want {
				t.Errorf("opened %+v, %v", src, err)
			}
			if src, err := openText(t, "oci:"+dir+":"+test.listed[0].Digest.String()); err != nil ||
				src.Identity().Digest() != test.listed[0].Digest {
				t.Errorf("chosen by digest: %+v, %v", src, err)
			}
		})
	}
	_, err := openText(t, "oci:"+l.Of(a, sbom, b).Folder(t)+":none")
	imagetest.WantError(t, err, `has no image "none"; choose from `+a.Digest.String()+", "+b.Digest.String())
}

func TestLayoutRefusedAtOpen(t *testing.T) {
	l := imagetest.NewLayout()
	image := l.Image("linux/amd64")
	helm := image
	helm.MediaType = "application/vnd.cncf.helm.config.v1+json"
	for name, try := range map[string]struct {
		index []byte
		want  string
	}{
		"unknown media type": {imagetest.JSON(v1.IndexManifest{Manifests: []v1.Descriptor{helm}}),
			`of type "application/vnd.cncf.helm.config.v1+json"`},
		"no JSON": {[]byte("index"), "index.json is damaged"},
		"no digest": {[]byte(`{"manifests":[{"mediaType":"` + string(types.OCIManifestSchema1) +
			`","digest":"sha256:../../etc/passwd"}]}`), "index.json is damaged"},
		"huge": {bytes.Repeat([]byte(" "), maxManifest+1), "cannot read index.json: larger than"},
		"too many values": {[]byte(`{"manifests":[` + strings.Repeat("{},", manifestLimit.values) + `{}]}`),
			"more than 20000 values"},
	} {
		l["index.json"] = try.index
		for _, ref := range []string{"oci:" + l.Folder(t), "oci-archive:" + imagetest.TempFile(t, "a.tar", l.Tar())} {
			t.Run(name, func(t *testing.T) {
				_, err := openText(t, ref)
				imagetest.WantError(t, err, try.want)
			})
		}
	}
	l.Of(image)
	_, err := openArchive(t, "oci-archive:", "", imagetest.Tar(
		imagetest.Entry{Name: "index.json", Content: l["index.json"]}, imagetest.Entry{Name: "./index.json",
			Content: []byte("{}")}))
	imagetest.WantError(t, err, `two files named "index.json"`)
	_, err = openArchive(t, "oci-archive:", "", l.Tar()[:520])
	imagetest.WantError(t, err, "damaged, cut short")
	_, err = openArchive(t, "oci-archive:", "", imagetest.Tar(imagetest.Entry{Name: "x"}))
	imagetest.WantError(t, err, "no index.json, so no OCI layout")
}

func TestLayoutDamaged(t *testing.T) {
	open := func(change func(l imagetest.Layout, image v1.Descriptor)) error {
		l := imagetest.NewLayout()
		image := l.Image("linux/amd64")
		change(l.Of(image), image)
		src, err := openText(t, l.Folder(t))
		if err != nil {
			return err
		}
		return readAll(imageOf(t, src))
	}
	manifestOf := func(l imagetest.Layout, image v1.Descriptor) (m v1.Manifest) {
		if err := json.Unmarshal(l[imagetest.BlobName(image.Digest)], &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, try := range map[string]struct {
		change func(l imagetest.Layout, image v1.Descriptor)
		want   string
	}{
		"missing manifest": {func(l imagetest.Layout, d v1.Descriptor) { delete(l, imagetest.BlobName(d.Digest)) },
			"is listed, but not there"},
		"changed manifest": {func(l imagetest.Layout, d v1.Descriptor) { l[imagetest.BlobName(d.Digest)][1] ^= 1 },
			"has the digest|damaged"},
		"shortened manifest": {func(l imagetest.Layout, d v1.Descriptor) { l[imagetest.BlobName(d.Digest)] = []byte("{}") },
			"has 2 bytes where"},
		"wrong size of it": {func(l imagetest.Layout, d v1.Descriptor) { d.Size++; l.Of(d) },
			"are declared: the image is damaged"},
		"a huge manifest": {func(l imagetest.Layout, _ v1.Descriptor) {
			l.Of(l.Blob(types.OCIManifestSchema1, make([]byte, maxManifest+1)))
		}, "larger than 4194304 bytes"},
		"missing config": {func(l imagetest.Layout, d v1.Descriptor) {
			delete(l, imagetest.BlobName(manifestOf(l, d).Config.Digest))
		}, "is listed, but not there"},
		"changed config": {func(l imagetest.Layout, d v1.Descriptor) {
			l[imagetest.BlobName(manifestOf(l, d).Config.Digest)][3] ^= 1
		}, "has the digest"},
		"missing layer": {func(l imagetest.Layout, d v1.Descriptor) {
			delete(l, imagetest.BlobName(manifestOf(l, d).Layers[0].Digest))
		}, "is listed, but not there"},
		"shortened layer": {func(l imagetest.Layout, d v1.Descriptor) {
			l[imagetest.BlobName(manifestOf(l, d).Layers[0].Digest)] = nil
		}, "has 0 bytes where"},
	} {
		t.Run(name, func(t *testing.T) { imagetest.WantError(t, open(try.change), try.want) })
	}
}

// TestLinkedBlobs: some build tools write each file once, and links to it.
func TestLinkedBlobs(t *testing.T) {
	l, root := imagetest.Rich()
	linked := []imagetest.Entry{}
	for i, name := range slices.Sorted(maps.Keys(l)) {
		stored, link := "store/"+strconv.Itoa(i), strings.Repeat("../", strings.Count(name, "/"))
		linked = append(linked, imagetest.Entry{Name: name, Link: link + "links/" + strconv.Itoa(i)},
			imagetest.Entry{Name: "links/" + strconv.Itoa(i), Link: "../" + stored},
			imagetest.Entry{Name: stored, Content: l[name]})
	}
	for _, archive := range [][]byte{imagetest.Tar(linked...), imagetest.Gzip(imagetest.Tar(linked...))} {
		for _, kind := range []string{"", "oci-archive:"} {
			src, err := openArchive(t, kind, "", archive)
			if err != nil || src.Identity().Digest() != root.Digest {
				t.Errorf("%q opened as %+v, %v", kind, src, err)
				continue
			}
			imagetest.SameTree(t, imageOf(t, src), l)
		}
	}
	for want, entry := range map[string]imagetest.Entry{
		"no index.json": {Name: "index.json", Link: "blobs"},
		"index.json leads to too many other links": {Name: "index.json", Link: "blobs/../index.json"},
	} {
		_, err := openArchive(t, "oci-archive:", "", imagetest.Tar(imagetest.Entry{Name: "blobs/a"}, entry))
		imagetest.WantError(t, err, want)
	}
}

// TestCompressedArchiveStream: an archive that is compressed by gzip gives the image's layers in one stream, as often
// as it is asked to, without writing them to disk. What isn't taken from the stream can still be read. The
// decompressors of other formats hold memory for which a layer's may wait, so such archives are decompressed first.
func TestCompressedArchiveStream(t *testing.T) {
	l, root := imagetest.Rich()
	l["blobs/sha256/"+strings.Repeat("a", 64)] = []byte("of another image")
	if src, err := openArchive(t, "", "", imagetest.Zstd(l.Tar())); err != nil {
		t.Error(err)
	} else if _, ok := src.(Streamed); ok {
		t.Error("an archive that is compressed by zstd is streamed")
	}
	src, err := openArchive(t, "", "", imagetest.Gzip(l.Tar()))
	if err != nil {
		t.Fatal(err)
	}
	streamed, ok := src.(*compressedArchive)
	if !ok || !streamed.Local() || src.Identity().Digest() != root.Digest {
		t.Fatalf("opened as %T, %s", src, src.Identity().Digest())
	}
	kept := streamed.content.kept.file.Size()
	for range 2 {
		given := 0
		err := streamed.Stream(t.Context(), func(d v1.Descriptor, content io.Reader) {
			raw, err := io.ReadAll(content)
			if err != nil || int64(len(raw)) != d.Size || imagetest.Sum(raw) != d.Digest {
				t.Errorf("%s of %d bytes: read %d, %v", d.Digest, d.Size, len(raw), err)
			}
			given++
		})
		if err != nil || given < 2 {
			t.Fatalf("%d layers, error %v", given, err)
		}
	}
	m := imageOf(t, src)
	if _, err := image.Digests(m); err != nil || streamed.content.spoolFile != nil ||
		streamed.content.kept.file.Size() != kept {
		t.Errorf("error %v, %d bytes kept, %d before", err, streamed.content.kept.file.Size(), kept)
	}
	imagetest.SameTree(t, m, l)
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

// TestLargeConfig: buildpacks put a bill of materials into a label, which is a text full of braces.
func TestLargeConfig(t *testing.T) {
	for name, test := range map[string]struct {
		label string
		want  string
	}{
		"bill of materials": {strings.Repeat(`{"name": "\\a", "of": ["b"]},`, 400_000), ""},
		"too large":         {strings.Repeat("x", image.MaxConfig), "larger than 16777216 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			layer := imagetest.Tar(imagetest.Entry{Name: "a"})
			saved := imagetest.Saved{Layers: [][]byte{layer}, DiffIDs: []v1.Hash{imagetest.Sum(layer)}}
			saved.Config = imagetest.JSON(map[string]any{
				"architecture": "arm64", "os": "linux", "config": map[string]any{"Labels": map[string]string{"bom": test.label}},
				"rootfs": map[string]any{"type": "layers", "diff_ids": saved.DiffIDs},
			})
			l := imagetest.NewLayout()
			l.Of(l.Blob(types.OCIManifestSchema1, imagetest.JSON(v1.Manifest{
				SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: l.Blob(types.OCIConfigJSON, saved.Config),
				Layers: []v1.Descriptor{l.Blob(types.OCIUncompressedLayer, layer)},
			})))
			src, err := openText(t, l.Folder(t))
			if err == nil {
				_, err = image.Platforms(imageOf(t, src))
			}
			errs := map[string]error{"OCI layout": err}
			src, err = openArchive(t, "docker-archive:", "", imagetest.Tar(saved.DockerNew()...))
			if err == nil {
				err = readLayers(t, unpackedOf(src))
			}
			errs["docker archive"] = err
			engine := &fakeEngine{images: map[string]fakeImage{saved.ID().String(): graphDriver(saved)}}
			engine.start(t)
			if src, err = openText(t, saved.ID().String()); err == nil {
				err = readLayers(t, unpackedOf(src))
			}
			errs["engine"] = err
			for from, err := range errs {
				switch {
				case test.want != "":
					imagetest.WantError(t, err, test.want)
				case err != nil:
					t.Errorf("%s: %v", from, err)
				}
			}
		})
	}
}

// readAll reads all of an image but the content of its layers.
func readAll(m image.ImageOrIndex) error {
	image := m.(v1.Image)
	if _, err := image.RawManifest(); err != nil {
		return err
	}
	if _, err := image.ConfigFile(); err != nil {
		return err
	}
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			return err
		}
		_ = content.Close()
	}
	return nil
}

// A folder's links lead nowhere but into the folder itself.
func TestLayoutFolderKeepsInside(t *testing.T) {
	l := imagetest.NewLayout()
	image := l.Image("linux/amd64")
	dir := l.Of(image).Folder(t)
	manifest := filepath.Join(dir, filepath.FromSlash(imagetest.BlobName(image.Digest)))
	outside := imagetest.TempFile(t, "outside", l[imagetest.BlobName(image.Digest)])
	if err := errors.Join(os.Remove(manifest), os.Symlink(outside, manifest)); err != nil {
		t.Fatal(err)
	}
	_, err := openText(t, dir)
	imagetest.WantError(t, err, "is a symbolic link that leads out of "+dir)

	if err := errors.Join(os.Remove(manifest), syscall.Mkfifo(manifest, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = openText(t, dir)
	imagetest.WantError(t, err, "not a regular file")
}

func TestRecognise(t *testing.T) {
	image := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "a"}))
	l := imagetest.NewLayout()
	compressed := l.Blob(types.OCILayer, imagetest.Gzip(image.Layers[0]))
	config := l.Blob(types.OCIConfigJSON, image.Config)
	manifest := l.Blob(types.OCIManifestSchema1,
		imagetest.JSON(v1.Manifest{SchemaVersion: 2, Config: config, Layers: []v1.Descriptor{compressed}}))
	l.Of(manifest)
	rock := l.Tar()
	l["manifest.json"] = image.Contents(imagetest.BlobName(config.Digest), nil,
		[]string{imagetest.BlobName(compressed.Digest)}).Content
	containerd := l.Tar()
	l["manifest.json"] = image.Contents("blobs/sha256/absent", nil, nil).Content
	otherPlatform := l.Tar()
	l["manifest.json"] = []byte("[]")
	none := l.Tar()
	l["manifest.json"] = []byte("[{},{}]")
	several := l.Tar()
	for name, try := range map[string]struct {
		path string
		want Kind
	}{
		"rock":            {imagetest.TempFile(t, "a", rock), KindOCIArchive},
		"rock, gzip":      {imagetest.TempFile(t, "a", imagetest.Gzip(rock)), KindOCIArchive},
		"docker up to 24": {imagetest.TempFile(t, "a", imagetest.Tar(image.DockerOld()...)), KindDockerArchive},
		"docker from 25":  {imagetest.TempFile(t, "a", imagetest.Tar(image.DockerNew()...)), KindDockerArchive},
		"docker from 25, gzip": {imagetest.TempFile(t, "a", imagetest.Gzip(imagetest.Tar(image.DockerNew()...))),
			KindDockerArchive},
		"containerd":              {imagetest.TempFile(t, "a", containerd), KindOCIArchive},
		"containerd, zstd":        {imagetest.TempFile(t, "a", imagetest.Zstd(containerd)), KindOCIArchive},
		"of another platform":     {imagetest.TempFile(t, "a", otherPlatform), KindOCIArchive},
		"without docker's images": {imagetest.TempFile(t, "a", none), KindOCIArchive},
		"several of docker's":     {imagetest.TempFile(t, "a", several), KindDockerArchive},
	} {
		file, err := openTar(workspace.Workspace{}, try.path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := recognise(t.Context(), file)
		if err != nil || got != try.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, try.want)
		}
		_ = file.Close()
	}
}

func TestOpenRefusesIndexes(t *testing.T) {
	l := imagetest.NewLayout()
	large := l.Image("linux/amd64")
	large.Size = 8<<20 + 1
	for want, root := range map[string]v1.Descriptor{
		"indexes are nested more than 8 deep":            endless(l),
		"the manifests in the index have more than 1677": l.Index(large, imagetest.Annotate(large, "n", "1")),
	} {
		_, err := openArchive(t, "oci-archive:", "", l.Of(root).Tar())
		imagetest.WantError(t, err, want)
	}
}

// endless returns an index that lists a smaller one hundred times, and so on
// for ten levels, with no image at the end.
func endless(l imagetest.Layout) v1.Descriptor {
	d := l.Index()
	for range 10 {
		children := make([]v1.Descriptor, 100)
		for i := range children {
			children[i] = imagetest.Annotate(d, "n", strconv.Itoa(i))
		}
		d = l.Index(children...)
	}
	return d
}

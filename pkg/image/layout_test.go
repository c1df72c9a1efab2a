package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// rich is a layout with what other tools tend to lose: nested indexes, an
// attestation, layers of every kind, annotations and fields that nobody knows.
func rich() (l ociFiles, root v1.Descriptor) {
	l = newLayout()
	foreign := v1.Descriptor{MediaType: types.DockerForeignLayer, Digest: sum([]byte("not here")), Size: 8, URLs: []string{"https://example.com/layer"}}
	arm := l.image("linux/arm64/v8", l.blob(types.OCILayerZStd, []byte("layer")), foreign)
	attestation := annotated(withPlatform(l.image("unknown/unknown", l.blob("application/vnd.in-toto+json", []byte("{}"))),
		"unknown/unknown"), "vnd.docker.reference.type", "attestation-manifest")
	nested := l.index(withPlatform(arm, "linux/arm64/v8"), attestation)
	windows := withPlatform(l.image("windows/amd64:10.0.14393"), "windows/amd64:10.0.14393")
	raw := toJSON(v1.IndexManifest{
		SchemaVersion: 2, MediaType: ociIndex, Annotations: map[string]string{"org.example": "kept"},
		Manifests: []v1.Descriptor{l.image("linux/amd64"), nested, windows},
	})
	raw = bytes.Replace(raw, []byte("{"), []byte("{ \n\t\"io.example.unknown\": [1, 2],"), 1)
	root = l.blob(ociIndex, raw)
	return l.of(annotated(root, refName, "latest")), root
}

func TestLayoutEveryForm(t *testing.T) {
	l, root := rich()
	for text, archive := range map[string][]byte{
		"a.tar": l.tar(), "a.rock": l.tar(), "a.tar.gz": gzipped(l.tar()), "a.tar.zst": zstandard(l.tar()), "": nil,
	} {
		path, transport := l.folder(t), "oci:"
		if text != "" {
			path, transport = tempFile(t, text, archive), "oci-archive:"
		}
		for _, ref := range []string{path, transport + path, transport + path + ":latest", transport + path + ":" + root.Digest.String()} {
			src, err := openText(t, ref)
			if err != nil {
				t.Errorf("%s: %v", ref, err)
				continue
			}
			if src.Unpacked != nil || src.Digest != root.Digest || src.Name != ref {
				t.Errorf("%s: opened as %+v", ref, src)
			}
			sameTree(t, src.Addressed, l)
		}
	}
}

// sameTree compares all that can be reached from m with the layout's files.
func sameTree(t *testing.T, m Manifest, l ociFiles) {
	t.Helper()
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.RawManifest()
	if err != nil || !bytes.Equal(raw, l[blobName(digest)]) {
		t.Errorf("the manifest %s became %q, %v", digest, raw, err)
	}
	if size, err := m.Size(); err != nil || size != int64(len(raw)) {
		t.Errorf("its size is %d, %v", size, err)
	}
	switch m := m.(type) {
	case v1.ImageIndex:
		index, err := m.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range index.Manifests {
			sameTree(t, childOf(t, m, d), l)
		}
	case v1.Image:
		sameLayers(t, m, l)
	}
}

func childOf(t *testing.T, index v1.ImageIndex, d v1.Descriptor) Manifest {
	t.Helper()
	if d.MediaType.IsIndex() {
		child, err := index.ImageIndex(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return child
	}
	child, err := index.Image(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return child
}

func sameLayers(t *testing.T, image v1.Image, l ociFiles) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		digest, _ := layer.Digest()
		content, err := layer.Compressed()
		want, ok := l[blobName(digest)]
		if !ok {
			var missing *MissingError
			if !errors.As(err, &missing) || missing.Digest != digest {
				t.Errorf("absent layer %s: %v", digest, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("layer %s: %v", digest, err)
			continue
		}
		got, err := io.ReadAll(content)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("layer %s became %q, %v", digest, got, err)
		}
		_ = content.Close()
	}
}

func TestLayoutSelects(t *testing.T) {
	l := newLayout()
	a, b := l.image("linux/amd64"), l.image("linux/arm64")
	dir := l.of(annotated(a, refName, "a"), annotated(b, refName, "b")).folder(t)
	for selector, want := range map[string]v1.Hash{":a": a.Digest, ":b": b.Digest, ":" + b.Digest.String(): b.Digest} {
		src, err := openText(t, "oci:"+dir+selector)
		if err != nil || src.Digest != want {
			t.Errorf("%s selects %+v, %v", selector, src, err)
		}
	}
	for selector, want := range map[string]string{
		"":   "holds 2 images; choose one by adding a colon|" + a.Digest.String() + " a, " + b.Digest.String() + " b",
		":c": `has no image "c"; it has `,
	} {
		_, err := openText(t, "oci:"+dir+selector)
		wantError(t, err, want)
	}
	named := l.of(annotated(a, refName, "1.0"), annotated(a, refName, "latest")).folder(t)
	if src, err := openText(t, named); err != nil || src.Digest != a.Digest {
		t.Errorf("one image of two names: %+v, %v", src, err)
	}
	_, err := openText(t, l.of().folder(t))
	wantError(t, err, "lists nothing")
}

func TestLayoutRefusedAtOpen(t *testing.T) {
	l := newLayout()
	image := l.image("linux/amd64")
	helm := image
	helm.MediaType = "application/vnd.cncf.helm.config.v1+json"
	for name, try := range map[string]struct {
		index []byte
		want  string
	}{
		"unknown media type": {toJSON(v1.IndexManifest{Manifests: []v1.Descriptor{helm}}), `of type "application/vnd.cncf.helm.config.v1+json"`},
		"no JSON":            {[]byte("index"), "index.json is damaged"},
		"no digest":          {[]byte(`{"manifests":[{"mediaType":"` + string(ociManifest) + `","digest":"sha256:../../etc/passwd"}]}`), "index.json is damaged"},
		"huge":               {bytes.Repeat([]byte(" "), maxDocument+1), "index.json can't be read: it is larger than"},
		"too many objects":   {[]byte(`{"manifests":[` + strings.Repeat("{},", maxObjects) + `{}]}`), "more than 20000 objects"},
	} {
		l["index.json"] = try.index
		for _, ref := range []string{"oci:" + l.folder(t), "oci-archive:" + tempFile(t, "a.tar", l.tar())} {
			t.Run(name, func(t *testing.T) {
				_, err := openText(t, ref)
				wantError(t, err, try.want)
			})
		}
	}
	l.of(image)
	_, err := openArchive(t, "oci-archive:", "", tarOf(
		entry{name: "index.json", content: l["index.json"]}, entry{name: "./index.json", content: []byte("{}")}))
	wantError(t, err, `two files named "index.json"`)
	_, err = openArchive(t, "oci-archive:", "", l.tar()[:520])
	wantError(t, err, "damaged, cut short")
	_, err = openArchive(t, "oci-archive:", "", tarOf(entry{name: "x"}))
	wantError(t, err, "no index.json, so it is no OCI layout")
}

func TestLayoutDamaged(t *testing.T) {
	open := func(change func(l ociFiles, image v1.Descriptor)) error {
		l := newLayout()
		image := l.image("linux/amd64")
		change(l.of(image), image)
		src, err := openText(t, l.folder(t))
		if err != nil {
			return err
		}
		return readAll(src.Addressed)
	}
	manifestOf := func(l ociFiles, image v1.Descriptor) (m v1.Manifest) {
		if err := json.Unmarshal(l[blobName(image.Digest)], &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, try := range map[string]struct {
		change func(l ociFiles, image v1.Descriptor)
		want   string
	}{
		"missing manifest":   {func(l ociFiles, d v1.Descriptor) { delete(l, blobName(d.Digest)) }, "is listed, but not there"},
		"changed manifest":   {func(l ociFiles, d v1.Descriptor) { l[blobName(d.Digest)][1] ^= 1 }, "has the digest|damaged"},
		"shortened manifest": {func(l ociFiles, d v1.Descriptor) { l[blobName(d.Digest)] = []byte("{}") }, "has 2 bytes where"},
		"wrong size of it":   {func(l ociFiles, d v1.Descriptor) { d.Size++; l.of(d) }, "are declared: the image is damaged"},
		"a huge manifest":    {func(l ociFiles, _ v1.Descriptor) { l.of(l.blob(ociManifest, make([]byte, maxDocument+1))) }, "larger than 4194304 bytes"},
		"missing config":     {func(l ociFiles, d v1.Descriptor) { delete(l, blobName(manifestOf(l, d).Config.Digest)) }, "is listed, but not there"},
		"changed config":     {func(l ociFiles, d v1.Descriptor) { l[blobName(manifestOf(l, d).Config.Digest)][3] ^= 1 }, "has the digest"},
		"missing layer":      {func(l ociFiles, d v1.Descriptor) { delete(l, blobName(manifestOf(l, d).Layers[0].Digest)) }, "is listed, but not there"},
		"shortened layer":    {func(l ociFiles, d v1.Descriptor) { l[blobName(manifestOf(l, d).Layers[0].Digest)] = nil }, "has 0 bytes where"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, open(try.change), try.want) })
	}
}

// readAll reads all of an image but the content of its layers.
func readAll(m Manifest) error {
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
	l := newLayout()
	image := l.image("linux/amd64")
	dir := l.of(image).folder(t)
	manifest := filepath.Join(dir, filepath.FromSlash(blobName(image.Digest)))
	outside := tempFile(t, "outside", l[blobName(image.Digest)])
	if err := errors.Join(os.Remove(manifest), os.Symlink(outside, manifest)); err != nil {
		t.Fatal(err)
	}
	_, err := openText(t, dir)
	wantError(t, err, "is a symbolic link that leads out of "+dir)

	if err := errors.Join(os.Remove(manifest), syscall.Mkfifo(manifest, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = openText(t, dir)
	wantError(t, err, "is no regular file")
}

func TestRecognise(t *testing.T) {
	image := newSaved(tarOf(entry{name: "a"}))
	l := newLayout()
	compressed := l.blob(types.OCILayer, gzipped(image.layers[0]))
	config := l.blob(ociConfig, image.config)
	manifest := l.blob(ociManifest, toJSON(v1.Manifest{SchemaVersion: 2, Config: config, Layers: []v1.Descriptor{compressed}}))
	l.of(manifest)
	rock := l.tar()
	l["manifest.json"] = image.toc(blobName(config.Digest), nil, []string{blobName(compressed.Digest)}).content
	containerd := l.tar()
	l["manifest.json"] = image.toc("blobs/sha256/absent", nil, nil).content
	otherPlatform := l.tar()
	l["manifest.json"] = []byte("[]")
	none := l.tar()
	l["manifest.json"] = []byte("[{},{}]")
	several := l.tar()
	for name, try := range map[string]struct {
		path string
		want Kind
	}{
		"rock":                    {tempFile(t, "a", rock), KindOCIArchive},
		"rock, gzip":              {tempFile(t, "a", gzipped(rock)), KindOCIArchive},
		"docker up to 24":         {tempFile(t, "a", tarOf(image.dockerOld()...)), KindDockerArchive},
		"docker from 25":          {tempFile(t, "a", tarOf(image.dockerNew()...)), KindDockerArchive},
		"docker from 25, gzip":    {tempFile(t, "a", gzipped(tarOf(image.dockerNew()...))), KindDockerArchive},
		"containerd":              {tempFile(t, "a", containerd), KindOCIArchive},
		"containerd, zstd":        {tempFile(t, "a", zstandard(containerd)), KindOCIArchive},
		"of another platform":     {tempFile(t, "a", otherPlatform), KindOCIArchive},
		"without docker's images": {tempFile(t, "a", none), KindOCIArchive},
		"several of docker's":     {tempFile(t, "a", several), KindDockerArchive},
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

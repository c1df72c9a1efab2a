package image

import (
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fuzzOpen opens an archive and uses all of it. Whatever it holds, that ends
// in an image or an error.
func fuzzOpen(t *testing.T, transport string, archive []byte) {
	t.Helper()
	src, err := openArchive(t, transport, "", archive)
	if err != nil {
		return
	}
	if src.Unpacked != nil {
		fuzzPack(t, src.Unpacked)
		return
	}
	digest, err := src.Addressed.Digest()
	if err != nil {
		return
	}
	if raw, err := src.Addressed.RawManifest(); err == nil && sum(raw) != digest {
		t.Errorf("a manifest of digest %s passes for %s", sum(raw), digest)
	}
	Missing(src.Addressed)
	_, _ = Platforms(src.Addressed)
	_, _ = Join([]Part{{Manifest: src.Addressed}})
	if selected, err := SelectPlatform(src.Addressed, v1.Platform{OS: "linux"}); err == nil {
		if image, ok := selected.(v1.Image); ok {
			_ = readAll(image)
		}
	}
}

func fuzzPack(t *testing.T, u *Unpacked) {
	t.Helper()
	packed, err := Pack(t.Context(), u, PackOptions{Dir: os.TempDir()})
	if err != nil {
		return
	}
	if name, err := packed.ConfigName(); err != nil || name != u.ID {
		t.Errorf("image %s is packed as %s, %v", u.ID, name, err)
	}
	_ = packed.Close()
}

func FuzzDockerArchive(f *testing.F) {
	image := newSaved(tarOf(entry{name: "a"}), tarOf(entry{name: "b"}))
	_, _, two := twoImages()
	for _, entries := range [][]entry{image.dockerOld(), image.dockerNew(), image.podman(), image.crane(gzipped)} {
		f.Add(tarOf(entries...))
		f.Add(gzipped(tarOf(entries...)))
	}
	f.Add(two)
	f.Add(sparseFile())
	f.Fuzz(func(t *testing.T, archive []byte) {
		fuzzOpen(t, "docker-archive:", archive)
		fuzzOpen(t, "", archive)
	})
}

func FuzzLayout(f *testing.F) {
	l, _ := rich()
	f.Add(l.tar())
	f.Add(zstandard(l.tar()))
	l = newLayout()
	f.Add(l.of(l.image("linux/amd64")).tar())
	f.Add(l.of(l.index(l.index())).tar())
	f.Fuzz(func(t *testing.T, archive []byte) { fuzzOpen(t, "oci-archive:", archive) })
}

// FuzzExport reads what a broken engine might send.
func FuzzExport(f *testing.F) {
	image := newSaved(tarOf(entry{name: "a"}), tarOf(entry{name: "b"}))
	for _, entries := range [][]entry{image.dockerOld(), image.dockerNew(), image.podman()} {
		f.Add(tarOf(entries...))
	}
	f.Fuzz(func(t *testing.T, archive []byte) { fuzzPack(t, image.exportedBy(archive)) })
}

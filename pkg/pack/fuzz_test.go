package pack_test

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/pack"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// fuzzPack packs an image and fails the test if the result has another ID. An image that can't be packed passes.
func fuzzPack(t *testing.T, u *source.Unpacked) {
	t.Helper()
	packed, err := pack.Image(t.Context(), u, pack.Options{})
	if err != nil {
		return
	}
	if name, err := packed.ConfigName(); err != nil || name != u.ID {
		t.Errorf("image %s is packed as %s, %v", u.ID, name, err)
	}
	_ = packed.Close()
}

// FuzzExport reads what a broken engine might send.
func FuzzExport(f *testing.F) {
	example := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "a"}), imagetest.Tar(imagetest.Entry{Name: "b"}))
	for _, entries := range [][]imagetest.Entry{example.DockerOld(), example.DockerNew(), example.Podman()} {
		f.Add(imagetest.Tar(entries...))
	}
	f.Fuzz(func(t *testing.T, archive []byte) { fuzzPack(t, uncompressed(example, archive)) })
}

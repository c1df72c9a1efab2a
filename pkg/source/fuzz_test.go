package source

import (
	"encoding/json"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// fuzzOpen opens an archive and uses all of it. Whatever it holds, that ends
// in an image or an error.
func fuzzOpen(t *testing.T, transport string, archive []byte) {
	t.Helper()
	src, err := openArchive(t, transport, "", archive)
	if err != nil {
		return
	}
	if unpackedOf(src) != nil {
		_ = readLayers(t, unpackedOf(src))
		return
	}
	digest, err := imageOf(t, src).Digest()
	if err != nil {
		return
	}
	if raw, err := imageOf(t, src).RawManifest(); err == nil && imagetest.Sum(raw) != digest {
		t.Errorf("a manifest of digest %s passes for %s", imagetest.Sum(raw), digest)
	}
	image.Missing(imageOf(t, src))
	_, _ = image.Platforms(imageOf(t, src))
	_, _ = image.Join([]image.Part{{Image: imageOf(t, src)}})
	if selected, err := image.SelectPlatform(imageOf(t, src), v1.Platform{OS: "linux"}); err == nil {
		if one, ok := selected.(v1.Image); ok {
			_ = readAll(one)
		}
	}
}

// readLayers reads all of an uncompressed image.
func readLayers(t *testing.T, u *Unpacked) error {
	t.Helper()
	never := func() bool { return false }
	_, err := u.Read(t.Context(), never, func(_ v1.Hash, content io.Reader) error {
		_, err := io.Copy(io.Discard, content)
		return err
	})
	return err
}

func FuzzDockerArchive(f *testing.F) {
	image := imagetest.NewSaved(imagetest.Tar(imagetest.Entry{Name: "a"}), imagetest.Tar(imagetest.Entry{Name: "b"}))
	_, _, two := twoImages()
	for _, entries := range [][]imagetest.Entry{image.DockerOld(), image.DockerNew(), image.Podman(),
		image.Crane(imagetest.Gzip)} {
		f.Add(imagetest.Tar(entries...))
		f.Add(imagetest.Gzip(imagetest.Tar(entries...)))
	}
	f.Add(two)
	f.Add(sparseFile())
	f.Fuzz(func(t *testing.T, archive []byte) {
		fuzzOpen(t, "docker-archive:", archive)
		fuzzOpen(t, "", archive)
	})
}

// FuzzCountValues compares with what a decoder finds.
func FuzzCountValues(f *testing.F) {
	for _, text := range []string{`{}`, `[1,"a,{[\"\\",null,{"b":[true,{}]}]`, `"\\"`, `{"a":"b","c":{"d":[]}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var decoded any
		if json.Unmarshal(raw, &decoded) != nil {
			return
		}
		var want func(any) int
		want = func(value any) (n int) {
			switch value := value.(type) {
			case map[string]any:
				for _, v := range value {
					n += 1 + want(v)
				}
			case []any:
				for _, v := range value {
					n += 1 + want(v)
				}
			}
			return n
		}
		// Of values with the same name in an object, the decoder keeps one.
		if got := countValues(raw); got < want(decoded) || got > len(raw) {
			t.Errorf("%d values, want %d: %s", got, want(decoded), raw)
		}
	})
}

func FuzzLayout(f *testing.F) {
	l, _ := imagetest.Rich()
	f.Add(l.Tar())
	f.Add(imagetest.Zstd(l.Tar()))
	l = imagetest.NewLayout()
	f.Add(l.Of(l.Image("linux/amd64")).Tar())
	f.Add(l.Of(l.Index(l.Index())).Tar())
	f.Fuzz(func(t *testing.T, archive []byte) { fuzzOpen(t, "oci-archive:", archive) })
}

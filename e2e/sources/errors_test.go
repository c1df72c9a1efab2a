package sources

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// broken is an image that can't be uploaded, as the inputs that name it and
// what the one error has to say: which input, what is wrong, what to do.
type broken func(t *testing.T) (inputs, want []string)

// TestBrokenSources: a broken image is reported, and ends the run
// before a manifest went out.
func TestBrokenSources(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]broken{
		"corrupt layer in a layout": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			dir := harness.WriteLayout(t, img)
			blob := harness.BlobFile(dir, harness.FirstLayer(t, img).Digest)
			flip(t, blob)
			return []string{"image=" + dir}, []string{dir, harness.FirstLayer(t, img).Digest.String(), "damaged"}
		},
		"corrupt layer in a rock": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			dir := harness.WriteLayout(t, img)
			flip(t, harness.BlobFile(dir, harness.FirstLayer(t, img).Digest))
			rock := harness.TarDir(t, dir)
			return []string{"image=" + rock}, []string{rock, harness.FirstLayer(t, img).Digest.String(), "damaged"}
		},
		"corrupt layer in a registry": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			image := corruptRegistry(t, img, func(content []byte) []byte {
				content[len(content)/2] ^= 1
				return content
			})
			return []string{"image=" + image}, []string{image, harness.FirstLayer(t, img).Digest.String(), "damaged"}
		},
		"layer that a registry cuts short": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			image := corruptRegistry(t, img, func(content []byte) []byte { return content[:len(content)/2] })
			return []string{"image=" + image}, []string{image, harness.FirstLayer(t, img).Digest.String(), "ends after"}
		},
		"corrupt layer in a docker archive": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			archive := filepath.Join(t.TempDir(), "image.tar")
			one, two := dockerImage(t, "linux/amd64"), dockerImage(t, "linux/amd64")
			if err := tarball.WriteToFile(archive, name.MustParseReference("saved:image"), one); err != nil {
				t.Fatal(err)
			}
			replaceIn(t, archive, harness.FirstLayer(t, one).Digest.Hex+".tar.gz", layerContent(t, two))
			return []string{"image=" + archive}, []string{archive, "layer", "the image is damaged"}
		},
		"corrupt manifest": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			dir := harness.WriteLayout(t, img)
			flip(t, harness.BlobFile(dir, digestIn(t, img)))
			return []string{"image=" + dir}, []string{dir, harness.DigestOfImage(t, img), "the image is damaged"}
		},
		"corrupt config": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			config, err := img.ConfigName()
			if err != nil {
				t.Fatal(err)
			}
			dir := harness.WriteLayout(t, img)
			flip(t, harness.BlobFile(dir, config))
			return []string{"image=" + dir}, []string{dir, config.String(), "the image is damaged"}
		},
		"truncated rock": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			rock := harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))
			truncate(t, rock)
			return []string{"image=" + rock}, []string{rock, "damaged, cut short"}
		},
		"truncated rock with gzip": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			rock := compressed(t, harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64")), "gz")
			truncate(t, rock)
			return []string{"image=" + rock}, []string{rock, "cut short"}
		},
		"truncated docker archive": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			archive := harness.WriteImageArchive(t, 100_000, 1)
			truncate(t, archive)
			return []string{"image=" + archive}, []string{archive, "damaged, cut short"}
		},
		"truncated docker archive with zstd": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			archive := compressed(t, harness.WriteImageArchive(t, 100_000, 1), "zst")
			truncate(t, archive)
			return []string{"image=" + archive}, []string{archive, "cut short"}
		},
		"missing blob": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			dir := harness.WriteLayout(t, img)
			if err := os.Remove(harness.BlobFile(dir, harness.FirstLayer(t, img).Digest)); err != nil {
				t.Fatal(err)
			}
			return []string{"image=" + dir}, []string{dir, harness.FirstLayer(t, img).Digest.String(), "the image is incomplete",
				"again as a whole"}
		},
		"missing platform": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			index := harness.PlatformIndex(t, "linux/amd64", "linux/arm64")
			dir := harness.WriteLayout(t, index)
			if err := os.Remove(filepath.Join(dir, "blobs",
				strings.ReplaceAll(childDigest(t, index, 1), ":", "/"))); err != nil {
				t.Fatal(err)
			}
			return []string{"image=" + dir}, []string{dir, "lists linux/arm64, but doesn't hold it", "input platform"}
		},
		"wrong size of the manifest": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			dir := harness.WriteLayout(t, img)
			size, err := img.Size()
			if err != nil {
				t.Fatal(err)
			}
			edit(t, filepath.Join(dir, "index.json"), `"size": `+strconv.FormatInt(size, 10),
				`"size": `+strconv.FormatInt(size+1, 10))
			return []string{"image=" + dir}, []string{dir, harness.DigestOfImage(t, img), "bytes where", "the image is damaged"}
		},
		"wrong size of a layer": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			dir, digest := resized(t, img)
			return []string{"image=" + dir}, []string{dir, digest, "bytes where", "the image is damaged"}
		},
		"unknown media type": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/amd64")
			dir := harness.WriteLayout(t, img)
			edit(t, filepath.Join(dir, "index.json"), "application/vnd.oci.image.manifest.v1+json",
				"application/vnd.example.novel+json")
			return []string{"image=" + dir}, []string{dir, "application/vnd.example.novel+json", "neither an image nor an index"}
		},
		"two images in a rock": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			one, two := harness.PlatformImage(t, "linux/amd64"), harness.PlatformImage(t, "linux/amd64")
			rock := harness.WriteRock(t, one, two)
			return []string{"image=" + rock}, []string{rock, "holds 2 images", "choose one", harness.DigestOfImage(t, one),
				harness.DigestOfImage(t, two)}
		},
		"two images in a docker archive": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			archive, one, two := twoImages(t)
			return []string{"image=" + archive}, []string{archive, "holds 2 images", "choose one", one, two, "saved:one",
				"saved:two"}
		},
		"image that an archive doesn't hold": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			archive, _, _ := twoImages(t)
			return []string{"image=docker-archive:" + archive + ":saved:three"},
				[]string{archive, `no image "saved:three"`, "saved:one", "saved:two"}
		},
		"unknown platform of an index": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			rock := harness.WriteRock(t, harness.PlatformIndex(t, "linux/amd64", "linux/arm64"))
			return []string{"image=" + rock, "platform=linux/s390x"},
				[]string{rock, "no image for linux/s390x", "linux/amd64, linux/arm64"}
		},
		"unknown platform of an image": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			archive := harness.WriteImageArchive(t, 100, 1)
			return []string{"image=" + archive, "platform=linux/s390x"},
				[]string{archive, "runs on linux/", "not on linux/s390x"}
		},
		"platform of a line that is none": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			return []string{"image=./my.rock platform=arm64"}, []string{"./my.rock platform=arm64", "write os/arch"}
		},
		"platform of an index": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			rock := harness.WriteRock(t, harness.PlatformIndex(t, "linux/amd64", "linux/arm64"))
			return []string{"image=" + rock + " platform=linux/arm64"}, []string{rock, "an index of several images"}
		},
		"two images for one platform": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			one, two := harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64")),
				harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))
			return []string{harness.ImageLines(one, two)}, []string{one, two, "both for linux/amd64", "platform=os/arch/variant"}
		},
		"corrupt layer in one of two": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			img := harness.PlatformImage(t, "linux/arm64")
			dir := harness.WriteLayout(t, img)
			flip(t, harness.BlobFile(dir, harness.FirstLayer(t, img).Digest))
			rock := harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))
			return []string{harness.ImageLines(rock, dir)}, []string{dir, harness.FirstLayer(t, img).Digest.String(), "damaged"}
		},
		"rock in runner.temp":           unseen(""),
		"OCI archive in runner.temp":    unseen("oci-archive:"),
		"docker archive in runner.temp": unseen("docker-archive:"),
		"layout in runner.temp":         unseen("oci:"),
		"folder that is no layout": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			dir := t.TempDir()
			return []string{"image=" + dir}, []string{dir, "no index.json", "no OCI layout"}
		},
		"unknown digest in a registry": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			image := harness.StartRegistry(t) + "/image@" + harness.SomeDigest
			return []string{"image=" + image, harness.NoEngine(t)},
				[]string{image, "opening", "NAME_UNKNOWN", "check that name, tag and digest are right"}
		},
		"registry that isn't there": func(t *testing.T) (inputs, want []string) {
			t.Helper()
			gone := httptest.NewServer(http.NotFoundHandler())
			gone.Close()
			image := strings.TrimPrefix(gone.URL, "http://") + "/image@" + harness.SomeDigest
			return []string{"image=" + image, harness.NoEngine(t)}, []string{image, "connection refused"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inputs, want := spoil(t)
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
			r.Failed(t, sandbox, want...)
			harness.SentNoManifest(t, sandbox)
		})
	}
}

// unseen is a path that the runner's host may have.
func unseen(transport string) broken {
	return func(t *testing.T) (inputs, want []string) {
		t.Helper()
		path := "/home/runner/work/_temp/my.rock"
		return []string{"image=" + transport + path}, []string{
			"cannot find " + path + ": ", "a container action sees the workspace", "runner.temp", "below github.workspace",
		}
	}
}

// TestArchiveOfSeveral: a tag, an ID, or the beginning of one chooses.
func TestArchiveOfSeveral(t *testing.T) {
	t.Parallel()
	archive, one, two := twoImages(t)
	for selector, id := range map[string]string{"saved:one": one, "sha256:" + two: two, two[:12]: two} {
		t.Run(selector, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			inputs := []string{"image=docker-archive:" + archive + ":" + selector}
			first := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
			first.Succeeded(t)
			first.HasOutputs(t, map[string]string{"source-digest": "sha256:" + id, "uploaded": "true"})
			harness.Rerun(t, sandbox, first, inputs...)
		})
	}
}

// twoImages writes a docker archive with the images saved:one and saved:two,
// and returns the hex digits of their IDs.
func twoImages(t *testing.T) (archive, one, two string) {
	t.Helper()
	images := map[name.Reference]v1.Image{}
	var ids []string
	for _, tag := range []name.Reference{name.MustParseReference("saved:one"), name.MustParseReference("saved:two")} {
		img := dockerImage(t, "linux/amd64")
		id, err := img.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		images[tag], ids = img, append(ids, id.Hex)
	}
	archive = filepath.Join(t.TempDir(), "two.tar")
	if err := tarball.MultiRefWriteToFile(archive, images); err != nil {
		t.Fatal(err)
	}
	return archive, ids[0], ids[1]
}

// corruptRegistry serves an image, with its layer as change returns it, and
// returns the image's name there.
func corruptRegistry(t *testing.T, img v1.Image, change func([]byte) []byte) string {
	t.Helper()
	sound := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	layer := harness.FirstLayer(t, img).Digest.String()
	host := strings.TrimPrefix(harness.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/blobs/"+layer) {
			sound.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		sound.ServeHTTP(answer, r)
		w.WriteHeader(answer.Code)
		_, _ = w.Write(change(answer.Body.Bytes()))
	})), "http://")
	return host + "/image@" + harness.Push(t, host+"/image", img)
}

// layerContent returns the compressed content of an image's first layer.
func layerContent(t *testing.T, img v1.Image) []byte {
	t.Helper()
	layer, err := img.LayerByDigest(harness.FirstLayer(t, img).Digest)
	if err != nil {
		t.Fatal(err)
	}
	content, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	all, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// digestIn returns the digest of an image's manifest.
func digestIn(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// flip changes one bit in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	content := []byte(harness.ReadFile(t, path))
	content[len(content)/2] ^= 1
	harness.WriteFile(t, path, string(content))
}

// truncate leaves not quite the first half of a file: a tar that ends between two
// files can't be distinguished from a complete one.
func truncate(t *testing.T, path string) {
	t.Helper()
	content := harness.ReadFile(t, path)
	harness.WriteFile(t, path, content[:len(content)/2-7])
}

// edit replaces text in a file, where it is once.
func edit(t *testing.T, path, from, to string) {
	t.Helper()
	content := harness.ReadFile(t, path)
	if strings.Count(content, from) != 1 {
		t.Fatalf("%s has %q %d times", path, from, strings.Count(content, from))
	}
	harness.WriteFile(t, path, strings.Replace(content, from, to, 1))
}

// resized returns a layout with an image whose manifest gives its layer one
// byte more than it has, and the digest of that layer.
func resized(t *testing.T, img v1.Image) (dir, digest string) {
	t.Helper()
	dir = harness.WriteLayout(t, img)
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	layer := harness.FirstLayer(t, img)
	from, to := `"size":`+strconv.FormatInt(layer.Size, 10), `"size":`+strconv.FormatInt(layer.Size+1, 10)
	changed := bytes.Replace(raw, []byte(from), []byte(to), 1)
	hash := strings.TrimPrefix(harness.DigestOf(changed), "sha256:")
	harness.WriteFile(t, filepath.Join(dir, "blobs", "sha256", hash), string(changed))
	edit(t, filepath.Join(dir, "index.json"), digestIn(t, img).Hex, hash)
	if len(changed) != len(raw) {
		t.Fatal("the manifest has another size now")
	}
	return dir, layer.Digest.String()
}

// replaceIn gives a file in a tar archive other content.
func replaceIn(t *testing.T, archive, file string, content []byte) {
	t.Helper()
	var changed bytes.Buffer
	old, w := tar.NewReader(strings.NewReader(harness.ReadFile(t, archive))), tar.NewWriter(&changed)
	for header, err := old.Next(); !errors.Is(err, io.EOF); header, err = old.Next() {
		if err != nil {
			t.Fatal(err)
		}
		var from io.Reader = old
		if header.Name == file {
			from, header.Size = bytes.NewReader(content), int64(len(content))
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, from); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, archive, changed.String())
}

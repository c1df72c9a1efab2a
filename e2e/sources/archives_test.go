package sources

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestSeveralFilesInALine: actions that pack rocks name all of them in one
// output, with blanks in between.
func TestSeveralFilesInALine(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	one, two := harness.PlatformImage(t, "linux/amd64"), harness.PlatformImage(t, "linux/arm64")
	copyFile(t, harness.WriteRock(t, one), filepath.Join(workspace, "my_amd64.rock"))
	copyFile(t, harness.WriteRock(t, two), filepath.Join(workspace, "my_arm64.rock"))
	copyFile(t, harness.WriteRock(t, two), filepath.Join(workspace, "with blank.rock"))
	joined := harness.ImageLines("my_amd64.rock", "my_arm64.rock")
	for name, test := range map[string]struct {
		input, same string
		failure     string
	}{
		"two":            {"image=my_amd64.rock my_arm64.rock", joined, ""},
		"two, whole":     {"image=" + workspace + "/my_amd64.rock " + workspace + "/my_arm64.rock", joined, ""},
		"a name's blank": {"image=with blank.rock", "image=my_arm64.rock", ""},
		"with a platform": {"image=with blank.rock platform=linux/arm64/v8\nmy_amd64.rock",
			"image=my_arm64.rock platform=linux/arm64/v8\nmy_amd64.rock", ""},
		"one is missing": {"image=my_amd64.rock missing.rock", "", "cannot find my_amd64.rock missing.rock: "},
		"one platform":   {"image=my_amd64.rock my_arm64.rock platform=linux/arm64", "", "names 2 files and one platform"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			inputs := []string{"resource=" + harness.ImageResource, "GITHUB_WORKSPACE=" + workspace}
			r := harness.Upload(t, sandbox, append(inputs, test.input)...)
			if test.failure != "" {
				r.Failed(t, sandbox, test.failure)
				return
			}
			r.Succeeded(t)
			same := harness.Upload(t, sandbox, append(inputs, test.same)...)
			same.Succeeded(t)
			same.HasOutputs(t, map[string]string{"remote-digest": r.Outputs["remote-digest"], "revision-created": "false",
				"uploaded": "false"})
		})
	}
}

// copyFile copies the content of a file.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	harness.WriteFile(t, to, harness.ReadFile(t, from))
}

// apkoTar writes an archive as apko does: what `docker load` reads, then the
// manifests and the index, without the folders of an OCI layout.
func apkoTar(t *testing.T, index v1.ImageIndex) string {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := map[name.Tag]v1.Image{}
	var all []v1.Image
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		tag, err := name.NewTag("my-image:latest-" + d.Platform.Architecture)
		if err != nil {
			t.Fatal(err)
		}
		images[tag] = img
		all = append(all, img)
	}
	var saved bytes.Buffer
	if err := tarball.MultiWrite(images, &saved); err != nil {
		t.Fatal(err)
	}
	return harness.WriteTar(t, "image.tar", func(f harness.Archive) {
		for r := tar.NewReader(&saved); ; {
			header, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			f.Add(header.Name, content)
		}
		for _, img := range all {
			raw, err := img.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			f.Add(harness.DigestOf(raw), raw)
		}
		raw, err := index.RawManifest()
		if err != nil {
			t.Fatal(err)
		}
		f.Add("index.json", raw)
	})
}

// indexLayout writes a layout whose index.json is the index itself, with its
// media type or without, and returns its folder.
func indexLayout(t *testing.T, index v1.ImageIndex, typed bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	if path := filepath.Join(dir, "index.json"); !typed {
		text := harness.ReadFile(t, path)
		without := strings.Replace(text, `"mediaType":"application/vnd.oci.image.index.v1+json",`, "", 1)
		if without == text {
			t.Fatalf("no media type in %s", text)
		}
		harness.WriteFile(t, path, without)
	}
	return dir
}

// TestIndexOfALayout: a layout whose index.json lists one image for each
// platform is one image for all of them.
func TestIndexOfALayout(t *testing.T) {
	t.Parallel()
	index := harness.PlatformIndex(t, "linux/amd64", "linux/arm64")
	raw, err := index.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	for place, test := range map[string]struct{ path, digest string }{
		"layout":  {indexLayout(t, index, true), harness.DigestOf(raw)},
		"archive": {harness.TarDir(t, indexLayout(t, index, true)), harness.DigestOf(raw)},
		"archive, gzip": {compressed(t, harness.TarDir(t, indexLayout(t, index, true)), "gz"),
			harness.DigestOf(raw)},
		"apko":                       {apkoTar(t, index), harness.DigestOf(raw)},
		"layout without media type":  {indexLayout(t, index, false), ""},
		"archive without media type": {harness.TarDir(t, indexLayout(t, index, false)), ""},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			input := "image=" + test.path
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, input)
			r.Succeeded(t)
			if got := r.Outputs["remote-digest"]; test.digest != "" && got != test.digest {
				t.Errorf("published as %s, want index.json's digest %s", got, test.digest)
			}
			harness.RecordedFor(t, sandbox, "amd64", "arm64")
			harness.IsComplete(t, sandbox, r.Outputs["remote-digest"])
			harness.Rerun(t, sandbox, r, input)

			chosen := harness.Upload(t, sandbox, "resource="+harness.ImageResource, input, "platform=linux/arm64")
			chosen.Succeeded(t)
			chosen.HasOutputs(t, map[string]string{"remote-digest": childDigest(t, index, 1), "uploaded": "false"})
			chosen = harness.Upload(t, sandbox, "resource="+harness.ImageResource, input+":"+childDigest(t, index, 0))
			chosen.Succeeded(t)
			chosen.HasOutputs(t, map[string]string{"remote-digest": childDigest(t, index, 0)})
		})
	}
}

// TestApkoForOnePlatform: its image is there, though not where an OCI layout has
// it.
func TestApkoForOnePlatform(t *testing.T) {
	t.Parallel()
	index := harness.PlatformIndex(t, "linux/amd64")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	input := "image=" + apkoTar(t, index)
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, input)
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"remote-digest": childDigest(t, index, 0), "uploaded": "true"})
	harness.IsComplete(t, sandbox, r.Outputs["remote-digest"])
	harness.Rerun(t, sandbox, r, input)
}

// TestChooseImageInArchive: an image among several is chosen in the way that
// the complaint about them gives.
func TestChooseImageInArchive(t *testing.T) {
	t.Parallel()
	workspace := t.TempDir()
	one, two := harness.PlatformImage(t, "linux/amd64"), dockerImage(t, "linux/amd64")
	digest, err := two.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"dir", "dir with blank"} {
		path, err := layout.FromPath(harness.WriteLayout(t))
		if err != nil {
			t.Fatal(err)
		}
		for tag, img := range map[string]v1.Image{"one": one, "registry/two:2.0": two} {
			if err := path.AppendImage(img,
				layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.CopyFS(filepath.Join(workspace, dir), os.DirFS(string(path))); err != nil {
			t.Fatal(err)
		}
		copyFile(t, harness.TarDir(t, string(path)), filepath.Join(workspace, dir+".rock"))
	}
	inputs := []string{"resource=" + harness.ImageResource, "GITHUB_WORKSPACE=" + workspace}
	for _, path := range []string{
		"./dir", "oci:dir", workspace + "/dir", "./dir with blank", "oci:dir with blank",
		"dir.rock", "./dir.rock", "oci-archive:dir.rock", "dir with blank.rock", "oci-archive:dir with blank.rock",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, append(inputs, "image="+path)...)
			r.Failed(t, sandbox, "holds 2 images; choose one by adding a colon and its name or digest",
				digest.String()+" registry/two:2.0")
			chosen := []string{path + ":" + digest.String(), path + ":registry/two:2.0"}
			if strings.HasPrefix(path, "oci") || strings.HasPrefix(path, ".") {
				chosen = append(chosen, path+"@"+digest.String())
			}
			for _, image := range chosen {
				r := harness.Upload(t, sandbox, append(inputs, "image="+image)...)
				r.Succeeded(t)
				r.HasOutputs(t, map[string]string{"remote-digest": digest.String()})
			}
		})
	}
}

// TestCompressedByXzAndBzip2: what was saved is read in the forms in which
// people keep it.
func TestCompressedByXzAndBzip2(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 100_000, 2)
	rock := harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))
	for name, path := range map[string]string{"saved": archive, "rock": rock} {
		for _, format := range []string{"xz", "bz2"} {
			t.Run(name+" "+format, func(t *testing.T) {
				t.Parallel()
				small := filepath.Join(t.TempDir(), filepath.Base(path)+"."+format)
				if format == "xz" {
					writeXz(t, small, path)
				} else {
					harness.Need(t, "bzip2")
					harness.WriteFile(t, small, harness.ToolOutput(t, "bzip2", "--stdout", path))
				}
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+small)
				first.Succeeded(t)
				harness.IsComplete(t, sandbox, first.Outputs["remote-digest"])
				harness.Rerun(t, sandbox, first, "image="+path)
			})
		}
	}
}

// writeXz writes the content of the file from to path, compressed with xz.
func writeXz(t *testing.T, path, from string) {
	t.Helper()
	var out bytes.Buffer
	zip, err := compression.CompressStream(&out, compression.Xz, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(zip, harness.ReadFile(t, from)); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, path, out.String())
}

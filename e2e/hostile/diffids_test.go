package hostile

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// claiming makes an image of blobs whose config says that they hold layers with these diff IDs, whatever they hold.
func claiming(t *testing.T, diffIDs []string, blobs ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, blobs...)
	if err != nil {
		t.Fatal(err)
	}
	config := &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}}
	for _, diffID := range diffIDs {
		h, err := v1.NewHash(diffID)
		if err != nil {
			t.Fatal(err)
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, h)
	}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// foreign is a layer that nobody wants to find in an image of theirs.
func foreign(t *testing.T) []byte { t.Helper(); return harness.TarLayer(t, "foreign", rand.Text()) }

// TestLyingConfig: a config that gives a layer another diff ID than it has is refused, with no manifest sent, however
// the layer is compressed.
func TestLyingConfig(t *testing.T) {
	t.Parallel()
	plain, honest := foreign(t), harness.TarLayer(t, "honest", rand.Text())
	large := harness.TarLayer(t, "large", strings.Repeat(rand.Text(), 100_000))
	var zstandard bytes.Buffer
	zip, err := zstd.NewWriter(&zstandard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zip.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	const wrong = "the image's config gives the layer the diff ID"
	tests := map[string]struct {
		img  v1.Image
		want string
	}{
		"gzip": {claiming(t, []string{harness.DigestOf(honest)}, static.NewLayer(harness.Gzip(t, plain), types.OCILayer)),
			wrong},
		"large": {claiming(t, []string{harness.DigestOf(honest)}, static.NewLayer(harness.Gzip(t, large), types.OCILayer)),
			wrong},
		"zstd": {claiming(t, []string{harness.DigestOf(honest)}, static.NewLayer(zstandard.Bytes(), types.OCILayerZStd)),
			wrong},
		"not compressed": {
			claiming(t, []string{harness.DigestOf(honest)}, static.NewLayer(plain, types.OCIUncompressedLayer)), wrong,
		},
		"second of two": {
			claiming(t, []string{harness.DigestOf(honest), harness.DigestOf(honest)},
				static.NewLayer(harness.Gzip(t, honest), types.OCILayer), static.NewLayer(harness.Gzip(t, plain), types.OCILayer)),
			wrong,
		},
		"swapped": {
			claiming(t, []string{harness.DigestOf(plain), harness.DigestOf(honest)},
				static.NewLayer(harness.Gzip(t, honest), types.OCILayer), static.NewLayer(harness.Gzip(t, plain), types.OCILayer)),
			wrong,
		},
		"too few": {
			claiming(t, []string{harness.DigestOf(honest)},
				static.NewLayer(harness.Gzip(t, honest), types.OCILayer), static.NewLayer(harness.Gzip(t, plain), types.OCILayer)),
			"where its config lists",
		},
		"too many": {
			claiming(t, []string{harness.DigestOf(honest), harness.DigestOf(plain)},
				static.NewLayer(harness.Gzip(t, honest), types.OCILayer)),
			"where its config lists",
		},
		"no gzip at all": {
			claiming(t, []string{harness.DigestOf(honest)}, static.NewLayer([]byte("\x1f\x8b\x08 and no more"), types.OCILayer)),
			"decompress",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, what := range []any{test.img, mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
				mutate.IndexAddendum{Add: harness.PlatformImage(t, "linux/s390x")}, mutate.IndexAddendum{Add: test.img})} {
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				rock := harness.WriteRock(t, what)
				r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+rock)
				r.Failed(t, sandbox, rock, test.want)
				harness.SentNoManifest(t, sandbox)
			}
		})
	}
}

// TestEncryptedLayer: what can't be looked into travels as it is.
func TestEncryptedLayer(t *testing.T) {
	t.Parallel()
	rock := harness.WriteRock(t, claiming(t, []string{harness.DigestOf(foreign(t))},
		static.NewLayer([]byte("nobody can read this"), types.OCILayer+"+encrypted")))
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+rock)
	first.Succeeded(t)
	harness.Rerun(t, sandbox, first, "image="+rock)
}

// TestLargeWindow: a layer that takes too much memory to be decompressed (zstd --long=27) travels as it is, too. Nobody
// compared it with the diff ID that its config gives, so it isn't used in another image.
func TestLargeWindow(t *testing.T) {
	t.Parallel()
	var layer bytes.Buffer
	w, err := zstd.NewWriter(&layer, zstd.WithWindowSize(128<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(foreign(t)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Flush(), w.Close()); err != nil {
		t.Fatal(err)
	}
	honest := harness.TarLayer(t, "honest", rand.Text())
	rock := harness.WriteRock(t, claiming(t, []string{harness.DigestOf(honest)},
		static.NewLayer(layer.Bytes(), types.OCILayerZStd)))
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+rock)
	first.Succeeded(t)
	harness.Rerun(t, sandbox, first, "image="+rock)
	archive := harness.WriteTar(t, "image.tar", func(f harness.Archive) {
		f.Add("layer.tar", honest)
		f.SavedImage([]string{harness.DigestOf(honest)}, "layer.tar")
	})
	second := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	second.Succeeded(t)
	harness.LayersMatchDiffIDs(t, sandbox, second.Outputs["remote-digest"])
}

// TestWrongDiffIDs: an image that another tool pushed, whose config gives the diff IDs of an honest image to other
// blobs, changes nothing about the honest image that is packed next.
func TestWrongDiffIDs(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 20<<10, 2)
	honest, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := honest.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(t *testing.T, sandbox *server.Server, liar v1.Image){
		"alone": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			harness.PushToResource(t, sandbox, liar)
		},
		"with a record of its digest": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			harness.PushToResource(t, sandbox, liar)
			harness.ForgeRecord(t, sandbox, harness.DigestOfImage(t, liar), harness.DigestOfImage(t, liar))
		},
		"with a record of the honest image": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			harness.PushToResource(t, sandbox, liar)
			id, err := honest.ConfigName()
			if err != nil {
				t.Fatal(err)
			}
			harness.ForgeRecord(t, sandbox, id.String(), harness.DigestOfImage(t, liar))
		},
		"in an index": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			harness.PushToResource(t, sandbox, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: liar}))
		},
		// The blobs of the liar are there when the action is given it, so that it sends none of them, and looks at none.
		"published by the action": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			harness.PushToResource(t, sandbox, liar)
			outer := mutate.Annotations(liar, map[string]string{"by": "action"}).(v1.Image) //nolint:forcetypeassert // it is one
			harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteRock(t, outer))
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			prepare(t, sandbox, liarAbout(t, config.RootFS.DiffIDs))
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
			r.Succeeded(t)
			harness.LayersMatchDiffIDs(t, sandbox, r.Outputs["remote-digest"])
		})
	}
}

// liarAbout makes an image that gives these diff IDs to foreign layers.
func liarAbout(t *testing.T, diffIDs []v1.Hash) v1.Image {
	t.Helper()
	texts := make([]string, len(diffIDs))
	blobs := make([]v1.Layer, len(diffIDs))
	for i, diffID := range diffIDs {
		texts[i], blobs[i] = diffID.String(), static.NewLayer(harness.Gzip(t, foreign(t)), types.OCILayer)
	}
	return claiming(t, texts, blobs...)
}

// TestWrongDiffIDsOfEngine: the engine's image that is packed after a liar about it was pushed is pulled and run by
// docker and podman.
func TestWrongDiffIDsOfEngine(t *testing.T) {
	t.Parallel()
	harness.Need(t, "docker", "skopeo")
	id := harness.BuildImage(t, "scratch")
	var diffIDs []v1.Hash
	if err := json.Unmarshal([]byte(harness.Tool(t, "docker", "inspect", "--format", "{{json .RootFS.Layers}}", id)),
		&diffIDs); err != nil {
		t.Fatal(err)
	}
	sandbox := harness.StartSandbox(t, server.Options{})
	liar := liarAbout(t, diffIDs)

	rock := harness.WriteRock(t, liar)
	refused := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+rock)
	refused.Failed(t, sandbox, rock, "the image's config gives the layer the diff ID ")
	harness.SentNoManifest(t, sandbox)

	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	harness.Tool(t, "skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--authfile", harness.AuthFile(t, login),
		"oci-archive:"+rock, "docker://"+repository+":latest")
	harness.ForgeRecord(t, sandbox, harness.DigestOfImage(t, liar), harness.DigestOfImage(t, liar))
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id)
	r.Succeeded(t)
	harness.LayersMatchDiffIDs(t, sandbox, r.Outputs["remote-digest"])
	harness.IsValid(t, sandbox, id, r.Outputs["remote-digest"])
	remoteImage := repository + "@" + r.Outputs["remote-digest"]
	harness.Tool(t, "docker", "run", "--rm", "--network=none", remoteImage)
	p := harness.NewPodman(t)
	p.Run(t, "pull", "--quiet", "--tls-verify=false", "--authfile", harness.AuthFile(t, login), remoteImage)
	if out, err := p.Container(t, remoteImage); err != nil {
		t.Errorf("podman can't run it: %v: %s", err, out)
	}
}

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// layerOf is a file system with one file, as a layer has it before it is
// compressed.
func layerOf(t *testing.T, file, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o755, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// claiming makes an image of blobs whose config says that they hold layers with
// these diff IDs, whatever they hold.
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
func foreign(t *testing.T) []byte { t.Helper(); return layerOf(t, "foreign", rand.Text()) }

// TestLyingConfig: a config that gives a layer another diff ID than it has is
// refused, with no manifest sent, however the layer is compressed.
func TestLyingConfig(t *testing.T) {
	t.Parallel()
	plain, honest := foreign(t), layerOf(t, "honest", rand.Text())
	large := layerOf(t, "large", strings.Repeat(rand.Text(), 100_000))
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
		"gzip":  {claiming(t, []string{digestOf(honest)}, static.NewLayer(gzipped(t, plain), types.OCILayer)), wrong},
		"large": {claiming(t, []string{digestOf(honest)}, static.NewLayer(gzipped(t, large), types.OCILayer)), wrong},
		"zstd":  {claiming(t, []string{digestOf(honest)}, static.NewLayer(zstandard.Bytes(), types.OCILayerZStd)), wrong},
		"not compressed": {
			claiming(t, []string{digestOf(honest)}, static.NewLayer(plain, types.OCIUncompressedLayer)), wrong,
		},
		"second of two": {
			claiming(t, []string{digestOf(honest), digestOf(honest)},
				static.NewLayer(gzipped(t, honest), types.OCILayer), static.NewLayer(gzipped(t, plain), types.OCILayer)), wrong,
		},
		"swapped": {
			claiming(t, []string{digestOf(plain), digestOf(honest)},
				static.NewLayer(gzipped(t, honest), types.OCILayer), static.NewLayer(gzipped(t, plain), types.OCILayer)), wrong,
		},
		"too few": {
			claiming(t, []string{digestOf(honest)},
				static.NewLayer(gzipped(t, honest), types.OCILayer), static.NewLayer(gzipped(t, plain), types.OCILayer)),
			"where its config lists",
		},
		"too many": {
			claiming(t, []string{digestOf(honest), digestOf(plain)}, static.NewLayer(gzipped(t, honest), types.OCILayer)),
			"where its config lists",
		},
		"no gzip at all": {
			claiming(t, []string{digestOf(honest)}, static.NewLayer([]byte("\x1f\x8b\x08 and no more"), types.OCILayer)), "decompress",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, what := range []any{test.img, mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
				mutate.IndexAddendum{Add: platformImage(t, "linux/s390x")}, mutate.IndexAddendum{Add: test.img})} {
				sandbox := startSandbox(t, server.Options{InMemory: true})
				rock := writeRock(t, what)
				r := action(t, sandbox, "resource="+imageResource, "image="+rock)
				r.failed(t, sandbox, rock, test.want)
				sentNoManifest(t, sandbox)
			}
		})
	}
}

// TestEncryptedLayer: what can't be looked into travels as it is.
func TestEncryptedLayer(t *testing.T) {
	t.Parallel()
	rock := writeRock(t, claiming(t, []string{digestOf(foreign(t))},
		static.NewLayer([]byte("nobody can read this"), types.OCILayer+"+encrypted")))
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, "resource="+imageResource, "image="+rock)
	first.succeeded(t)
	rerun(t, sandbox, first, "image="+rock)
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
	honest := layerOf(t, "honest", rand.Text())
	rock := writeRock(t, claiming(t, []string{digestOf(honest)}, static.NewLayer(layer.Bytes(), types.OCILayerZStd)))
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, "resource="+imageResource, "image="+rock)
	first.succeeded(t)
	rerun(t, sandbox, first, "image="+rock)
	archive := writeTar(t, "image.tar", func(f files) {
		f.add("layer.tar", honest)
		f.saved([]string{digestOf(honest)}, "layer.tar")
	})
	second := action(t, sandbox, "resource="+imageResource, "image="+archive)
	second.succeeded(t)
	layersAreHonest(t, sandbox, second.outputs["remote-digest"])
}

// pushedByOthers puts an image into a resource's repository as other tools do:
// under the tag latest.
func pushedByOthers(t *testing.T, sandbox *server.Server, what remote.Taggable) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(charm, imageResource)
	ref, err := name.ParseReference(repository+":latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	auth := remote.WithAuth(&authn.Basic{Username: username, Password: password})
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(ref, what, auth)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, what, auth)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// forgeRecord writes a locations record of source as imgpkg does.
func forgeRecord(t *testing.T, sandbox *server.Server, source string, images ...string) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(charm, imageResource)
	content := "---\napiVersion: imgpkg.carvel.dev/v1alpha1\nkind: ImageLocations\nimages:\n"
	for _, image := range images {
		content += "- image: " + repository + "@" + image + "\n  isBundle: false\n"
	}
	record, err := mutate.AppendLayers(empty.Image,
		static.NewLayer(gzipped(t, layerOf(t, "image-locations.yml", content)), types.DockerLayer))
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(repository+":"+strings.Replace(source, ":", "-", 1)+".image-locations.imgpkg", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, record, remote.WithAuth(&authn.Basic{Username: username, Password: password})); err != nil {
		t.Fatal(err)
	}
}

// TestWrongDiffIDs: an image that another tool pushed, whose config gives the
// diff IDs of an honest image to other blobs, changes nothing about the honest
// image that is packed next.
func TestWrongDiffIDs(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 20<<10, 2)
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
			pushedByOthers(t, sandbox, liar)
		},
		"with a record of its digest": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			pushedByOthers(t, sandbox, liar)
			forgeRecord(t, sandbox, digestOfImage(t, liar), digestOfImage(t, liar))
		},
		"with a record of the honest image": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			pushedByOthers(t, sandbox, liar)
			id, err := honest.ConfigName()
			if err != nil {
				t.Fatal(err)
			}
			forgeRecord(t, sandbox, id.String(), digestOfImage(t, liar))
		},
		"in an index": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			pushedByOthers(t, sandbox, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: liar}))
		},
		// The blobs of the liar are there when the action is given it, so that
		// it sends none of them, and looks at none.
		"published by the action": func(t *testing.T, sandbox *server.Server, liar v1.Image) {
			t.Helper()
			pushedByOthers(t, sandbox, liar)
			outer := mutate.Annotations(liar, map[string]string{"by": "action"}).(v1.Image) //nolint:forcetypeassert // it is one
			action(t, sandbox, "resource="+imageResource, "image="+writeRock(t, outer))
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			prepare(t, sandbox, liarAbout(t, config.RootFS.DiffIDs))
			r := action(t, sandbox, "resource="+imageResource, "image="+archive)
			r.succeeded(t)
			layersAreHonest(t, sandbox, r.outputs["remote-digest"])
		})
	}
}

// liarAbout makes an image that gives these diff IDs to foreign layers.
func liarAbout(t *testing.T, diffIDs []v1.Hash) v1.Image {
	t.Helper()
	texts := make([]string, len(diffIDs))
	blobs := make([]v1.Layer, len(diffIDs))
	for i, diffID := range diffIDs {
		texts[i], blobs[i] = diffID.String(), static.NewLayer(gzipped(t, foreign(t)), types.OCILayer)
	}
	return claiming(t, texts, blobs...)
}

// layersAreHonest fails the test unless every layer of an image in the charm's
// repository has the diff ID that its config says.
func layersAreHonest(t *testing.T, sandbox *server.Server, digest string) {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(charm, imageResource)
	ref, err := name.NewDigest(repository+"@"+digest, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, remote.WithAuth(&authn.Basic{Username: username, Password: password}))
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		t.Errorf("%s in the charm's repository: %v", digest, err)
	}
}

// TestWrongDiffIDsOfEngine: the engine's image that is packed after a liar
// about it was pushed is pulled and run by docker and podman.
func TestWrongDiffIDsOfEngine(t *testing.T) {
	t.Parallel()
	need(t, "docker", "skopeo")
	id := buildImage(t, "scratch")
	var diffIDs []v1.Hash
	if err := json.Unmarshal([]byte(run(t, "docker", "inspect", "--format", "{{json .RootFS.Layers}}", id)), &diffIDs); err != nil {
		t.Fatal(err)
	}
	sandbox := startSandbox(t, server.Options{})
	liar := liarAbout(t, diffIDs)

	rock := writeRock(t, liar)
	refused := action(t, sandbox, "resource="+imageResource, "image="+rock)
	refused.failed(t, sandbox, rock, "the image's config gives the layer the diff ID ")
	sentNoManifest(t, sandbox)

	login, repository := registryLogin(t, sandbox, imageResource)
	run(t, "skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--authfile", authFile(t, login),
		"oci-archive:"+rock, "docker://"+repository+":latest")
	forgeRecord(t, sandbox, digestOfImage(t, liar), digestOfImage(t, liar))
	r := action(t, sandbox, "resource="+imageResource, "digest="+id)
	r.succeeded(t)
	layersAreHonest(t, sandbox, r.outputs["remote-digest"])
	isValid(t, sandbox, id, r.outputs["remote-digest"])
	remoteImage := repository + "@" + r.outputs["remote-digest"]
	run(t, "docker", "run", "--rm", "--network=none", remoteImage)
	p := newPodman(t)
	p.run(t, "pull", "--quiet", "--tls-verify=false", "--authfile", authFile(t, login), remoteImage)
	if out, err := p.container(t, remoteImage); err != nil {
		t.Errorf("podman can't run it: %v: %s", err, out)
	}
}

// container runs a command in a container of podman's that needs as little of
// the machine as there is.
func (p podman) container(t *testing.T, image string, command ...string) (string, error) {
	t.Helper()
	args := append([]string{p.variable(), "podman", "run", "--rm", "--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", // its defaults may be more than is allowed
		"--security-opt=seccomp=unconfined", image}, command...)
	var errs bytes.Buffer
	c := exec.CommandContext(context.WithoutCancel(t.Context()), "env", args...)
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	return string(out), err
}

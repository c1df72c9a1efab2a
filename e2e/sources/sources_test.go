package sources

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// origin is an image in a graph driver, and where other tools copied it to.
type origin struct {
	id     string         // in the engine
	saved  string         // as `docker save` wrote it
	packed string         // its digest once it was packed
	other  *server.Server // its registry asks for credentials
	name   string         // there
	digest string         // there
	login  string         // the folder with the credentials for there
	open   string         // the host of a registry that asks for none
}

// newOrigin builds an image and makes it available in every place that the tests read from. It skips the test without
// docker, skopeo or crane.
func newOrigin(t *testing.T) origin {
	t.Helper()
	harness.Need(t, "docker", "skopeo", "crane")
	o := origin{id: harness.BuildImage(t, "scratch"), saved: filepath.Join(t.TempDir(), "saved.tar"),
		open: harness.StartRegistry(t)}
	harness.Tool(t, "docker", "save", "--output", o.saved, o.id)
	o.packed = harness.RemoteDigest(t, "digest="+o.id)
	o.other = harness.StartSandbox(t, server.Options{InMemory: true})
	o.login, o.name = harness.RegistryLogin(t, o.other, harness.ImageResource)
	digest := filepath.Join(t.TempDir(), "digest")
	harness.Tool(t, "skopeo", "copy", "--dest-tls-verify=false", "--dest-authfile", harness.AuthFile(t, o.login),
		"--digestfile", digest,
		"docker-archive:"+o.saved, "docker://"+o.name+":v1")
	o.digest = harness.ReadFile(t, digest)
	return o
}

// copyTo lets skopeo copy the image to what a transport names.
func (o origin) copyTo(t *testing.T, transport, file string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), file)
	harness.Tool(t, "skopeo", "copy", "docker-archive:"+o.saved, transport+":"+path+":v1")
	return path
}

// podmanSave lets podman save the image in one of its formats.
func (o origin) podmanSave(t *testing.T, format string) string {
	t.Helper()
	p := harness.NewPodman(t)
	p.Run(t, "load", "--input", o.saved)
	path := filepath.Join(t.TempDir(), format+".tar")
	p.Run(t, "save", "--format", format, "--output", path, strings.TrimPrefix(o.id, "sha256:"))
	return path
}

// cranePull lets crane save the image.
func (o origin) cranePull(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pulled.tar")
	harness.Tool(t, "env", "DOCKER_CONFIG="+o.login, "crane", "pull", o.name+"@"+o.digest, path)
	return path
}

// place is where an image can be.
type place struct {
	// make returns the inputs that name the image, and for one that has a
	// digest there what skopeo calls it.
	make          func(t *testing.T, o origin) (inputs []string, addressed string)
	architectures []string // the machine's by default
	elsewhere     bool     // a layer is not in any registry
}

// file is where an image has no digest, as a path.
func file(path func(t *testing.T, o origin) string) func(*testing.T, origin) ([]string, string) {
	return func(t *testing.T, o origin) ([]string, string) {
		t.Helper()
		return []string{"image=" + path(t, o)}, ""
	}
}

// addressed is where an image has a digest, as a path that skopeo reads by a
// transport.
func addressed(transport string, path func(t *testing.T, o origin) string) func(*testing.T, origin) ([]string, string) {
	return func(t *testing.T, o origin) ([]string, string) {
		t.Helper()
		file := path(t, o)
		return []string{"image=" + file}, transport + ":" + file
	}
}

var places = map[string]place{
	"engine": {make: func(_ *testing.T, o origin) ([]string, string) { return []string{"digest=" + o.id}, "" }},
	"engine by transport": {make: func(_ *testing.T, o origin) ([]string, string) {
		return []string{"image=docker-daemon:" + o.id}, ""
	}},
	"engine, podman's": {make: func(t *testing.T, o origin) ([]string, string) {
		t.Helper()
		p := harness.NewPodman(t)
		p.Run(t, "load", "--input", o.saved)
		return []string{p.Serve(t), "digest=" + o.id}, ""
	}},
	"docker save": {make: file(func(_ *testing.T, o origin) string { return o.saved })},
	"docker save by transport": {make: file(func(_ *testing.T, o origin) string {
		return "docker-archive:" + o.saved
	})},
	"docker save with gzip": {
		make: file(func(t *testing.T, o origin) string { t.Helper(); return compressed(t, o.saved, "gz") })},
	"docker save with zstd": {
		make: file(func(t *testing.T, o origin) string { t.Helper(); return compressed(t, o.saved, "zst") })},
	"podman save": {make: file(func(t *testing.T, o origin) string {
		t.Helper()
		return o.podmanSave(t, "docker-archive")
	})},
	"crane pull": {make: file(func(t *testing.T, o origin) string { t.Helper(); return o.cranePull(t) })},
	"podman save, OCI": {make: addressed("oci-archive", func(t *testing.T, o origin) string {
		t.Helper()
		return o.podmanSave(t, "oci-archive")
	})},
	"OCI layout": {make: addressed("oci",
		func(t *testing.T, o origin) string { t.Helper(); return o.copyTo(t, "oci", "layout") })},
	"OCI layout by transport": {make: func(t *testing.T, o origin) ([]string, string) {
		t.Helper()
		path := o.copyTo(t, "oci", "layout")
		return []string{"image=oci:" + path + ":v1"}, "oci:" + path + ":v1"
	}},
	"OCI archive by transport": {make: func(t *testing.T, o origin) ([]string, string) {
		t.Helper()
		path := o.copyTo(t, "oci-archive", "image.tar")
		return []string{"image=oci-archive:" + path}, "oci-archive:" + path
	}},
	"rock": {make: addressed("oci-archive",
		func(t *testing.T, o origin) string { t.Helper(); return o.copyTo(t, "oci-archive", "my.rock") })},
	"rock with gzip": {make: func(t *testing.T, o origin) ([]string, string) {
		t.Helper()
		path := o.copyTo(t, "oci-archive", "my.rock")
		return []string{"image=" + compressed(t, path, "gz")}, "oci-archive:" + path
	}},
	"rock with zstd": {make: func(t *testing.T, o origin) ([]string, string) {
		t.Helper()
		path := o.copyTo(t, "oci-archive", "my.rock")
		return []string{"image=oci-archive:" + compressed(t, path, "zst")}, "oci-archive:" + path
	}},
	"registry": {make: func(_ *testing.T, o origin) ([]string, string) {
		return []string{"image=" + o.name + "@" + o.digest, "DOCKER_CONFIG=" + o.login}, "docker://" + o.name + "@" + o.digest
	}},
	"registry by transport": {make: func(_ *testing.T, o origin) ([]string, string) {
		return []string{"image=docker://" + o.name + "@" + o.digest, "DOCKER_CONFIG=" + o.login},
			"docker://" + o.name + "@" + o.digest
	}},
	"registry by tag and digest": {make: func(_ *testing.T, o origin) ([]string, string) {
		return []string{"image=" + o.name + ":v1@" + o.digest, "DOCKER_CONFIG=" + o.login},
			"docker://" + o.name + "@" + o.digest
	}},
	"index in a registry": {
		make: func(t *testing.T, o origin) ([]string, string) {
			t.Helper()
			name := o.open + "/index@" + harness.Push(t, o.open+"/index", richIndex(t))
			return []string{"image=" + name}, "docker://" + name
		},
		architectures: []string{"amd64", "arm64"},
	},
	"index in a layout": {
		make: addressed("oci", func(t *testing.T, _ origin) string {
			t.Helper()
			return harness.WriteLayout(t, richIndex(t))
		}),
		architectures: []string{"amd64", "arm64"},
	},
	"index in a rock": {
		make: addressed("oci-archive",
			func(t *testing.T, _ origin) string { t.Helper(); return harness.WriteRock(t, richIndex(t)) }),
		architectures: []string{"amd64", "arm64"},
	},
	"foreign layer in a registry": {
		make: func(t *testing.T, o origin) ([]string, string) {
			t.Helper()
			name := o.open + "/foreign@" + harness.Push(t, o.open+"/foreign", foreignImage(t))
			return []string{"image=" + name}, "docker://" + name
		},
		architectures: []string{"amd64"}, elsewhere: true,
	},
}

// TestSources: wherever an image is, the first run pushes it and the next one
// sends nothing. One that has a digest keeps it with its every byte, and one
// that has none gets the same from everywhere.
func TestSources(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		testSources(t, o, options)
	})
}

// testSources uploads the image from each place to a sandbox with the options, and checks the digest and that a
// second run changes nothing.
func testSources(t *testing.T, o origin, options server.Options) {
	t.Helper()
	for name, place := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inputs, addressed := place.make(t, o)
			sandbox := harness.StartSandbox(t, options)
			first := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
			first.Succeeded(t)
			first.Logged(t, harness.LogUnknown, harness.LogUploaded(first), harness.LogCreated(harness.ImageResource, "1"))
			digest := first.Outputs["remote-digest"]
			if addressed == "" {
				first.HasOutputs(t, map[string]string{"source-digest": o.id, "remote-digest": o.packed, "uploaded": "true"})
			} else {
				unchanged := harness.RawManifest(t, o.login, addressed)
				if got := harness.RemoteManifest(t, sandbox, digest); got != unchanged {
					t.Errorf("the manifest changed from\n%s\nto\n%s", unchanged, got)
				}
				want := harness.DigestOf([]byte(unchanged))
				first.HasOutputs(t, map[string]string{"source-digest": want, "remote-digest": want, "uploaded": "true"})
			}
			if !place.elsewhere {
				harness.IsComplete(t, sandbox, digest)
			}
			if place.architectures == nil {
				place.architectures = []string{runtime.GOARCH}
			}
			harness.RecordedFor(t, sandbox, place.architectures...)
			harness.Rerun(t, sandbox, first, inputs...)
		})
	}
}

// richIndex makes an index with much of what a digest can be about: images of
// two platforms, one with a layer compressed by zstd, the other of Docker's
// types, an attestation, annotations on every level.
func richIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	first := mutate.Annotations(withLayer(t, harness.PlatformImage(t, "linux/amd64"),
		static.NewLayer([]byte("zstd"), types.OCILayerZStd)),
		map[string]string{"org.example.manifest": "<a&b>"}).(v1.Image)
	second := dockerImage(t, "linux/arm64")
	attestation := withLayer(t, harness.PlatformImage(t, "unknown/unknown"),
		static.NewLayer([]byte(`{"_type":"x"}`), "application/vnd.in-toto+json"))
	about, err := first.Digest()
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: first, Descriptor: v1.Descriptor{
			Platform: harness.ParsePlatform(t, "linux/amd64"), Annotations: map[string]string{"org.example.child": "1"},
		}},
		mutate.IndexAddendum{Add: second, Descriptor: v1.Descriptor{Platform: harness.ParsePlatform(t, "linux/arm64/v8")}},
		mutate.IndexAddendum{Add: attestation, Descriptor: v1.Descriptor{
			Platform: harness.ParsePlatform(t, "unknown/unknown"),
			Annotations: map[string]string{
				"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about.String(),
			},
		}},
	)
	index = mutate.IndexMediaType(index, types.OCIImageIndex)
	return mutate.Annotations(index, map[string]string{"org.example.index": "yes"}).(v1.ImageIndex)
}

// withLayer returns the image with one more layer on top.
func withLayer(t *testing.T, img v1.Image, layer v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.Append(img, mutate.Addendum{Layer: layer})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// foreignImage makes an image with a layer that no registry may have.
func foreignImage(t *testing.T) v1.Image {
	t.Helper()
	foreign := static.NewLayer([]byte("foreign"), types.DockerForeignLayer)
	img, err := mutate.Append(dockerImage(t, "linux/amd64"), mutate.Addendum{
		Layer: foreign, MediaType: types.DockerForeignLayer, URLs: []string{"https://example.com/layer"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

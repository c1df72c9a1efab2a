package image

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// object is a JSON object.
type object = map[string]any

// plainImage returns a manifest and a config of one layer, changed as asked.
func plainImage(change func(manifest, config object)) (manifest, config []byte) {
	m := object{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1,
		"config": object{"mediaType": types.OCIConfigJSON, "digest": digestA, "size": 2},
		"layers": []object{{"mediaType": types.OCILayer, "digest": digestB, "size": 3}},
	}
	c := object{
		"os":           "linux",
		"architecture": "arm64",
		"variant":      "v8",
		"rootfs":       object{"type": "layers", "diff_ids": []string{digestA}},
	}
	change(m, c)
	return imagetest.JSON(m), imagetest.JSON(c)
}

// configType returns a change to a manifest that sets the media type of its config.
func configType(t string) func(manifest, config object) {
	return func(m, _ object) { m["config"] = object{"mediaType": t, "digest": digestA, "size": 2} }
}

// artifactType returns a change to a manifest that gives it an empty config and an artifactType.
func artifactType(t string) func(manifest, config object) {
	return func(m, c object) {
		configType("application/vnd.oci.empty.v1+json")(m, c)
		m["artifactType"] = t
	}
}

// layerType returns a change to a manifest that gives it one layer of the media type.
func layerType(t string) func(manifest, config object) {
	return func(m, _ object) { m["layers"] = []object{{"mediaType": t, "digest": digestB, "size": 3}} }
}

var checkedImages = map[string]struct {
	change func(manifest, config object)
	want   string // the platform, or what the error says
	fails  bool
}{
	"image":           {change: func(_, _ object) {}, want: "linux/arm64/v8"},
	"silent manifest": {change: func(m, _ object) { delete(m, "mediaType") }, want: "linux/arm64/v8"},
	"no platform":     {change: func(_, c object) { delete(c, "os"); delete(c, "architecture") }},
	"no architecture": {change: func(_, c object) { c["architecture"] = "" }},
	"no layers": {
		change: func(m, c object) { m["layers"], c["rootfs"] = []object{}, object{"type": "layers"} },
		want:   "linux/arm64/v8",
	},
	"an artifact type": {
		change: func(m, _ object) { m["artifactType"] = "application/vnd.unknown.artifact.v1" },
		want:   "linux/arm64/v8",
	},
	"old type of config": {change: configType("application/octet-stream"), want: "linux/arm64/v8"},
	"encrypted layer": {
		change: layerType("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
		want:   "linux/arm64/v8",
	},
	"Docker's zstd": {change: layerType("application/vnd.docker.image.rootfs.diff.tar.zstd"), want: "linux/arm64/v8"},
	"foreign layer": {
		change: layerType("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		want:   "linux/arm64/v8",
	},
	"restricted layer": {
		change: layerType("application/vnd.oci.image.layer.nondistributable.v1.tar"),
		want:   "linux/arm64/v8",
	},

	"chart": {
		change: configType("application/vnd.cncf.helm.config.v1+json"),
		fails:  true,
		want:   "a Helm chart, and no image to run|config|vnd.cncf.helm.config",
	},
	"empty config": {
		change: configType("application/vnd.oci.empty.v1+json"),
		fails:  true,
		want:   "no image to run|type of its config",
	},
	"empty config of a known type": {
		change: artifactType("application/vnd.dev.sigstore.bundle.v0.3+json"),
		fails:  true,
		want:   "a signature or an attestation, and no image to run|type of its content",
	},
	"empty config of any type": {
		change: artifactType("application/vnd.unknown.artifact.v1"),
		fails:  true,
		want:   `no image to run|type of its content is "application/vnd.unknown.artifact.v1"`,
	},
	"signature": {
		change: layerType("application/vnd.dev.cosign.simplesigning.v1+json"),
		fails:  true,
		want:   "a signature, and no image to run|layer",
	},
	"signature that refers to its image": {
		change: configType("application/vnd.dev.cosign.artifact.sig.v1+json"),
		fails:  true,
		want:   "a signature, and no image to run",
	},
	"SBOM that refers to its image": {
		change: configType("application/vnd.dev.cosign.artifact.sbom.v1+json"),
		fails:  true,
		want:   "an SBOM, and no image to run",
	},
	"SBOM": {
		change: layerType("text/spdx+json"),
		fails:  true,
		want:   "an SBOM, and no image to run",
	},
	"attestation": {
		change: layerType("application/vnd.in-toto+json"),
		fails:  true,
		want:   "an attestation, and no image",
	},
	"no type of layer": {change: layerType(""), fails: true, want: `type of its layer is ""`},
	"schema 1": {
		change: func(m, _ object) { m["schemaVersion"] = 1 },
		fails:  true,
		want:   "schema version 1, which engines don't read any more",
	},
	"schema 3": {
		change: func(m, _ object) { m["schemaVersion"] = 3 },
		fails:  true,
		want:   "schema version 3, and there is only 2",
	},
	"no version": {
		change: func(m, _ object) { delete(m, "schemaVersion") },
		fails:  true,
		want:   "schema version 0",
	},
	"another type": {
		change: func(m, _ object) { m["mediaType"] = types.DockerManifestSchema2 },
		fails:  true,
		want:   "where it is listed",
	},
	"no config": {
		change: func(m, _ object) { delete(m, "config") },
		fails:  true,
		want:   "names no config",
	},
	"an index": {
		change: func(m, _ object) { delete(m, "config"); m["manifests"] = []object{} },
		fails:  true,
		want:   "lists images as an index does",
	},
	"SHA-512": {change: func(m, _ object) {
		m["layers"] = []object{{"mediaType": types.OCILayer, "digest": "sha512:" + strings.Repeat("a", 128), "size": 3}}
	}, fails: true, want: "digests of sha512|with those of sha256"},
	"no digest": {
		change: func(m, _ object) { m["config"] = object{"mediaType": types.OCIConfigJSON, "digest": "nothing"} },
		fails:  true,
		want:   `"nothing" is given as a digest`,
	},
	"no size": {
		change: func(m, _ object) { m["layers"] = []object{{"mediaType": types.OCILayer, "digest": digestA}} },
		fails:  true,
		want:   "lists " + digestA + " with 0 bytes",
	},
	"no diff IDs": {
		change: func(_, c object) { delete(c, "rootfs") },
		fails:  true,
		want:   "lists 1 layers where its config lists 0",
	},
	"a diff ID more": {
		change: func(_, c object) { c["rootfs"] = object{"diff_ids": []string{digestA, digestB}} },
		fails:  true,
		want:   "where its config lists 2",
	},
	"no such diff ID": {
		change: func(_, c object) { c["rootfs"] = object{"diff_ids": []string{"x"}} },
		fails:  true,
		want:   `"x" is given as a digest`,
	},
}

// as returns what reads a config.
func as(config []byte) func() ([]byte, error) { return func() ([]byte, error) { return config, nil } }

func TestCheckImage(t *testing.T) {
	for name, try := range checkedImages {
		t.Run(name, func(t *testing.T) {
			manifest, config := plainImage(try.change)
			got, err := checkImage(types.OCIManifestSchema1, manifest, as(config))
			if try.fails {
				imagetest.WantError(t, err, try.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(try.want, got.String()); diff != "" {
				t.Errorf("platform (-want +got):\n%s", diff)
			}
		})
	}
	_, err := checkImage(types.OCIManifestSchema1, []byte("no JSON"), as(nil))
	imagetest.WantError(t, err, "cannot read the manifest")
	imagetest.WantError(t, CheckManifest(types.OCIManifestSchema1, []byte("no JSON")), "cannot read the manifest")
	manifest, _ := plainImage(func(_, _ object) {})
	_, err = checkImage(types.OCIManifestSchema1, manifest, as([]byte("no JSON")))
	imagetest.WantError(t, err, "the image's config is damaged")
}

func TestCheckIndex(t *testing.T) {
	sha512 := "sha512:" + strings.Repeat("a", 128)
	for name, try := range map[string]struct{ raw, want string }{
		"version":   {`{"schemaVersion":3,"manifests":[]}`, "schema version 3"},
		"an image":  {`{"schemaVersion":2,"config":{"digest":"` + digestA + `"}}`, "names a config as an image does"},
		"SHA-512":   {`{"schemaVersion":2,"manifests":[{"digest":"` + sha512 + `"}]}`, "digests of sha512"},
		"no list":   {`{"schemaVersion":2,"manifests":7}`, "the index's list of manifests"},
		"no JSON":   {`{`, "cannot read the manifest"},
		"no digest": {`{"schemaVersion":2,"manifests":[{}]}`, `"" is given as a digest`},
	} {
		t.Run(name, func(t *testing.T) { imagetest.WantError(t, checkIndex(types.OCIImageIndex, []byte(try.raw)), try.want) })
	}
	if err := checkIndex(
		types.OCIImageIndex,
		[]byte(`{"schemaVersion":2,"manifests":[{"digest":"`+digestA+`"}]}`),
	); err != nil {
		t.Error(err)
	}
}

// FuzzCheckImage: what passes has a layer for each diff ID, and can be parsed by the library that everything after it
// uses.
func FuzzCheckImage(f *testing.F) {
	for _, try := range checkedImages {
		manifest, config := plainImage(try.change)
		f.Add(manifest, config)
	}
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		if _, err := checkImage(types.OCIManifestSchema1, manifest, as(config)); err != nil {
			return
		}
		m, err := v1.ParseManifest(strings.NewReader(string(manifest)))
		if err != nil {
			t.Skip() // a size or an annotation of another type
		}
		if len(m.Layers) > 0 && m.Config.Digest == (v1.Hash{}) {
			t.Errorf("an image without a config passes: %s", manifest)
		}
	})
}

func TestParsePlatform(t *testing.T) {
	for text, want := range map[string]string{
		"linux/amd64":              "linux/amd64",
		"linux/arm64/v8":           "linux/arm64/v8",
		"linux/x86_64":             "linux/amd64",
		"linux/aarch64":            "linux/arm64",
		"linux/armhf":              "linux/arm/v7",
		"windows/amd64:10.0.14393": "windows/amd64:10.0.14393",
	} {
		got, err := ParsePlatform(text)
		if err != nil || got.String() != want {
			t.Errorf("%s is read as %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "linux", "linux/", "linux/amd64/v2/v3", "linux/amd64 platform=linux/arm64", "linux/amd64:1:2",
	} {
		if got, err := ParsePlatform(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

package e2e

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// artifact adds a manifest of OCI's as tools write it that keep something in a
// registry. Each blob is given by its type and its content.
func (f files) artifact(artifactType string, config [2]string, layers ...[2]string) descriptor {
	f.t.Helper()
	manifest := object{"schemaVersion": 2, "mediaType": types.OCIManifestSchema1}
	if artifactType != "" {
		manifest["artifactType"] = artifactType
	}
	manifest["config"] = f.blob(types.MediaType(config[0]), []byte(config[1]))
	described := []descriptor{}
	for _, layer := range layers {
		described = append(described, f.blob(types.MediaType(layer[0]), []byte(layer[1])))
	}
	manifest["layers"] = described
	return f.blob(types.OCIManifestSchema1, marshal(f.t, manifest))
}

// imageConfig is an image's config; cosign and ko write one for what is no image,
// too, and crane for an image that it made of nothing.
func imageConfig(platform string, layers ...string) [2]string {
	var diffIDs []string
	for _, layer := range layers {
		diffIDs = append(diffIDs, `"`+digestOf([]byte(layer))+`"`)
	}
	system, architecture, _ := strings.Cut(platform, "/")
	return [2]string{string(types.OCIConfigJSON), fmt.Sprintf(
		`{"architecture":%q,"created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":%q,`+
			`"rootfs":{"type":"layers","diff_ids":[%s]},"config":{}}`, architecture, system, strings.Join(diffIDs, ","))}
}

var emptyConfig = [2]string{"application/vnd.oci.empty.v1+json", "{}"}

func (f files) helmChart() descriptor {
	f.t.Helper()
	return f.artifact("", [2]string{"application/vnd.cncf.helm.config.v1+json", `{"name":"my-chart","version":"0.1.0","apiVersion":"v2"}`},
		[2]string{"application/vnd.cncf.helm.chart.content.v1.tar+gzip", "a chart"})
}

func (f files) signature() descriptor {
	f.t.Helper()
	const payload = `{"critical":{"type":"cosign container image signature"}}`
	return f.artifact("", imageConfig("", payload), [2]string{"application/vnd.dev.cosign.simplesigning.v1+json", payload})
}

func (f files) plain(platform string) descriptor {
	f.t.Helper()
	layer := "a layer for " + platform
	return f.artifact("", imageConfig(platform, layer), [2]string{string(types.OCIUncompressedLayer), layer})
}

func onPlatform(d descriptor, system, architecture string) descriptor {
	d.Platform = map[string]string{"os": system, "architecture": architecture}
	return d
}

// whatRegistriesHold is what people come across in registries and archives, and
// what becomes of it: it is published for some architectures, or refused.
var whatRegistriesHold = map[string]struct {
	top           func(files) descriptor
	architectures []string
	refused       string
}{
	"image":                    {top: func(f files) descriptor { return f.plain("linux/arm64") }, architectures: []string{"arm64"}},
	"image without a platform": {top: func(f files) descriptor { return f.plain("") }, architectures: []string{"all"}},
	"image without layers":     {top: func(f files) descriptor { return f.artifact("", imageConfig("linux/amd64")) }, architectures: []string{"amd64"}},
	"image by another name of its architecture": {
		top: func(f files) descriptor { return f.plain("linux/x86_64") }, architectures: []string{"amd64"},
	},
	"image with a type of its own": {top: func(f files) descriptor {
		return f.artifact("application/vnd.example.app", imageConfig("linux/amd64", "layer"), [2]string{string(types.OCIUncompressedLayer), "layer"})
	}, architectures: []string{"amd64"}},
	"index with a Helm chart, a signature and an attestation beside an image": {top: func(f files) descriptor {
		return f.index(onPlatform(f.plain("linux/amd64"), "linux", "amd64"), f.helmChart(), f.signature(),
			onPlatform(f.artifact("", emptyConfig, [2]string{"application/vnd.in-toto+json", "{}"}), "unknown", "unknown"))
	}, architectures: []string{"amd64"}},

	"Helm chart":                     {top: files.helmChart, refused: "it is a Helm chart, and no image to run"},
	"signature, as cosign writes it": {top: files.signature, refused: "it is a signature, and no image to run"},
	"SBOM, as ko writes it": {top: func(f files) descriptor {
		return f.artifact("", imageConfig("", "{}"), [2]string{"text/spdx+json", "{}"})
	}, refused: "it is an SBOM, and no image to run"},
	"attestation": {top: func(f files) descriptor {
		return f.artifact("", imageConfig("", "{}"), [2]string{"application/vnd.dsse.envelope.v1+json", "{}"})
	}, refused: "it is an attestation, and no image to run"},
	"bundle of sigstore": {top: func(f files) descriptor {
		return f.artifact("application/vnd.dev.sigstore.bundle.v0.3+json", emptyConfig,
			[2]string{"application/vnd.dev.sigstore.bundle.v0.3+json", "{}"})
	}, refused: `no image to run: the type of its config is "application/vnd.oci.empty.v1+json"`},
	"oras push": {top: func(f files) descriptor {
		return f.artifact("application/vnd.unknown.artifact.v1", emptyConfig, [2]string{string(types.OCIUncompressedLayer), "file"})
	}, refused: `no image to run: the type of its config is "application/vnd.oci.empty.v1+json"`},
	"oras push before 1.2": {top: func(f files) descriptor {
		return f.artifact("", [2]string{"application/vnd.unknown.config.v1+json", "{}"}, [2]string{string(types.OCIUncompressedLayer), "file"})
	}, refused: `"application/vnd.unknown.config.v1+json"`},
	"build cache": {top: func(f files) descriptor {
		return f.artifact("", [2]string{"application/vnd.buildkit.cacheconfig.v0", "{}"}, [2]string{string(types.OCILayer), "layer"})
	}, refused: "it is a build cache, and no image to run"},
	"index of a Helm chart": {top: func(f files) descriptor { return f.index(f.helmChart()) }, refused: "an index without an image to run"},
	"index of attestations": {top: func(f files) descriptor {
		return f.index(onPlatform(f.plain("unknown/unknown"), "unknown", "unknown"))
	}, refused: "an index without an image to run"},
	"empty index": {top: func(f files) descriptor { return f.index() }, refused: "lists nothing, so there is no image in it"},
	"index with an image without a platform": {top: func(f files) descriptor {
		return f.index(onPlatform(f.plain("linux/amd64"), "linux", "amd64"), f.plain(""))
	}, refused: "without a platform, and the image's config has none: pass the image by itself, with ` platform=os/arch` after it"},

	"image with fewer diff IDs than layers": {top: func(f files) descriptor {
		return f.artifact("", imageConfig("linux/amd64", "one"),
			[2]string{string(types.OCIUncompressedLayer), "one"}, [2]string{string(types.OCIUncompressedLayer), "two"})
	}, refused: "its manifest lists 2 layers where its config lists 1"},
	"index with such an image": {top: func(f files) descriptor {
		broken := f.artifact("", imageConfig("linux/arm64"), [2]string{string(types.OCIUncompressedLayer), "one"})
		return f.index(onPlatform(f.plain("linux/amd64"), "linux", "amd64"), onPlatform(broken, "linux", "arm64"))
	}, refused: "its manifest lists 1 layers where its config lists 0"},
	"manifest of schema 1": {top: func(f files) descriptor {
		return f.blob(types.OCIManifestSchema1, []byte(`{"schemaVersion":1,"name":"a/b","tag":"latest","architecture":"amd64",`+
			`"fsLayers":[{"blobSum":"`+someDigest+`"}],"history":[{"v1Compatibility":"{}"}]}`))
	}, refused: "its manifest is of schema version 1"},
	"manifest of schema 3": {top: func(f files) descriptor {
		return f.image(func(manifest object, _ *descriptor) { manifest["schemaVersion"] = 3 })
	}, refused: "its manifest is of schema version 3"},
	"index of schema 3": {top: func(f files) descriptor {
		return f.blob(types.OCIImageIndex, []byte(`{"schemaVersion":3,"manifests":[]}`))
	}, refused: "its manifest is of schema version 3"},
	"manifest without a config": {top: func(f files) descriptor {
		return f.image(func(manifest object, _ *descriptor) { delete(manifest, "config") })
	}, refused: "its manifest names no config"},
	"layer of SHA-512": {top: func(f files) descriptor {
		return f.image(func(_ object, layer *descriptor) { layer.Digest = "sha512:" + strings.Repeat("a", 128) })
	}, refused: "digests of sha512"},
	"index of SHA-512": {top: func(f files) descriptor {
		d := f.plain("linux/amd64")
		d.Digest = "sha512:" + strings.Repeat("a", 128)
		return f.index(d)
	}, refused: "digests of sha512"},
	"manifest of another type": {top: func(f files) descriptor {
		return f.image(func(manifest object, _ *descriptor) { manifest["mediaType"] = types.DockerManifestSchema2 })
	}, refused: "where it is listed"},
	"index in an image's place": {top: func(f files) descriptor {
		return f.blob(types.OCIManifestSchema1, []byte(`{"schemaVersion":2,"manifests":[]}`))
	}, refused: "lists images as an index does"},
	"image in an index's place": {top: func(f files) descriptor {
		return f.blob(types.OCIImageIndex, []byte(`{"schemaVersion":2,"config":{},"layers":[]}`))
	}, refused: "names a config as an image does"},
	"config that is no JSON": {top: func(f files) descriptor {
		return f.artifact("", [2]string{string(types.OCIConfigJSON), "config"})
	}, refused: "its config is damaged"},
}

// TestWhatRegistriesHold: whatever an archive or another registry holds is
// published as it is, or refused in one sentence before anything is sent.
func TestWhatRegistriesHold(t *testing.T) {
	t.Parallel()
	for name, test := range whatRegistriesHold {
		var top descriptor
		var held map[string]types.MediaType
		archive := writeTar(t, "image.tar", func(f files) {
			top = test.top(f)
			f.top(top)
			held = f.added
		})
		for place, image := range map[string]string{
			"archive":  archive,
			"registry": serveArchive(t, archive, held) + "/image@" + top.Digest,
		} {
			t.Run(name+"/"+place, func(t *testing.T) {
				t.Parallel()
				sandbox := startSandbox(t, server.Options{InMemory: true})
				r := action(t, sandbox, "resource="+imageResource, "image="+image)
				if test.refused != "" {
					r.failed(t, sandbox, image, test.refused)
					sentNothing(t, sandbox)
					return
				}
				r.succeeded(t)
				r.has(t, map[string]string{"remote-digest": top.Digest, "uploaded": "true"})
				recordedFor(t, sandbox, test.architectures...)
				isWhole(t, sandbox, top.Digest)
				rerun(t, sandbox, r, "image="+image)
			})
		}
	}
}

// sentNothing fails the test if the registry was given a manifest or a byte of a
// blob, or was asked more often than anybody who doesn't try again would.
func sentNothing(t *testing.T, sandbox *server.Server) {
	t.Helper()
	requests := sandbox.Requests()
	for _, r := range requests {
		if r.Server == "registry" && r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("something was sent: %s", r)
		}
	}
	if len(requests) > 20 {
		t.Errorf("%d requests to refuse it: %v", len(requests), requests)
	}
}

// serveArchive starts a registry that has what an OCI archive has, under any
// name, and returns its host. It takes the manifests as they are, which
// registries don't always do.
func serveArchive(t *testing.T, archive string, held map[string]types.MediaType) string {
	t.Helper()
	content := map[string][]byte{}
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for entries := tar.NewReader(file); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if content["sha256:"+path.Base(header.Name)], err = io.ReadAll(entries); err != nil {
			t.Fatal(err)
		}
	}
	return strings.TrimPrefix(serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		digest := path.Base(r.URL.Path)
		mediaType, ok := held[digest]
		switch {
		case r.URL.Path == "/v2/":
			return
		case !ok:
			http.NotFound(w, r)
			return
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", string(mediaType))
			w.Header().Set("Docker-Content-Digest", digest)
		}
		_, _ = w.Write(content[digest])
	})), "http://")
}

// TestEmptyLayout: an archive of no image at all.
func TestEmptyLayout(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	archive := writeTar(t, "image.tar", func(f files) { f.top() })
	r := action(t, sandbox, "resource="+imageResource, "image="+archive)
	r.failed(t, sandbox, archive, "its index.json lists nothing, so there is no image in it")
	sentNothing(t, sandbox)
}

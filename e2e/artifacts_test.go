package e2e

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
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
	manifest := object{"mediaType": types.OCIManifestSchema1}
	if artifactType != "" {
		manifest["artifactType"] = artifactType
	}
	return f.manifest(manifest, f.blob(types.MediaType(config[0]), []byte(config[1])), layers...)
}

// manifest adds one of OCI's with these fields besides.
func (f files) manifest(fields object, config descriptor, layers ...[2]string) descriptor {
	f.t.Helper()
	described := []descriptor{}
	for _, layer := range layers {
		described = append(described, f.blob(types.MediaType(layer[0]), []byte(layer[1])))
	}
	manifest := object{"schemaVersion": 2, "config": config, "layers": described}
	maps.Copy(manifest, fields)
	return f.blob(types.OCIManifestSchema1, marshal(f.t, manifest))
}

// referrer adds a manifest of OCI's that is about an image, which needn't be
// there.
func (f files) referrer(artifactType string, config descriptor, annotations map[string]string, layers ...[2]string) descriptor {
	f.t.Helper()
	fields := object{
		"mediaType": types.OCIManifestSchema1, "annotations": annotations,
		"subject": descriptor{MediaType: types.OCIManifestSchema1, Digest: someDigest, Size: 525},
	}
	if artifactType != "" {
		fields["artifactType"] = artifactType
	}
	return f.manifest(fields, config, layers...)
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

// helmChart is what Helm 3 pushes: a manifest that doesn't say its type. A
// provenance file is a layer of its own.
func (f files) helmChart(provenance ...[2]string) descriptor {
	f.t.Helper()
	config := f.blob("application/vnd.cncf.helm.config.v1+json",
		[]byte(`{"name":"my-chart","version":"0.1.0","description":"A Helm chart","apiVersion":"v2","appVersion":"1.16.0","type":"application"}`))
	return f.manifest(object{"annotations": map[string]string{
		"org.opencontainers.image.created":     "2024-05-02T10:20:30Z",
		"org.opencontainers.image.description": "A Helm chart",
		"org.opencontainers.image.title":       "my-chart",
		"org.opencontainers.image.version":     "0.1.0",
	}}, config, append(provenance, [2]string{"application/vnd.cncf.helm.chart.content.v1.tar+gzip", "a chart"})...)
}

// signature is what cosign keeps under an image's digest and .sig.
func (f files) signature() descriptor {
	f.t.Helper()
	const payload = `{"critical":{"identity":{"docker-reference":"registry.example.com/app"},"image":{"docker-manifest-digest":"` +
		someDigest + `"},"type":"cosign container image signature"},"optional":null}`
	return f.artifact("", imageConfig("", payload), [2]string{"application/vnd.dev.cosign.simplesigning.v1+json", payload})
}

// bundle is what cosign 3, and GitHub, attach to an image.
func (f files) bundle() descriptor {
	f.t.Helper()
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	config := f.blob("application/vnd.oci.empty.v1+json", []byte("{}"))
	config.ArtifactType = bundle
	return f.referrer(bundle, config, map[string]string{
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
		"org.opencontainers.image.created":  "2024-05-02T10:20:30Z",
	}, [2]string{bundle, `{"mediaType":"` + bundle + `"}`})
}

// orasPush is what oras 1.1 and later push without options, for
// one file or, with another type of layer, for a folder. Without either, the
// layer is empty, too.
func (f files) orasPush(layer [2]string) descriptor {
	f.t.Helper()
	config := f.blob("application/vnd.oci.empty.v1+json", []byte("{}"))
	config.Data = []byte("{}")
	return f.manifest(object{
		"mediaType": types.OCIManifestSchema1, "artifactType": "application/vnd.unknown.artifact.v1",
		"annotations": map[string]string{"org.opencontainers.image.created": "2024-05-02T10:20:30Z"},
	}, config, layer)
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

	"index with a bundle of sigstore and what oras pushed beside an image": {top: func(f files) descriptor {
		artifact := f.orasPush([2]string{string(types.OCIUncompressedLayer), "file"})
		artifact.ArtifactType = "application/vnd.unknown.artifact.v1"
		return f.index(onPlatform(f.plain("linux/s390x"), "linux", "s390x"), f.bundle(), artifact)
	}, architectures: []string{"s390x"}},

	"Helm chart": {top: func(f files) descriptor { return f.helmChart() }, refused: "a Helm chart, and no image to run"},
	"Helm chart with its provenance": {top: func(f files) descriptor {
		return f.helmChart([2]string{"application/vnd.cncf.helm.chart.provenance.v1.prov", "signed"})
	}, refused: "a Helm chart, and no image to run"},
	"signature, as cosign writes it": {top: files.signature, refused: "a signature, and no image to run"},
	"signature, as cosign attaches it": {top: func(f files) descriptor {
		return f.referrer("application/vnd.dev.cosign.artifact.sig.v1+json", f.blob("application/vnd.dev.cosign.artifact.sig.v1+json",
			[]byte(imageConfig("", "{}")[1])), nil, [2]string{"application/vnd.dev.cosign.simplesigning.v1+json", "{}"})
	}, refused: "a signature, and no image to run"},
	"signature, as notation writes it": {top: func(f files) descriptor {
		return f.referrer("", f.blob("application/vnd.cncf.notary.signature", []byte("{}")), map[string]string{
			"io.cncf.notary.x509chain.thumbprint#S256": `["b7a69a70992ae4f9ff103ebe04a2c3ba6c777e439253ce36562e6e98375068c3"]`,
			"org.opencontainers.image.created":         "2024-05-02T10:20:30Z",
		}, [2]string{"application/jose+json", `{"payload":"e30","signature":"c2ln"}`})
	}, refused: "a signature, and no image to run"},
	"SBOM, as ko and cosign write it": {top: func(f files) descriptor {
		return f.artifact("", imageConfig("", "{}"), [2]string{"text/spdx+json", "{}"})
	}, refused: "an SBOM, and no image to run"},
	"SBOM of CycloneDX, as cosign writes it": {top: func(f files) descriptor {
		return f.artifact("", imageConfig("", "{}"), [2]string{"application/vnd.cyclonedx+json", "{}"})
	}, refused: "an SBOM, and no image to run"},
	"attestation, as cosign writes it": {top: func(f files) descriptor {
		const envelope = `{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`
		return f.artifact("", imageConfig("", envelope), [2]string{"application/vnd.dsse.envelope.v1+json", envelope})
	}, refused: "an attestation, and no image to run"},
	"bundle of sigstore": {top: files.bundle, refused: "a signature or an attestation, and no image to run"},
	"oras push of a file": {top: func(f files) descriptor {
		return f.orasPush([2]string{string(types.OCIUncompressedLayer), "file"})
	}, refused: `no image to run: the type of its content is "application/vnd.unknown.artifact.v1"`},
	"oras push of a folder": {top: func(f files) descriptor {
		return f.orasPush([2]string{string(types.OCILayer), "folder"})
	}, refused: `no image to run: the type of its content is "application/vnd.unknown.artifact.v1"`},
	"oras push of nothing": {top: func(f files) descriptor { return f.orasPush(emptyConfig) },
		refused: `no image to run: the type of its content is "application/vnd.unknown.artifact.v1"`},
	"oras push before 1.1": {top: func(f files) descriptor {
		return f.artifact("", [2]string{"application/vnd.unknown.config.v1+json", "{}"}, [2]string{string(types.OCIUncompressedLayer), "file"})
	}, refused: `no image to run: the type of its config is "application/vnd.unknown.config.v1+json"`},
	"oras push with an image's config that says nothing": {top: func(f files) descriptor {
		return f.artifact("", [2]string{string(types.OCIConfigJSON), "{}"}, [2]string{string(types.OCILayer), "folder"})
	}, refused: "the image's manifest lists 1 layers where its config lists 0"},
	"build cache": {top: func(f files) descriptor {
		return f.artifact("", [2]string{"application/vnd.buildkit.cacheconfig.v0", "{}"}, [2]string{string(types.OCILayer), "layer"})
	}, refused: "a build cache, and no image to run"},
	"index of a Helm chart": {top: func(f files) descriptor { return f.index(f.helmChart()) }, refused: "an index without an image to run"},
	"index of attestations": {top: func(f files) descriptor {
		return f.index(onPlatform(f.plain("unknown/unknown"), "unknown", "unknown"))
	}, refused: "an index without an image to run"},
	"empty index": {top: func(f files) descriptor { return f.index() }, refused: "lists nothing, so there is no image in it"},
	"index with an image without a platform": {top: func(f files) descriptor {
		return f.index(onPlatform(f.plain("linux/amd64"), "linux", "amd64"), f.plain(""))
	}, refused: "without a platform, and the image's config has none; pass the image by itself, with ` platform=os/arch` after it"},

	"image with fewer diff IDs than layers": {top: func(f files) descriptor {
		return f.artifact("", imageConfig("linux/amd64", "one"),
			[2]string{string(types.OCIUncompressedLayer), "one"}, [2]string{string(types.OCIUncompressedLayer), "two"})
	}, refused: "the image's manifest lists 2 layers where its config lists 1"},
	"index with such an image": {top: func(f files) descriptor {
		broken := f.artifact("", imageConfig("linux/arm64"), [2]string{string(types.OCIUncompressedLayer), "one"})
		return f.index(onPlatform(f.plain("linux/amd64"), "linux", "amd64"), onPlatform(broken, "linux", "arm64"))
	}, refused: "the image's manifest lists 1 layers where its config lists 0"},
	"manifest of schema 1": {top: func(f files) descriptor {
		return f.blob(types.OCIManifestSchema1, []byte(`{"schemaVersion":1,"name":"a/b","tag":"latest","architecture":"amd64",`+
			`"fsLayers":[{"blobSum":"`+someDigest+`"}],"history":[{"v1Compatibility":"{}"}]}`))
	}, refused: "the manifest is of schema version 1"},
	"manifest of schema 3": {top: func(f files) descriptor {
		return f.image(func(manifest object, _ *descriptor) { manifest["schemaVersion"] = 3 })
	}, refused: "the manifest is of schema version 3"},
	"index of schema 3": {top: func(f files) descriptor {
		return f.blob(types.OCIImageIndex, []byte(`{"schemaVersion":3,"manifests":[]}`))
	}, refused: "the manifest is of schema version 3"},
	"manifest without a config": {top: func(f files) descriptor {
		return f.image(func(manifest object, _ *descriptor) { delete(manifest, "config") })
	}, refused: "the manifest names no config"},
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
	}, refused: "the image's config is damaged"},
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
				isComplete(t, sandbox, top.Digest)
				rerunWithin(t, 12, sandbox, r, "image="+image) // an index's images are read for the output digests
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
	r.failed(t, sandbox, archive, "index.json lists nothing, so there is no image in it")
	sentNothing(t, sandbox)
}

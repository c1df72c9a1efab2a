package sources

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

var emptyConfig = [2]string{"application/vnd.oci.empty.v1+json", "{}"}

// onPlatform returns the descriptor with an operating system and an architecture.
func onPlatform(d harness.Descriptor, system, architecture string) harness.Descriptor {
	d.Platform = map[string]string{"os": system, "architecture": architecture}
	return d
}

// whatRegistriesHold is what people come across in registries and archives, and
// what becomes of it: it is published for some architectures, or refused.
var whatRegistriesHold = map[string]struct {
	top           func(harness.Archive) harness.Descriptor
	architectures []string
	refused       string
}{
	"image": {top: func(f harness.Archive) harness.Descriptor { return f.Plain("linux/arm64") },
		architectures: []string{"arm64"}},
	"image without a platform": {top: func(f harness.Archive) harness.Descriptor { return f.Plain("") },
		architectures: []string{"all"}},
	"image without layers": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", harness.ImageConfig("linux/amd64"))
	}, architectures: []string{"amd64"}},
	"image by another name of its architecture": {
		top: func(f harness.Archive) harness.Descriptor { return f.Plain("linux/x86_64") }, architectures: []string{"amd64"},
	},
	"image with a type of its own": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("application/vnd.example.app", harness.ImageConfig("linux/amd64", "layer"),
			[2]string{string(types.OCIUncompressedLayer), "layer"})
	}, architectures: []string{"amd64"}},
	"index with a Helm chart, a signature and an attestation beside an image": {
		top: func(f harness.Archive) harness.Descriptor {
			return f.Index(onPlatform(f.Plain("linux/amd64"), "linux", "amd64"), f.HelmChart(), f.Signature(),
				onPlatform(f.Artifact("", emptyConfig, [2]string{"application/vnd.in-toto+json", "{}"}), "unknown", "unknown"))
		}, architectures: []string{"amd64"}},

	"index with a bundle of sigstore and what oras pushed beside an image": {
		top: func(f harness.Archive) harness.Descriptor {
			artifact := f.OrasPush([2]string{string(types.OCIUncompressedLayer), "file"})
			artifact.ArtifactType = "application/vnd.unknown.artifact.v1"
			return f.Index(onPlatform(f.Plain("linux/s390x"), "linux", "s390x"), f.Bundle(), artifact)
		}, architectures: []string{"s390x"}},

	"Helm chart": {top: func(f harness.Archive) harness.Descriptor { return f.HelmChart() },
		refused: "a Helm chart, and no image to run"},
	"Helm chart with its provenance": {top: func(f harness.Archive) harness.Descriptor {
		return f.HelmChart([2]string{"application/vnd.cncf.helm.chart.provenance.v1.prov", "signed"})
	}, refused: "a Helm chart, and no image to run"},
	"signature, as cosign writes it": {top: harness.Archive.Signature, refused: "a signature, and no image to run"},
	"signature, as cosign attaches it": {top: func(f harness.Archive) harness.Descriptor {
		return f.Referrer("application/vnd.dev.cosign.artifact.sig.v1+json",
			f.Blob("application/vnd.dev.cosign.artifact.sig.v1+json",
				[]byte(harness.ImageConfig("", "{}")[1])), nil, [2]string{"application/vnd.dev.cosign.simplesigning.v1+json", "{}"})
	}, refused: "a signature, and no image to run"},
	"signature, as notation writes it": {top: func(f harness.Archive) harness.Descriptor {
		return f.Referrer("", f.Blob("application/vnd.cncf.notary.signature", []byte("{}")), map[string]string{
			"io.cncf.notary.x509chain.thumbprint#S256": `["b7a69a70992ae4f9ff103ebe04a2c3ba6c777e439253ce36562e6e98375068c3"]`,
			"org.opencontainers.image.created":         "2024-05-02T10:20:30Z",
		}, [2]string{"application/jose+json", `{"payload":"e30","signature":"c2ln"}`})
	}, refused: "a signature, and no image to run"},
	"SBOM, as ko and cosign write it": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", harness.ImageConfig("", "{}"), [2]string{"text/spdx+json", "{}"})
	}, refused: "an SBOM, and no image to run"},
	"SBOM of CycloneDX, as cosign writes it": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", harness.ImageConfig("", "{}"), [2]string{"application/vnd.cyclonedx+json", "{}"})
	}, refused: "an SBOM, and no image to run"},
	"attestation, as cosign writes it": {top: func(f harness.Archive) harness.Descriptor {
		const envelope = `{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`
		return f.Artifact("", harness.ImageConfig("", envelope), [2]string{"application/vnd.dsse.envelope.v1+json", envelope})
	}, refused: "an attestation, and no image to run"},
	"bundle of sigstore": {top: harness.Archive.Bundle, refused: "a signature or an attestation, and no image to run"},
	"oras push of a file": {top: func(f harness.Archive) harness.Descriptor {
		return f.OrasPush([2]string{string(types.OCIUncompressedLayer), "file"})
	}, refused: `no image to run: the type of its content is "application/vnd.unknown.artifact.v1"`},
	"oras push of a folder": {top: func(f harness.Archive) harness.Descriptor {
		return f.OrasPush([2]string{string(types.OCILayer), "folder"})
	}, refused: `no image to run: the type of its content is "application/vnd.unknown.artifact.v1"`},
	"oras push of nothing": {top: func(f harness.Archive) harness.Descriptor { return f.OrasPush(emptyConfig) },
		refused: `no image to run: the type of its content is "application/vnd.unknown.artifact.v1"`},
	"oras push before 1.1": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", [2]string{"application/vnd.unknown.config.v1+json", "{}"},
			[2]string{string(types.OCIUncompressedLayer), "file"})
	}, refused: `no image to run: the type of its config is "application/vnd.unknown.config.v1+json"`},
	"oras push with an image's config that says nothing": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", [2]string{string(types.OCIConfigJSON), "{}"}, [2]string{string(types.OCILayer), "folder"})
	}, refused: "the image's manifest lists 1 layers where its config lists 0"},
	"build cache": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", [2]string{"application/vnd.buildkit.cacheconfig.v0", "{}"},
			[2]string{string(types.OCILayer), "layer"})
	}, refused: "a build cache, and no image to run"},
	"index of a Helm chart": {top: func(f harness.Archive) harness.Descriptor { return f.Index(f.HelmChart()) },
		refused: "an index without an image to run"},
	"index of attestations": {top: func(f harness.Archive) harness.Descriptor {
		return f.Index(onPlatform(f.Plain("unknown/unknown"), "unknown", "unknown"))
	}, refused: "an index without an image to run"},
	"empty index": {top: func(f harness.Archive) harness.Descriptor { return f.Index() },
		refused: "lists nothing, so there is no image in it"},
	"index with an image without a platform": {top: func(f harness.Archive) harness.Descriptor {
		return f.Index(onPlatform(f.Plain("linux/amd64"), "linux", "amd64"), f.Plain(""))
	}, refused: "without a platform, and the image's config has none; pass the image by itself, with ` " +
		"platform=os/arch` after it"},

	"image with fewer diff IDs than layers": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", harness.ImageConfig("linux/amd64", "one"),
			[2]string{string(types.OCIUncompressedLayer), "one"}, [2]string{string(types.OCIUncompressedLayer), "two"})
	}, refused: "the image's manifest lists 2 layers where its config lists 1"},
	"index with such an image": {top: func(f harness.Archive) harness.Descriptor {
		broken := f.Artifact("", harness.ImageConfig("linux/arm64"), [2]string{string(types.OCIUncompressedLayer), "one"})
		return f.Index(onPlatform(f.Plain("linux/amd64"), "linux", "amd64"), onPlatform(broken, "linux", "arm64"))
	}, refused: "the image's manifest lists 1 layers where its config lists 0"},
	"manifest of schema 1": {top: func(f harness.Archive) harness.Descriptor {
		return f.Blob(types.OCIManifestSchema1,
			[]byte(`{"schemaVersion":1,"name":"a/b","tag":"latest","architecture":"amd64",`+
				`"fsLayers":[{"blobSum":"`+harness.SomeDigest+`"}],"history":[{"v1Compatibility":"{}"}]}`))
	}, refused: "the manifest is of schema version 1"},
	"manifest of schema 3": {top: func(f harness.Archive) harness.Descriptor {
		return f.Image(func(manifest harness.Object, _ *harness.Descriptor) { manifest["schemaVersion"] = 3 })
	}, refused: "the manifest is of schema version 3"},
	"index of schema 3": {top: func(f harness.Archive) harness.Descriptor {
		return f.Blob(types.OCIImageIndex, []byte(`{"schemaVersion":3,"manifests":[]}`))
	}, refused: "the manifest is of schema version 3"},
	"manifest without a config": {top: func(f harness.Archive) harness.Descriptor {
		return f.Image(func(manifest harness.Object, _ *harness.Descriptor) { delete(manifest, "config") })
	}, refused: "the manifest names no config"},
	"layer of SHA-512": {top: func(f harness.Archive) harness.Descriptor {
		return f.Image(func(_ harness.Object, layer *harness.Descriptor) {
			layer.Digest = "sha512:" +
				strings.Repeat("a", 128)
		})
	}, refused: "digests of sha512"},
	"index of SHA-512": {top: func(f harness.Archive) harness.Descriptor {
		d := f.Plain("linux/amd64")
		d.Digest = "sha512:" + strings.Repeat("a", 128)
		return f.Index(d)
	}, refused: "digests of sha512"},
	"manifest of another type": {top: func(f harness.Archive) harness.Descriptor {
		return f.Image(func(manifest harness.Object, _ *harness.Descriptor) {
			manifest["mediaType"] = types.DockerManifestSchema2
		})
	}, refused: "where it is listed"},
	"index in an image's place": {top: func(f harness.Archive) harness.Descriptor {
		return f.Blob(types.OCIManifestSchema1, []byte(`{"schemaVersion":2,"manifests":[]}`))
	}, refused: "lists images as an index does"},
	"image in an index's place": {top: func(f harness.Archive) harness.Descriptor {
		return f.Blob(types.OCIImageIndex, []byte(`{"schemaVersion":2,"config":{},"layers":[]}`))
	}, refused: "names a config as an image does"},
	"config that is no JSON": {top: func(f harness.Archive) harness.Descriptor {
		return f.Artifact("", [2]string{string(types.OCIConfigJSON), "config"})
	}, refused: "the image's config is damaged"},
}

// TestWhatRegistriesHold: whatever an archive or another registry holds is
// published as it is, or refused in one sentence before anything is sent.
func TestWhatRegistriesHold(t *testing.T) {
	t.Parallel()
	for name, test := range whatRegistriesHold {
		var top harness.Descriptor
		var held map[string]types.MediaType
		archive := harness.WriteTar(t, "image.tar", func(f harness.Archive) {
			top = test.top(f)
			f.LayoutIndex(top)
			held = f.Added
		})
		for place, image := range map[string]string{
			"archive":  archive,
			"registry": serveArchive(t, archive, held) + "/image@" + top.Digest,
		} {
			t.Run(name+"/"+place, func(t *testing.T) {
				t.Parallel()
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
				if test.refused != "" {
					r.Failed(t, sandbox, image, test.refused)
					harness.SentNothing(t, sandbox)
					return
				}
				r.Succeeded(t)
				r.HasOutputs(t, map[string]string{"remote-digest": top.Digest, "uploaded": "true"})
				harness.RecordedFor(t, sandbox, test.architectures...)
				harness.IsComplete(t, sandbox, top.Digest)
				harness.RerunWithin(t, 12, sandbox, r, "image="+image) // an index's images are read for the output digests
			})
		}
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
	return strings.TrimPrefix(harness.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	archive := harness.WriteTar(t, "image.tar", func(f harness.Archive) { f.LayoutIndex() })
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	r.Failed(t, sandbox, archive, "index.json lists nothing, so there is no image in it")
	harness.SentNothing(t, sandbox)
}

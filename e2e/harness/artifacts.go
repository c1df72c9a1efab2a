package harness

import (
	"fmt"
	"maps"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Artifact adds a manifest of OCI's as tools write it that keep something in a
// registry. Each blob is given by its type and its content.
func (f Archive) Artifact(artifactType string, config [2]string, layers ...[2]string) Descriptor {
	f.T.Helper()
	manifest := Object{"mediaType": types.OCIManifestSchema1}
	if artifactType != "" {
		manifest["artifactType"] = artifactType
	}
	return f.manifest(manifest, f.Blob(types.MediaType(config[0]), []byte(config[1])), layers...)
}

// manifest adds one of OCI's with these fields besides.
func (f Archive) manifest(fields Object, config Descriptor, layers ...[2]string) Descriptor {
	f.T.Helper()
	described := []Descriptor{}
	for _, layer := range layers {
		described = append(described, f.Blob(types.MediaType(layer[0]), []byte(layer[1])))
	}
	manifest := Object{"schemaVersion": 2, "config": config, "layers": described}
	maps.Copy(manifest, fields)
	return f.Blob(types.OCIManifestSchema1, Marshal(f.T, manifest))
}

// Referrer adds a manifest of OCI's that is about an image, which needn't be
// there.
func (f Archive) Referrer(
	artifactType string, config Descriptor, annotations map[string]string, layers ...[2]string,
) Descriptor {
	f.T.Helper()
	fields := Object{
		"mediaType": types.OCIManifestSchema1, "annotations": annotations,
		"subject": Descriptor{MediaType: types.OCIManifestSchema1, Digest: SomeDigest, Size: 525},
	}
	if artifactType != "" {
		fields["artifactType"] = artifactType
	}
	return f.manifest(fields, config, layers...)
}

// ImageConfig is an image's config; cosign and ko write one for what is no image,
// too, and crane for an image that it made of nothing.
func ImageConfig(platform string, layers ...string) [2]string {
	var diffIDs []string
	for _, layer := range layers {
		diffIDs = append(diffIDs, `"`+DigestOf([]byte(layer))+`"`)
	}
	system, architecture, _ := strings.Cut(platform, "/")
	return [2]string{string(types.OCIConfigJSON), fmt.Sprintf(
		`{"architecture":%q,"created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":%q,`+
			`"rootfs":{"type":"layers","diff_ids":[%s]},"config":{}}`, architecture, system, strings.Join(diffIDs, ","))}
}

// HelmChart is what Helm 3 pushes: a manifest that doesn't say its type. A
// provenance file is a layer of its own.
func (f Archive) HelmChart(provenance ...[2]string) Descriptor {
	f.T.Helper()
	config := f.Blob("application/vnd.cncf.helm.config.v1+json",
		[]byte(`{"name":"my-chart","version":"0.1.0","description":"A Helm chart","apiVersion":"v2","appVersion":"1.16.0",`+
			`"type":"application"}`))
	return f.manifest(Object{"annotations": map[string]string{
		"org.opencontainers.image.created":     "2024-05-02T10:20:30Z",
		"org.opencontainers.image.description": "A Helm chart",
		"org.opencontainers.image.title":       "my-chart",
		"org.opencontainers.image.version":     "0.1.0",
	}}, config, append(provenance, [2]string{"application/vnd.cncf.helm.chart.content.v1.tar+gzip", "a chart"})...)
}

// Signature is what cosign keeps under an image's digest and .sig.
func (f Archive) Signature() Descriptor {
	f.T.Helper()
	const payload = `{"critical":{"identity":{"docker-reference":"registry.example.com/app"},` +
		`"image":{"docker-manifest-digest":"` +
		SomeDigest + `"},"type":"cosign container image signature"},"optional":null}`
	return f.Artifact("", ImageConfig("", payload), [2]string{"application/vnd.dev.cosign.simplesigning.v1+json", payload})
}

// Bundle is what cosign 3, and GitHub, attach to an image.
func (f Archive) Bundle() Descriptor {
	f.T.Helper()
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	config := f.Blob("application/vnd.oci.empty.v1+json", []byte("{}"))
	config.ArtifactType = bundle
	return f.Referrer(bundle, config, map[string]string{
		"dev.sigstore.bundle.content":       "dsse-envelope",
		"dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
		"org.opencontainers.image.created":  "2024-05-02T10:20:30Z",
	}, [2]string{bundle, `{"mediaType":"` + bundle + `"}`})
}

// OrasPush is what oras 1.1 and later push without options, for
// one file or, with another type of layer, for a folder. Without either, the
// layer is empty, too.
func (f Archive) OrasPush(layer [2]string) Descriptor {
	f.T.Helper()
	config := f.Blob("application/vnd.oci.empty.v1+json", []byte("{}"))
	config.Data = []byte("{}")
	return f.manifest(Object{
		"mediaType": types.OCIManifestSchema1, "artifactType": "application/vnd.unknown.artifact.v1",
		"annotations": map[string]string{"org.opencontainers.image.created": "2024-05-02T10:20:30Z"},
	}, config, layer)
}

// Plain adds an image for a platform, with one layer.
func (f Archive) Plain(platform string) Descriptor {
	f.T.Helper()
	layer := "a layer for " + platform
	return f.Artifact("", ImageConfig(platform, layer), [2]string{string(types.OCIUncompressedLayer), layer})
}

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// artifactError is the error for a valid manifest that doesn't describe an image. Registries store Helm charts,
// signatures and other artifacts in manifests of the same form (OCI image spec, manifest.md, Guidelines for Artifact
// Usage).
type artifactError struct {
	// Type is the media type that identifies the artifact.
	Type types.MediaType
	// Part says which part of the manifest has that type: "config", "layer" or "content".
	Part string
}

// Error says what the artifact is, if its type is well known, and what to pass instead.
func (e *artifactError) Error() string {
	what := "no image to run"
	for _, a := range artifactNames {
		if strings.Contains(string(e.Type), a.part) {
			what = a.name + ", and no image to run"
			break
		}
	}
	return fmt.Sprintf(
		"%s: the type of its %s is %q; pass an image, or upload what it holds as a file",
		what,
		e.Part,
		e.Type,
	)
}

// artifactNames gives common artifacts a name for messages. The first entry whose part occurs in the media type
// applies.
var artifactNames = []struct{ part, name string }{
	{"vnd.cncf.helm.", "a Helm chart"},
	{"simplesigning", "a signature"},
	{"notary.signature", "a signature"},
	{"cosign.artifact.sig", "a signature"},
	{"sigstore.bundle", "a signature or an attestation"},
	{"spdx", "an SBOM"},
	{"cyclonedx", "an SBOM"},
	{"vnd.syft", "an SBOM"},
	{"cosign.artifact.sbom", "an SBOM"},
	{"in-toto", "an attestation"},
	{"dsse.envelope", "an attestation"},
	{"buildkit.cacheconfig", "a build cache"},
	{"docker.plugin", "an engine's plugin"},
	{"wasm", "a WebAssembly module"},
}

// manifestFields has the fields of a manifest or index that decide whether it is usable. Digests are strings, so that
// an error can quote an invalid one.
type manifestFields struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     types.MediaType  `json:"mediaType"`
	ArtifactType  types.MediaType  `json:"artifactType"`
	Config        *blobFields      `json:"config"`
	Layers        []blobFields     `json:"layers"`
	Manifests     *json.RawMessage `json:"manifests"`
}

// blobFields has the fields of a descriptor that are checked.
type blobFields struct {
	MediaType types.MediaType `json:"mediaType"`
	Digest    string          `json:"digest"`
	Size      int64           `json:"size"`
}

// check returns an error if the digest is unusable or the size isn't positive.
func (b blobFields) check() error {
	if err := checkDigest(b.Digest); err != nil {
		return err
	}
	if b.Size <= 0 {
		return fmt.Errorf("the manifest lists %s with %d bytes, %w", b.Digest, b.Size, errNoSize)
	}
	return nil
}

// checkImage checks the bytes of a manifest and of the config that the function config returns. It returns the config's
// platform, the zero Platform if the config names none. It returns an [*artifactError] for an artifact, without calling
// config, and another error for an image that no engine can run.
func checkImage(
	declared types.MediaType,
	manifest []byte,
	config func() ([]byte, error),
) (none v1.Platform, err error) {
	m, err := checkManifest(declared, manifest)
	if err != nil {
		return none, err
	}
	defer LockConfig(m.Config.Size)()
	raw, err := config()
	if err != nil {
		return none, err
	}
	return checkConfig(raw, len(m.Layers))
}

// CheckManifest returns an error if the bytes of a manifest, listed with the media type declared, don't describe an
// image that an engine can run. It doesn't read the config.
func CheckManifest(declared types.MediaType, manifest []byte) error {
	_, err := checkManifest(declared, manifest)
	return err
}

// checkManifest is [CheckManifest], and also returns the manifest's fields.
func checkManifest(declared types.MediaType, manifest []byte) (*manifestFields, error) {
	m, err := checkForm(declared, manifest)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Config == nil && m.Manifests != nil:
		return nil, fmt.Errorf(
			"the manifest's type is %q, an image's, but the manifest lists images as an index does; build the image again",
			declared,
		)
	case m.Config == nil || m.Config.Digest == "":
		return nil, errors.New("the manifest names no config, which says how an image is run; build the image again")
	case m.Config.MediaType == types.OCIEmptyJSON && m.ArtifactType != "":
		return nil, &artifactError{Type: m.ArtifactType, Part: "content"}
	case !slices.Contains(configTypes, m.Config.MediaType):
		return nil, &artifactError{Type: m.Config.MediaType, Part: "config"}
	}
	if err := m.Config.check(); err != nil {
		return nil, err
	}
	for _, layer := range m.Layers {
		if !fileSystem.MatchString(string(layer.MediaType)) {
			return nil, &artifactError{Type: layer.MediaType, Part: "layer"}
		}
		if err := layer.check(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// checkIndex returns an error if raw, listed with the media type declared, isn't a usable index.
func checkIndex(declared types.MediaType, raw []byte) error {
	m, err := checkForm(declared, raw)
	if err != nil {
		return err
	}
	if m.Manifests == nil && m.Config != nil {
		return fmt.Errorf(
			"the manifest's type is %q, an index's, but the manifest names a config as an image does; build the image again",
			declared,
		)
	}
	var children []blobFields
	if m.Manifests != nil {
		if err := json.Unmarshal(*m.Manifests, &children); err != nil {
			return fmt.Errorf("cannot read the index's list of manifests: %w", err)
		}
	}
	for _, child := range children {
		if err := checkDigest(child.Digest); err != nil {
			return err
		}
	}
	return nil
}

// checkForm checks and returns the fields that manifests and indexes have in common.
func checkForm(declared types.MediaType, raw []byte) (*manifestFields, error) {
	var m manifestFields
	err := json.Unmarshal(raw, &m)
	oci := declared == types.OCIManifestSchema1 || declared == types.OCIImageIndex
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the manifest: %w", err)
	case m.SchemaVersion == 1:
		return nil, errors.New(
			"the manifest is of schema version 1, which engines don't read any more; " +
				"build or push the image again with a current tool",
		)
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf(
			"the manifest is of schema version %d, and there is only 2; build the image again",
			m.SchemaVersion,
		)
	case m.MediaType != declared && (m.MediaType != "" || !oci):
		return nil, fmt.Errorf(
			"the manifest's type is %q where it is listed and %q in the manifest itself; build the image again",
			declared,
			m.MediaType,
		)
	}
	return &m, nil
}

// checkConfig checks the bytes of a config and returns its platform. It fails if the config doesn't list one diff ID
// for each of the layers.
func checkConfig(raw []byte, layers int) (v1.Platform, error) {
	var config struct {
		Architecture string   `json:"architecture"`
		OS           string   `json:"os"`
		OSVersion    string   `json:"os.version"`
		OSFeatures   []string `json:"os.features"`
		Variant      string   `json:"variant"`
		RootFS       struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return v1.Platform{}, fmt.Errorf("the image's config is damaged: %w", err)
	}
	if n := len(config.RootFS.DiffIDs); n != layers {
		return v1.Platform{}, fmt.Errorf(
			"the image's manifest lists %d layers where its config lists %d, so no engine can run it; build the image again",
			layers,
			n,
		)
	}
	for _, diffID := range config.RootFS.DiffIDs {
		if err := checkDigest(diffID); err != nil {
			return v1.Platform{}, err
		}
	}
	if config.OS == "" || config.Architecture == "" {
		return v1.Platform{}, nil
	}
	return v1.Platform{
		OS: config.OS, Architecture: config.Architecture, Variant: config.Variant,
		OSVersion: config.OSVersion, OSFeatures: config.OSFeatures,
	}, nil
}

// configTypes are the accepted media types of an image's config. Engines also accept those after the first two, which
// registries and old clients have stored (moby/moby#22378).
var configTypes = []types.MediaType{
	types.OCIConfigJSON, types.DockerConfigJSON, "application/octet-stream", "application/json", "text/html", "",
}

// fileSystem matches the media types of layers that contain a root file system, with any compression, encrypted or not.
var fileSystem = regexp.MustCompile(
	`^application/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar|` +
		`docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)(?:[.+][a-z0-9]+)*$`,
)

// checkDigest returns an error if the digest isn't a valid SHA-256 digest.
func checkDigest(digest string) error {
	hash, err := v1.NewHash(digest)
	if err == nil && hash.Algorithm == "sha256" {
		return nil
	}
	if algorithm, _, _ := strings.Cut(digest, ":"); err == nil || algorithm == "sha384" {
		return fmt.Errorf(
			"digests of %s, such as %.30s…, can't be used; build the image again with those of sha256",
			algorithm,
			digest,
		)
	}
	return fmt.Errorf("%.100q is given as a digest, but is not one; build the image again", digest)
}

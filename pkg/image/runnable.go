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

// artifactError is about a valid manifest that is not an image's: registries
// store Helm charts, signatures and other artifacts under manifests of the same form
// (OCI image spec, manifest.md, Guidelines for Artifact Usage).
type artifactError struct {
	// Type is the media type that shows it, and Of is what has that type: the
	// config, a layer, or the content.
	Type types.MediaType
	Of   string
}

func (e *artifactError) Error() string {
	what := "no image to run"
	for _, a := range artifactNames {
		if strings.Contains(string(e.Type), a.part) {
			what = a.name + ", and no image to run"
			break
		}
	}
	return fmt.Sprintf("%s: the type of its %s is %q; pass an image, or upload what it holds as a file", what, e.Of, e.Type)
}

// artifactNames are what people call the artifacts that they come across, by a
// part of a media type.
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

// manifestFields are the fields of a manifest or an index that decide whether
// it can be used. Digests are texts, so that each is refused by its own name.
type manifestFields struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     types.MediaType  `json:"mediaType"`
	ArtifactType  types.MediaType  `json:"artifactType"`
	Config        *blobFields      `json:"config"`
	Layers        []blobFields     `json:"layers"`
	Manifests     *json.RawMessage `json:"manifests"`
}

type blobFields struct {
	MediaType types.MediaType `json:"mediaType"`
	Digest    string          `json:"digest"`
	Size      int64           `json:"size"`
}

// check fails for a blob that can't be asked for, or that has no size.
func (b blobFields) check() error {
	if err := checkDigest(b.Digest); err != nil {
		return err
	}
	if b.Size <= 0 {
		return fmt.Errorf("the manifest lists %s with %d bytes, %w", b.Digest, b.Size, errNoSize)
	}
	return nil
}

// checkImage returns, from the bytes of an image's manifest and of its config, what
// the image runs on: the zero Platform where its config doesn't say. It fails
// with an [*artifactError] for what is no image, without asking for a config that
// need not exist, and with another error for an image that no engine can run.
func checkImage(declared types.MediaType, manifest []byte, config func() ([]byte, error)) (none v1.Platform, err error) {
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

// CheckManifest returns an error for the bytes of a manifest that isn't that of an image, or by which no engine can run
// one. It doesn't look at the config.
func CheckManifest(declared types.MediaType, manifest []byte) error {
	_, err := checkManifest(declared, manifest)
	return err
}

func checkManifest(declared types.MediaType, manifest []byte) (*manifestFields, error) {
	m, err := checkForm(declared, manifest)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Config == nil && m.Manifests != nil:
		return nil, fmt.Errorf("the manifest's type is %q, an image's, but the manifest lists images as an index does; build the image anew", declared)
	case m.Config == nil || m.Config.Digest == "":
		return nil, errors.New("the manifest names no config, which says how an image is run; build the image anew")
	case m.Config.MediaType == types.OCIEmptyJSON && m.ArtifactType != "":
		return nil, &artifactError{Type: m.ArtifactType, Of: "content"}
	case !slices.Contains(configTypes, m.Config.MediaType):
		return nil, &artifactError{Type: m.Config.MediaType, Of: "config"}
	}
	if err := m.Config.check(); err != nil {
		return nil, err
	}
	for _, layer := range m.Layers {
		if !fileSystem.MatchString(string(layer.MediaType)) {
			return nil, &artifactError{Type: layer.MediaType, Of: "layer"}
		}
		if err := layer.check(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// checkIndex fails for the bytes of an index that can't be read as one.
func checkIndex(declared types.MediaType, raw []byte) error {
	m, err := checkForm(declared, raw)
	if err != nil {
		return err
	}
	if m.Manifests == nil && m.Config != nil {
		return fmt.Errorf("the manifest's type is %q, an index's, but the manifest names a config as an image does; build the image anew", declared)
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

// checkForm reads what manifests and indexes have in common.
func checkForm(declared types.MediaType, raw []byte) (*manifestFields, error) {
	var m manifestFields
	err := json.Unmarshal(raw, &m)
	oci := declared == types.OCIManifestSchema1 || declared == types.OCIImageIndex
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the manifest: %w", err)
	case m.SchemaVersion == 1:
		return nil, errors.New("the manifest is of schema version 1, which engines don't read any more; build or push the image anew with a current tool")
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("the manifest is of schema version %d, and there is only 2; build the image anew", m.SchemaVersion)
	case m.MediaType != declared && (m.MediaType != "" || !oci):
		return nil, fmt.Errorf("the manifest's type is %q where it is listed and %q in the manifest itself; build the image anew", declared, m.MediaType)
	}
	return &m, nil
}

// checkConfig returns what an image with that many layers runs on.
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
		return v1.Platform{}, fmt.Errorf("the image's manifest lists %d layers where its config lists %d, so no engine can run it; build the image anew", layers, n)
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

// configTypes are the media types that an image's config can have. Besides the
// two proper ones there are those that engines accept because registries and
// old clients left them in the world (moby/moby#22378).
var configTypes = []types.MediaType{
	types.OCIConfigJSON, types.DockerConfigJSON, "application/octet-stream", "application/json", "text/html", "",
}

// fileSystem is what the media types of layers look like that make up a root
// file system, in any compression, encrypted or not.
var fileSystem = regexp.MustCompile(`^application/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar)(?:[.+][a-z0-9]+)*$`)

// checkDigest fails for a digest that can't be asked for.
func checkDigest(digest string) error {
	hash, err := v1.NewHash(digest)
	if err == nil && hash.Algorithm == "sha256" {
		return nil
	}
	if algorithm, _, _ := strings.Cut(digest, ":"); err == nil || algorithm == "sha384" {
		return fmt.Errorf("digests of %s, such as %.30s…, can't be used; build the image anew with those of sha256", algorithm, digest)
	}
	return fmt.Errorf("%.100q is given as a digest, but is none; build the image anew", digest)
}

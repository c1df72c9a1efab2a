package charm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"
)

// The types of a resource.
const (
	TypeImage = "oci-image"
	TypeFile  = "file"
)

// Metadata is the part of charmcraft.yaml or metadata.yaml that is about
// resources.
type Metadata struct {
	Name      string              `json:"name"` // on Charmhub; empty where the file has none
	Resources map[string]Resource `json:"resources"`
}

// Resource is a resource that a charm declares.
type Resource struct {
	Type     string `json:"type"`            // TypeImage or TypeFile
	Source   string `json:"upstream-source"` // of an image: name[:tag][@digest] in a registry; may be empty
	Optional bool   `json:"optional"`        // the charm can be released without it
}

// maxMetadata is how many bytes a charm's metadata may have; real ones have some
// thousand.
const maxMetadata = 1 << 20

// readText reads a YAML file of at most maxMetadata bytes.
func readText(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxMetadata+1))
	if len(text) > maxMetadata {
		return nil, fmt.Errorf("more than %d bytes, which no charm's has", maxMetadata)
	}
	return text, err
}

// mergeKey is a YAML merge key, <<.
var mergeKey = regexp.MustCompile(`<<(\s*:)`)

// ReadMetadata reads a charm's metadata, at most 1 MiB, and ignores other fields.
// It returns an error for invalid names and for duplicate keys.
func ReadMetadata(r io.Reader) (m Metadata, err error) {
	text, err := readText(r)
	if err != nil {
		return m, err
	}
	// A key that overrides a merged one is no duplicate, but the strict conversion
	// takes it for one. So it is given the text without merges.
	if _, err := yaml.YAMLToJSONStrict(mergeKey.ReplaceAll(text, []byte("<_$1"))); err != nil {
		return m, err
	}
	if err := yaml.Unmarshal(text, &m); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			err = fmt.Errorf("%s can't be of type %s", cmp.Or(wrong.Field, "the metadata"), wrong.Value)
		}
		return m, err
	}
	var complaints []error
	if err := CheckName(m.Name); m.Name != "" && err != nil {
		complaints = append(complaints, fmt.Errorf("the charm's name %.80q is invalid; %w", m.Name, err))
	}
	for name := range m.Resources {
		if err := CheckResourceName(name); err != nil {
			complaints = append(complaints, fmt.Errorf("the resource's name %.80q is invalid; %w", name, err))
		}
	}
	return m, errors.Join(complaints...)
}

// Images returns the names of the image resources that say where their image
// comes from, sorted.
func (m Metadata) Images() []string {
	var names []string
	for name, resource := range m.Resources {
		if resource.Type == TypeImage && resource.Source != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

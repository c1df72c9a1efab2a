package charm

import (
	"io"
	"maps"
	"slices"
)

// The types of a resource.
const (
	TypeImage = "oci-image"
	TypeFile  = "file"
)

// Metadata is the part of charmcraft.yaml or metadata.yaml that is about resources.
type Metadata struct {
	Name      string // on Charmhub; empty where the file has none
	Resources map[string]Resource
}

// Resource is a resource that a charm declares.
type Resource struct {
	Type     string // TypeImage or TypeFile
	Source   string // upstream-source of an image: name[:tag][@digest] in a registry; may be empty
	Optional bool   // the charm can be released without it
}

// ReadMetadata reads a charm's metadata, at most 1 MiB, and ignores other fields. It returns an error for invalid names
// and for duplicate keys. It takes a bounded amount of memory and time for any text.
func ReadMetadata(r io.Reader) (m Metadata, err error) {
	d, err := readYAML(r)
	if err != nil {
		return m, err
	}
	top := d.fields(d.root, "the metadata")
	m.Name = d.text(top["name"], "name")
	if err := CheckName(m.Name); m.Name != "" && err != nil {
		d.complain(top["name"], "the charm's name %.80q is invalid; %w", m.Name, err)
	}
	resources := d.fields(top["resources"], "resources")
	for _, name := range slices.Sorted(maps.Keys(resources)) {
		if err := CheckResourceName(name); err != nil {
			d.complain(resources[name], "the resource's name %.80q is invalid; %w", name, err)
		}
		fields := d.fields(resources[name], "a resource")
		if m.Resources == nil {
			m.Resources = map[string]Resource{}
		}
		m.Resources[name] = Resource{
			Type:     d.text(fields["type"], "type"),
			Source:   d.text(fields["upstream-source"], "upstream-source"),
			Optional: d.boolean(fields["optional"], "optional"),
		}
	}
	return m, d.err()
}

// Images returns the sorted names of the image resources with an upstream-source.
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

package inputs

import (
	"fmt"
	"os"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

// Files opens the files that inputs name, as [workspace.Workspace] does.
type Files interface {
	Open(path string) (*os.File, error)
}

// ReadMetadata reads the file that the input metadata names.
func ReadMetadata(files Files, path string) (charm.Metadata, error) {
	file, err := files.Open(path)
	if err != nil {
		return charm.Metadata{}, fmt.Errorf("input metadata: %w", err)
	}
	defer func() { _ = file.Close() }()
	metadata, err := charm.ReadMetadata(file)
	if err != nil {
		return charm.Metadata{}, fmt.Errorf("input metadata: cannot read %s: %w", path, err)
	}
	return metadata, nil
}

// CharmName returns the charm's name in the metadata of the file at path.
func CharmName(metadata charm.Metadata, path string) (string, error) {
	if metadata.Name == "" {
		return "", fmt.Errorf("input metadata: %s has no name; give the charm's with the input charm", path)
	}
	return metadata.Name, nil
}

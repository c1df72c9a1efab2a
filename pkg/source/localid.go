package source

import (
	"context"
	"fmt"
	"slices"

	"github.com/containers/image/v5/docker/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// LocalID returns the ID of the image that the container engine has under a name. Parse accepts the ID as a reference.
// The beginning of an ID isn't a name.
func LocalID(ctx context.Context, name string) (v1.Hash, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%q is not the name of an image: %w", name, err)
	}
	engine, err := newEngine()
	if err != nil {
		return v1.Hash{}, err
	}
	found, err := engine.inspectImage(ctx, name)
	if err != nil {
		return v1.Hash{}, err
	}
	full := reference.TagNameOnly(named)
	if !slices.ContainsFunc(found.RepoTags, func(tag string) bool { return isTag(tag, full) }) {
		return v1.Hash{}, fmt.Errorf("the container engine has no image of the name %q", name)
	}
	return v1.NewHash(found.ID)
}

// isTag reports whether a tag, as a container engine lists it, is that of the name. Podman lists what it built under a
// name without a host as localhost/name.
func isTag(tag string, name reference.Named) bool {
	listed, err := reference.ParseNormalizedNamed(tag)
	return err == nil && listed.String() == name.String() || tag == "localhost/"+reference.FamiliarString(name)
}

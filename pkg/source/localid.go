package source

import (
	"context"
	"fmt"

	"github.com/containers/image/v5/docker/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// LocalID returns the ID of the image that the container engine has under a name, as a reference takes it in place of
// the name.
func LocalID(ctx context.Context, name string) (v1.Hash, error) {
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
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
	return v1.NewHash(found.ID)
}

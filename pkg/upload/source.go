package upload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// registryAccess says how the registries are asked that images come from. Its
// error is a complaint: a password without the one registry that it is for.
func (j *job) registryAccess() (image.RegistryAccess, error) {
	access := image.RegistryAccess{UserAgent: j.userAgent, Transport: j.transport, Mask: j.runner.Mask}
	if j.Source.Password == "" {
		return access, nil
	}
	var err error
	if j.Source.Registry != "" {
		access.Registry, err = image.ParseRegistry(j.Source.Registry)
		if err != nil {
			return access, fmt.Errorf("input source-registry: %w", err)
		}
	} else {
		var named []string
		for _, part := range j.images {
			if registry := part.Registry(); registry != "" && !slices.Contains(named, registry) {
				named = append(named, registry)
			}
		}
		if len(named) > 1 {
			return access, fmt.Errorf("the lines of input image name several registries, %s, and source-password is for one of them: "+
				"name that with source-registry, for example source-registry: %s", list(named), named[0])
		}
		if len(named) == 1 {
			access.Registry = named[0]
		}
	}
	access.Username, access.Password = j.Source.Username, j.Source.Password
	return access, nil
}

// hideCredentials masks the passwords that references have in them by mistake.
func (j *job) hideCredentials(references ...string) {
	for _, reference := range references {
		for _, secret := range image.Credentials(reference) {
			j.runner.Mask(secret)
		}
	}
}

// settled returns the access for a look at a tag while there are complaints. If
// they are about more than tags, a line that can't be read, or another input,
// may be what the password is meant for; then it is used only where
// source-registry says so.
func (j *job) settled(access image.RegistryAccess, complaints []error) image.RegistryAccess {
	unsettled := slices.ContainsFunc(complaints, func(err error) bool {
		var tag *image.TagError
		return err != nil && !errors.As(err, &tag)
	})
	if unsettled && j.Source.Registry == "" {
		access.Registry, access.Username, access.Password = "", "", ""
	}
	return access
}

// withDigests adds to each complaint about a tag the reference with the digest
// that the tag has at the moment. A registry that doesn't tell in time leaves
// the complaint as it is.
func withDigests(ctx context.Context, access image.RegistryAccess, complaints []error) []error {
	ctx, cancel := context.WithTimeout(ctx, image.TagTimeout)
	defer cancel()
	told := make([]error, len(complaints))
	var group parallel.Group
	for n, complaint := range complaints {
		group.Go(func() error { told[n] = withDigest(ctx, access, complaint); return nil })
	}
	_ = group.Wait() // none fails
	return told
}

func withDigest(ctx context.Context, access image.RegistryAccess, complaint error) error {
	var tag *image.TagError
	// What the engine has under a name need not be what a registry has.
	if !errors.As(complaint, &tag) || strings.HasPrefix(tag.Text, "docker-daemon:") {
		return complaint
	}
	digest, err := access.Resolve(ctx, tag.Name)
	if err != nil {
		return complaint
	}
	return fmt.Errorf("%w; right now that is %s@%s", complaint, tag.Name, digest)
}

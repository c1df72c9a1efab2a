package upload

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// registryAccess says how the registries are asked that images come from. The
// password is masked in the form that HTTP sends it in, too.
func (j *job) registryAccess() image.RegistryAccess {
	if j.Source.Password != "" {
		j.runner.Mask(base64.StdEncoding.EncodeToString([]byte(j.Source.Username + ":" + j.Source.Password)))
	}
	return image.RegistryAccess{Username: j.Source.Username, Password: j.Source.Password, UserAgent: j.userAgent}
}

// tagTimeout bounds the wait for what only makes a complaint more helpful.
const tagTimeout = 10 * time.Second

// withDigests adds to each complaint about a tag the reference with the digest
// that the tag has at the moment. A registry that doesn't tell in time leaves
// the complaint as it is.
func withDigests(ctx context.Context, access image.RegistryAccess, complaints []error) []error {
	ctx, cancel := context.WithTimeout(ctx, tagTimeout)
	defer cancel()
	told := make([]error, len(complaints))
	var wg sync.WaitGroup
	for n, complaint := range complaints {
		wg.Go(func() { told[n] = withDigest(ctx, access, complaint) })
	}
	wg.Wait()
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

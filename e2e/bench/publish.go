package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// image returns the image of a reference into the repository.
func (h *hub) image(ctx context.Context, reference string) (v1.Image, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	_, username, password := h.RegistryAuth(charmName, resourceName)
	login := &authn.Basic{Username: username, Password: password}
	image, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuth(login))
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w", reference, err)
	}
	return image, nil
}

// publish makes the latest image a revision of the resource, as whoever pushed
// it with another tool has to.
func (h *hub) publish(ctx context.Context) error {
	repository, _, _ := h.RegistryAuth(charmName, resourceName)
	image, err := h.image(ctx, repository+":latest")
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	credentials, err := charmhub.ParseCredentials(h.Token())
	if err != nil {
		return err
	}
	store := charmhub.New(charmhub.Config{
		StoreURL: h.StoreURL, StorageURL: h.StorageURL, SSOURL: h.SSOURL,
		Credentials: credentials, Transport: http.DefaultTransport, Logger: zap.NewNop(),
	})
	text, err := store.ImageBlob(ctx, charmName, resourceName, digest.String())
	if err != nil {
		return err
	}
	return create(ctx, store, text)
}

func create(ctx context.Context, store *charmhub.Client, text []byte) error {
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	id, err := store.Upload(ctx, "image.json", int64(len(text)), open)
	if err != nil {
		return err
	}
	architecture, _ := charmhub.DebianArch(runtime.GOARCH)
	status, err := store.CreateRevision(ctx, charmName, resourceName, charmhub.NewRevision{
		UploadID: id, Type: charmhub.TypeImage, Architectures: []string{architecture},
	})
	if err != nil {
		return err
	}
	_, err = store.Await(ctx, status)
	return err
}

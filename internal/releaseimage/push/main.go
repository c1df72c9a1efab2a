// Push builds the image of a release, pushes it to a repository under the
// version as its tag, and prints its digest. It runs in the root folder of this
// module, with the logins that `crane auth login` or `docker login` stored:
//
//	go run ./internal/releaseimage/push ghcr.io/charmhub-actions/upload-resource v1.0.0
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/charmhub-actions/upload-resource/internal/releaseimage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	digest, err := push(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// push builds and pushes the image, and returns its digest.
func push(ctx context.Context, args []string) (string, error) {
	if len(args) != 2 {
		return "", errors.New("reading the arguments: there must be two, the repository and the version")
	}
	repository, version := args[0], args[1]
	tag, err := name.NewTag(repository + ":" + version)
	if err != nil {
		return "", err
	}
	index, err := releaseimage.Index(ctx, ".", version)
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	err = remote.WriteIndex(tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return "", fmt.Errorf("pushing %s: %w", tag, err)
	}
	return digest.String(), nil
}

// Push builds a release. It pushes the image to a repository under the version as
// its tag, prints the image's digest, and writes the programs with their checksums
// into a folder. It runs in the root folder of this module, with the logins that
// `crane auth login` or `docker login` stored:
//
//	go run ./internal/releaseimage/push ghcr.io/charmhub-actions/upload-resource v1.0.0 /tmp/programs
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

// push builds the programs and the image, and returns the image's digest.
func push(ctx context.Context, args []string) (string, error) {
	if len(args) != 3 {
		return "", errors.New("reading the arguments: there must be three, the repository, the version and a folder " +
			"for the programs")
	}
	repository, version, folder := args[0], args[1], args[2]
	tag, err := name.NewTag(repository + ":" + version)
	if err != nil {
		return "", err
	}
	programs, err := releaseimage.Compile(ctx, ".", version)
	if err != nil {
		return "", err
	}
	if err := releaseimage.Write(folder, programs); err != nil {
		return "", fmt.Errorf("writing the programs: %w", err)
	}
	index, err := releaseimage.Index(programs, version)
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

// Package registry is a charm's repository in Charmhub's registry: what it holds already, what of an image it lacks, and
// how that is sent.
//
// Each step is a function from values to a value; a [Repository] has no memory between them:
//
//   - [Repository.Manifest] and [Repository.Locate]: does the repository have this image? No layer is read for the answer.
//   - [Repository.Layers]: which blobs hold layers that are known by their uncompressed digest?
//   - [Repository.Plan]: which manifests and blobs of an image are missing?
//   - [Repository.Push]: send those, and no others.
//   - [Repository.Record] and [Repository.MoveLatest]: write what Locate finds the image by next time.
//
// The package never lists, deletes or rewrites anything but records and the tag latest; the bytes of an image stay as they
// are. It follows the OCI distribution specification v1.1 and CNCF distribution's token authentication.
package registry

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
	carry "github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Options say which repository to open, and how. Username and Password are secrets: they are sent to the registry's
// token service and appear nowhere else.
type Options struct {
	// Image is the repository as Charmhub's upload credentials name it: registry.jujucharms.com/charm/<id>/<resource>.
	Image string
	// Path is where the registry is on its host, for one that isn't at the root: its API is below Path + "/v2/".
	Path               string
	Username, Password string
	// Challenge is that of the registry, which was asked beforehand; nil asks now.
	Challenge *Challenge
	// Transport carries every request. Repeating requests, save those under transport.Once, is left to it, and so is giving
	// up those that fell silent. Its ExpectContinueTimeout should not be zero, else a token that expires
	// costs a chunk of a blob.
	Transport http.RoundTripper
	// Decompress looks into the layers that are sent, to compare them with their diff IDs; with nil none is.
	Decompress blobupload.Decompressor
	Logger     *zap.Logger
}

// Repository is one charm resource's repository. Its methods may be called from several goroutines.
type Repository struct {
	name   name.Repository
	client *http.Client
	log    *zap.Logger

	decompress blobupload.Decompressor

	// wait pauses between tries of a blob or manifest. Tests replace it.
	wait func(context.Context, time.Duration) error
}

// Open asks the registry how it authenticates and exchanges the credentials for a token that may pull from and push
// to the repository: two requests, or one where o has the challenge. Later calls share that token and renew it when it has expired.
func Open(ctx context.Context, o Options) (*Repository, error) {
	repo, err := name.NewRepository(o.Image, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("reading the repository's name that Charmhub gave, %q: %w", o.Image, err)
	}
	r := &Repository{name: repo, log: o.Logger, decompress: o.Decompress, wait: carry.Sleep}
	auth := authn.FromConfig(authn.AuthConfig{Username: o.Username, Password: o.Password})
	scopes := []string{repo.Scope("pull,push")}
	authenticated, err := transport.NewWithContext(ctx, repo.Registry, auth, wire{o.Transport, repo.RegistryStr(), o.Path, o.Challenge}, scopes)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", repo, r.explain(err))
	}
	r.client = &http.Client{Transport: authenticated, CheckRedirect: stay}
	return r, nil
}

// Name is the repository's full name, registry included.
func (r *Repository) Name() string { return r.name.String() }

// remoteOptions make go-containerregistry use this repository's authenticated transport as it is.
func (r *Repository) remoteOptions(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.client.Transport)}
}

// stay follows no redirect: the answer is then the redirect itself.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Package registry is a charm's repository in Charmhub's registry: what it holds already, what of an image it lacks,
// and how that gets there.
//
// A [Repository] answers, in the order in which they are asked:
//
//   - [Repository.Manifest] and [Repository.Locate]: is this image there already? No layer is read for the answer.
//   - [Repository.Known]: which blobs hold layers that are known by their uncompressed digest?
//   - [Repository.Plan]: which manifests and blobs of an image are missing?
//   - [Repository.Push]: send those, and no others.
//   - [Repository.Record] and [Repository.MoveLatest]: remember what was sent, so that Locate finds it next time.
//
// The package never lists, deletes or rewrites anything but records and the tag latest; an image
// keeps its bytes. It follows the OCI distribution specification v1.1 and CNCF distribution's token authentication.
package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/zap"
)

// Options say which repository to open, and how. Username and Password are secrets: they are sent to the registry's
// token service and appear nowhere else.
type Options struct {
	// Image is the repository as Charmhub's upload credentials name it: registry.jujucharms.com/charm/<id>/<resource>.
	Image string
	// Path is where the registry is on its host, for one that isn't at the root: its API is below Path + "/v2/".
	Path               string
	Username, Password string
	// Transport carries every request. Repeating those that have no body, or one that can be had again (GetBody), is
	// left to it, and so is giving up those on which nothing moves any more. The body of a blob's chunk can't be had
	// again; chunks are repeated here, from where the registry stands. Its ExpectContinueTimeout should not be zero,
	// else a token that expires costs a chunk.
	Transport http.RoundTripper
	// Decompress looks into the layers that are sent, to compare them with their diff IDs; with nil none is.
	Decompress Decompressor
	Logger     *zap.Logger
}

// Decompressor returns what a layer's blob holds, and whether it was compressed. What it returns fails to be read where
// the blob is damaged, or made to fill memory or time.
type Decompressor func(blob io.Reader) (layer io.ReadCloser, compressed bool, err error)

// Repository is one charm resource's repository. Its methods may be called from several goroutines.
type Repository struct {
	name   name.Repository
	client *http.Client
	log    *zap.Logger

	decompress Decompressor

	// wait pauses between tries of an upload. Tests replace it.
	wait func(context.Context, time.Duration) error

	mu       sync.Mutex
	seen     map[string]*remote.Descriptor // manifests asked for in this run, by tag or digest; nil for none
	stored   map[v1.Hash]stored            // the same by digest alone, and those pushed
	recorded map[v1.Hash]record            // the records that were read, by source
	known    map[v1.Hash]bool              // blobs that Known returned
}

// Open asks the registry how it authenticates and exchanges the credentials for a token that may pull from and push
// to the repository: two requests. Later calls share that token and renew it when it has expired.
func Open(ctx context.Context, o Options) (*Repository, error) {
	repo, err := name.NewRepository(o.Image, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("reading the repository's name that Charmhub gave, %q: %w", o.Image, err)
	}
	r := &Repository{
		name: repo, log: o.Logger, decompress: o.Decompress, wait: sleep,
		seen: map[string]*remote.Descriptor{}, stored: map[v1.Hash]stored{}, recorded: map[v1.Hash]record{},
		known: map[v1.Hash]bool{},
	}
	auth := authn.FromConfig(authn.AuthConfig{Username: o.Username, Password: o.Password})
	scopes := []string{repo.Scope("pull,push")}
	authenticated, err := transport.NewWithContext(ctx, repo.Registry, auth, wire{o.Transport, repo.RegistryStr(), o.Path}, scopes)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", repo, r.explain(err))
	}
	r.client = &http.Client{Transport: authenticated, CheckRedirect: stay}
	return r, nil
}

// Name is the repository's full name, registry included.
func (r *Repository) Name() string { return r.name.String() }

// Reference names the manifest of that digest in this repository, as `kubectl describe` shows it.
func (r *Repository) Reference(digest v1.Hash) string { return r.name.Digest(digest.String()).String() }

// remoteOptions make go-containerregistry use this repository's authenticated transport as it is.
func (r *Repository) remoteOptions(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.client.Transport)}
}

// stay keeps a request from following a redirect: the answer is then the redirect itself.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

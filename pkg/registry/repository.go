// Package registry finds and stores images in a charm's repository of Charmhub's registry.
//
// A [View] is one run's look at the repository. It caches answers, so that most tags, manifests and blobs are
// requested only once, however many callers need them:
//
//   - [View.Find] returns the image of an identity, if the repository provably has it. It reads no layer of an image
//     that an earlier run with the same store token recorded.
//
//   - [View.Layers] returns which blobs hold which uncompressed layers.
//
//   - [View.Plan] returns which manifests and blobs of an image are missing.
//
//   - [View.Push] sends what a plan says is missing. [View.SendBlob] may send layers before the plan is known.
//
//   - [View.Record] and [View.RecordKey] write records, by which the next run finds the image.
//
// The package lists and deletes nothing, and overwrites only records and the tag latest. It follows the OCI
// distribution specification v1.1 and CNCF distribution's token authentication.
package registry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
	"github.com/charmhub-actions/upload-resource/pkg/registry/layercheck"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Options select the repository to open. Username and Password are secrets. They are only sent to the registry's token
// service, or to the registry if it has none.
type Options struct {
	// Image is the name of the repository in Charmhub's upload credentials:
	// registry.jujucharms.com/charm/<id>/<resource>.
	Image string
	// Path is the path before /v2/ in the URLs of a registry that isn't at the root of its host; usually "".
	Path               string
	Username, Password string
	// Challenge is the registry's challenge if [Ask] was called before; with nil, Open requests it.
	Challenge *Challenge
	// Transport sends every request. It has to repeat failed requests, except those under transport.Once, and to give up
	// connections without traffic. Its ExpectContinueTimeout should not be zero: the registry can then refuse an expired
	// token before a part of a blob is sent in vain.
	Transport http.RoundTripper
	// Hosts remembers what the registry's host doesn't support. Repositories that share it share what they learn. Nil
	// stands for a new one.
	Hosts *blobupload.Hosts
	// Decompress looks into the layers that are compared with their diff IDs, while they are sent or read. With nil, no
	// compressed layer is compared.
	Decompress layercheck.Decompressor
	Logger     *zap.Logger
}

// Repository is the repository of one resource of a charm. Its methods may be called from several goroutines.
type Repository struct {
	name   name.Repository
	client *http.Client
	log    *zap.Logger

	decompress layercheck.Decompressor
	hosts      *blobupload.Hosts
	seen       *observed

	// wait pauses between tries of a blob or manifest. Tests replace it.
	wait func(context.Context, time.Duration) error
}

// Open requests the registry's challenge and exchanges the credentials for a token that allows pulling and pushing.
// That is two requests, or one if o.Challenge is set. Later requests share the token. It is renewed when it expires.
func Open(ctx context.Context, o Options) (*Repository, error) {
	repo, err := name.NewRepository(o.Image, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("reading the repository's name that Charmhub gave, %q: %w", o.Image, err)
	}
	r := &Repository{
		name: repo, log: o.Logger, decompress: o.Decompress, wait: transport.Sleep,
		hosts: cmp.Or(o.Hosts, new(blobupload.Hosts)), seen: new(observed),
	}
	auth := authn.FromConfig(authn.AuthConfig{Username: o.Username, Password: o.Password})
	scopes := []string{repo.Scope("pull,push")}
	// A request for a token is repeated below authentication, and any other request above it, with a new token.
	scoped := scopeRetrier{
		next:    baseTransport{o.Transport, repo.RegistryStr(), o.Path, o.Challenge, r.seen},
		repeats: isTokenRequest,
		wait:    func(ctx context.Context, d time.Duration) error { return r.wait(ctx, d) },
		scopes:  scopes, refused: new(atomic.Bool), log: o.Logger,
	}
	authenticated, err := registryTransport.NewWithContext(ctx, repo.Registry, auth, scoped, scopes)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", repo, r.explain(err))
	}
	scoped.next, scoped.repeats = asAnswered{authenticated}, r.isOwn
	// Only a transport of go-containerregistry's own is used by it as it is. This one adds nothing.
	asIs, err := registryTransport.FromToken(
		repo.Registry, authn.Anonymous, scoped, new(registryTransport.Challenge), nil)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", repo, err)
	}
	r.client = &http.Client{Transport: asIs, CheckRedirect: keepRedirects}
	return r, nil
}

// isOwn reports whether req is about this repository alone. A mount isn't.
func (r *Repository) isOwn(req *http.Request) bool {
	return req.URL.Host == r.name.RegistryStr() && !req.URL.Query().Has("mount")
}

// Name returns the full name of the repository, including the registry's host.
func (r *Repository) Name() string { return r.name.String() }

// remoteOptions returns options with which go-containerregistry uses the repository's authenticated client unchanged.
func (r *Repository) remoteOptions(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.client.Transport)}
}

// keepRedirects makes an http.Client return redirects instead of following them.
func keepRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// The kinds of entries in a repository, as they are written in its URLs.
const (
	kindManifest = "manifests"
	kindBlob     = "blobs"
)

// get returns the manifest with a tag or digest, after verifying its digest. It returns nil if the repository has none.
func (r *Repository) get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	d, err := remote.Get(ref, r.remoteOptions(ctx)...)
	if ociclient.IsStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", ref, r.explain(err))
	}
	return d, nil
}

// has reports whether the repository has a manifest or blob. It doesn't download it.
func (r *Repository) has(ctx context.Context, kind string, d v1.Descriptor) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.url(kind, d.Digest.String()), nil)
	if err != nil {
		return false, err
	}
	if kind == kindManifest {
		req.Header.Set("Accept", string(d.MediaType))
	}
	res, err := r.do(req, http.StatusOK, http.StatusNotFound, http.StatusFound, http.StatusTemporaryRedirect)
	if err != nil {
		return false, fmt.Errorf("asking whether %s has %s: %w", r.name, d.Digest, r.explain(err))
	}
	// A redirect says where the blob is, so the registry has it.
	return res.StatusCode != http.StatusNotFound, nil
}

// readBlob returns the content of a blob of at most limit bytes, after verifying its size and digest.
func (r *Repository) readBlob(ctx context.Context, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("blob %s has %d bytes, more than the %d expected", d.Digest, d.Size, limit)
	}
	content, err := r.openBlob(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(content, limit+1))
	if err = errors.Join(err, content.Close()); err != nil {
		return nil, err
	}
	if int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("blob %s: size differs from the %d bytes in its manifest", d.Digest, d.Size)
	}
	return raw, nil
}

// openBlob opens a blob as it is stored. The last read fails if the bytes don't have the digest.
func (r *Repository) openBlob(ctx context.Context, digest v1.Hash) (io.ReadCloser, error) {
	blob, err := remote.Layer(r.name.Digest(digest.String()), r.remoteOptions(ctx)...)
	if err != nil {
		return nil, err
	}
	return blob.Compressed()
}

// sizeOf returns the size of a blob in bytes. It doesn't download the blob.
func (r *Repository) sizeOf(ctx context.Context, digest v1.Hash) (int64, error) {
	blob, err := remote.Layer(r.name.Digest(digest.String()), r.remoteOptions(ctx)...)
	if err != nil {
		return 0, err
	}
	return blob.Size()
}

// put stores a manifest under a tag or digest (OCI distribution spec, "Pushing Manifests").
func (r *Repository) put(ctx context.Context, identifier string, d v1.Descriptor, raw []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.url(kindManifest, identifier), bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", string(d.MediaType))
	res, err := r.do(req, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err == nil {
		if as := res.Header.Get("Docker-Content-Digest"); as != "" && as != d.Digest.String() {
			err = fmt.Errorf("the registry stored it as %q", as)
		}
	}
	if err != nil {
		return fmt.Errorf("sending the manifest %s: %w", d.Digest, r.explainSending(err))
	}
	return nil
}

// url returns the URL of a manifest, blob or upload.
func (r *Repository) url(kind, identifier string) string {
	u := url.URL{
		Scheme: r.name.Scheme(), Host: r.name.RegistryStr(),
		Path: "/v2/" + r.name.RepositoryStr() + "/" + kind + "/" + identifier,
	}
	return u.String()
}

// do sends a request and returns the status and header of the answer. The body is discarded. If the status isn't one of
// statuses, the error is a *registryTransport.Error, and the answer is returned too.
func (r *Repository) do(req *http.Request, statuses ...int) (blobupload.Head, error) {
	res, err := r.client.Do(req)
	if err != nil {
		return blobupload.Head{}, err
	}
	defer func() { _ = res.Body.Close() }()
	if err := registryTransport.CheckError(res, statuses...); err != nil {
		return blobupload.Head{Response: res}, err
	}
	// Read to its end, so that the connection serves the next request.
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, image.MaxManifest))
	return blobupload.Head{Response: res}, err
}

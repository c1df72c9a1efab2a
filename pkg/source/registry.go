package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/docker/config"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ggcrtypes "github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
)

// Login has the credentials for one registry. The zero Login has none.
type Login struct {
	Registry           string // host, as [Reference.Registry] returns it; empty if no image is in a registry
	Username, Password string
}

// RegistryAccess is how registries that images come from are accessed.
type RegistryAccess struct {
	// Login is for one registry. Every other one is asked with the credentials that `docker login` or `podman login` left
	// for it, or with none.
	Login
	// UserAgent names this program.
	UserAgent string
	// Transport carries every request. It repeats temporary failures, gives up connections without traffic, and refuses
	// what isn't safe to send.
	Transport http.RoundTripper
	// Connect begins to open a connection for a later request to a URL; nil opens none early.
	Connect func(context.Context, *url.URL)
	// Mask is called with the secrets that `docker login` left before they are used. It must not be nil.
	Mask func(string)
}

// Resolve returns the digest of a tag, given as name:tag, that the registry has now.
func (a RegistryAccess) Resolve(ctx context.Context, tagged string) (v1.Hash, error) {
	named, err := reference.ParseNormalizedNamed(tagged)
	if err != nil {
		return v1.Hash{}, err
	}
	tag, ok := named.(reference.Tagged)
	if !ok {
		return v1.Hash{}, fmt.Errorf("%s has no tag", tagged)
	}
	repo, err := a.open(ctx, named)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("looking up %s: %w", tagged, withoutAnswer(err))
	}
	ref := repo.name.Tag(tag.Tag())
	found, err := remote.Head(ref, repo.options(ctx)...)
	if err != nil && !ociclient.IsFailure(err) {
		// Only the answer to a GET says what is wrong, and not every registry answers a HEAD with the digest.
		var got *remote.Descriptor
		if got, err = remote.Get(ref, repo.options(ctx)...); err == nil {
			found = &got.Descriptor
		}
	}
	if err != nil {
		return v1.Hash{}, fmt.Errorf("looking up %s: %w", tagged, withoutAnswer(repo.advise(err)))
	}
	return found.Digest, nil
}

// sourceRepository is a repository that an image comes from.
type sourceRepository struct {
	name     name.Repository
	registry string // host as users write it: docker.io, for which name has index.docker.io
	loggedIn bool
	client   *http.Client // authenticated

	multiplexed atomic.Bool // see limitResponses
}

// open asks the registry of an image how it authenticates, and its token service for a token.
func (a RegistryAccess) open(ctx context.Context, named reference.Named) (*sourceRepository, error) {
	registry, err := name.NewRegistry(reference.Domain(named))
	if err != nil {
		return nil, err
	}
	login, err := a.login(named)
	if err != nil {
		return nil, err
	}
	r := &sourceRepository{
		name:     registry.Repo(reference.Path(named)),
		registry: registryOf(named),
		loggedIn: login != authn.Anonymous,
	}
	carrier := registryTransport.NewUserAgent(limitResponses{a.Transport, &r.multiplexed}, a.UserAgent)
	authenticated, err := registryTransport.NewWithContext(
		ctx,
		registry,
		login,
		carrier,
		[]string{r.name.Scope(registryTransport.PullScope)},
	)
	if err != nil {
		return nil, r.advise(err)
	}
	r.client = &http.Client{Transport: authenticated}
	return r, nil
}

// login returns the credentials for the registry of an image.
func (a RegistryAccess) login(named reference.Named) (authn.Authenticator, error) {
	if registryOf(named) == a.Registry {
		return authn.FromConfig(authn.AuthConfig{Username: a.Username, Password: a.Password}), nil
	}
	left, err := config.GetCredentialsForRef(&types.SystemContext{}, named)
	if err != nil {
		return nil, fmt.Errorf("reading what `docker login` or `podman login` left for %s: %w; "+
			"log in again, or give source-username and source-password", registryOf(named), err)
	}
	if left == (types.DockerAuthConfig{}) {
		return authn.Anonymous, nil
	}
	a.Mask(left.Password)
	a.Mask(left.IdentityToken)
	return authn.FromConfig(authn.AuthConfig{
		Username: left.Username, Password: left.Password, IdentityToken: left.IdentityToken,
	}), nil
}

// options make go-containerregistry use the authenticated transport as it is.
func (r *sourceRepository) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.client.Transport)}
}

// advise adds to an error what to do about it. It removes the URL that was requested, because the target of a
// redirect can contain a secret.
func (r *sourceRepository) advise(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok && wrapped.Op != "parse" {
		err = fmt.Errorf("asking %s: %w", r.registry, wrapped.Err)
		if _, ok := errors.AsType[*net.OpError](err); ok {
			err = fmt.Errorf("%w; check that this machine reaches it, by the proxy of HTTPS_PROXY if there is one, or run "+
				"this again later", err)
		}
	}
	var large *http.MaxBytesError
	var limited *rateLimitError
	switch {
	case errors.As(err, &limited) && r.loggedIn:
		return fmt.Errorf("%w; %s", err, limited.again())
	case errors.As(err, &limited):
		return fmt.Errorf(
			"%w; log in with source-username, source-password and source-registry: %s, which raises the limit of some "+
				"registries, or %s",
			err,
			r.registry,
			limited.again(),
		)
	case errors.As(err, &large):
		return fmt.Errorf(
			"the answer of %s, such as its manifest, is larger than %d bytes, more than any real one",
			r.registry,
			large.Limit,
		)
	case ociclient.IsDenied(err) && r.loggedIn:
		return fmt.Errorf(
			"%w; check that the credentials given for %s are valid and may pull %s",
			err,
			r.registry,
			r.name.RepositoryStr(),
		)
	case ociclient.IsDenied(err):
		return fmt.Errorf("%w; check the name, and if the image isn't public give source-username and source-password, "+
			"with source-registry: %s, or run `docker login %[2]s` before, where the action can read what that leaves", err,
			r.registry)
	case ociclient.IsStatus(err, http.StatusNotFound):
		return fmt.Errorf(
			"%w; check that name, tag and digest are right and the image hasn't been deleted from %s",
			err,
			r.registry,
		)
	}
	return ociclient.WithoutToken(err, r.registry)
}

// rateLimitError is the error for a registry's answer 429 (Too Many Requests), after the transport has given up
// repeating the request.
type rateLimitError struct {
	text  string
	until time.Time // zero if the registry doesn't say
}

// Error says what was refused and when to try again.
func (e *rateLimitError) Error() string {
	return strings.TrimSuffix(
		fmt.Sprintf("%d %s: %s", http.StatusTooManyRequests, http.StatusText(http.StatusTooManyRequests), e.text),
		": ",
	)
}

// again says when to send the request again.
func (e *rateLimitError) again() string {
	if e.until.IsZero() {
		return "run this again later"
	}
	return "run this again after " + e.until.UTC().Format("2006-01-02 15:04 UTC")
}

// newRateLimitError returns the error for an answer 429 and closes the answer.
func newRateLimitError(res *http.Response) error {
	defer func() { _ = res.Body.Close() }()
	e := &rateLimitError{}
	var answer *registryTransport.Error
	if errors.As(registryTransport.CheckError(res), &answer) && len(answer.Errors) > 0 {
		e.text = oneLine(answer.Errors[0].Message)
	}
	after := res.Header.Get("Retry-After")
	if date, err := http.ParseTime(after); err == nil {
		e.until = date
	} else if seconds, err := strconv.ParseInt(after, 10, 32); err == nil && seconds >= 0 {
		e.until = time.Now().Add(time.Duration(seconds) * time.Second)
	}
	return e
}

// oneLine replaces each run of white space by one blank.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// limitResponses limits the size of answers, except those with blobs. It refuses redirects that would send a login to
// another host.
type limitResponses struct {
	next http.RoundTripper
	// multiplexed is whether the last answer came by HTTP/2, whose connections carry many requests at once.
	multiplexed *atomic.Bool
}

// RoundTrip implements [http.RoundTripper].
func (c limitResponses) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	c.multiplexed.Store(res.ProtoMajor > 1)
	if req.Method == http.MethodPost {
		if err := ociclient.CheckRedirect(req, res); err != nil {
			_ = res.Body.Close()
			return nil, err
		}
	}
	if !isForBlob(req) || res.StatusCode >= http.StatusMultipleChoices {
		res.Body = http.MaxBytesReader(nil, res.Body, image.MaxManifest)
	}
	if res.StatusCode == http.StatusTooManyRequests {
		return nil, newRateLimitError(res)
	}
	return res, nil
}

// isForBlob reports whether a request reads a blob, directly or after redirects.
func isForBlob(req *http.Request) bool {
	for !strings.Contains(req.URL.Path, "/blobs/") {
		if req.Response == nil {
			return false
		}
		req = req.Response.Request
	}
	return true
}

// remoteStore is an image in another registry. It requests manifests and blobs when they are read.
type remoteStore struct {
	*sourceRepository
	image name.Digest
	root  []byte // its manifest
}

// openRegistry opens name@digest. It requests only the manifest.
func openRegistry(ctx context.Context, access RegistryAccess, ref Reference) (Source, error) {
	named, err := reference.ParseNormalizedNamed(ref.Name)
	if err != nil {
		return nil, err
	}
	hash, ok := ref.Digest()
	if !ok {
		return nil, fmt.Errorf("%s has no digest", ref.Name)
	}
	repo, err := access.open(ctx, named)
	if err != nil {
		return nil, err
	}
	s := &remoteStore{sourceRepository: repo, image: repo.name.Digest(hash.String())}
	root, err := remote.Get(s.image, s.options(ctx)...)
	if err != nil {
		return nil, s.advise(err)
	}
	s.root = root.Manifest
	mediaType, _, _ := strings.Cut(string(root.MediaType), ";")
	m, err := newBacked(ctx, s, v1.Descriptor{
		MediaType: ggcrtypes.MediaType(strings.TrimSpace(mediaType)), Size: root.Size, Digest: hash,
	})
	if err != nil {
		return nil, err
	}
	if _, err := m.RawManifest(); err != nil {
		return nil, err
	}
	access.connectForBlobs(ctx, repo)
	if err := image.CheckSize(m); err != nil {
		return nil, err
	}
	return &opened{digest: hash, image: m}, nil
}

// blobsAtOnce is how many blobs are read concurrently while an image is sent; more wait for the registry it is sent to.
const blobsAtOnce = 4

// connectForBlobs opens the connections that the first blobs need while it is found out which of them are read.
// Otherwise opening them would take two round trips while the other registry waits for their first bytes.
func (a RegistryAccess) connectForBlobs(ctx context.Context, repo *sourceRepository) {
	if a.Connect == nil || repo.multiplexed.Load() {
		return
	}
	for range blobsAtOnce - 1 { // one is open
		a.Connect(ctx, &url.URL{Scheme: repo.name.Scheme(), Host: repo.name.RegistryStr()})
	}
}

// fetch opens a manifest or blob. It implements store.
func (s *remoteStore) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	switch {
	case d.Digest.String() == s.image.DigestStr():
		return io.NopCloser(bytes.NewReader(s.root)), nil
	case d.MediaType.IsIndex() || d.MediaType.IsImage():
		found, err := remote.Get(s.name.Digest(d.Digest.String()), s.options(ctx)...)
		if err != nil {
			return nil, s.failed("manifest", d, err)
		}
		return io.NopCloser(bytes.NewReader(found.Manifest)), nil
	default:
		open := func(offset int64) (io.ReadCloser, error) {
			body, err := s.blob(ctx, d, offset)
			if err != nil {
				return nil, s.failed("blob", d, err)
			}
			return body, nil
		}
		body, err := open(0)
		if err != nil {
			return nil, err
		}
		return &remoteBlob{ReadCloser: body, open: open, size: d.Size}, nil
	}
}

// failed returns an error that says what couldn't be read, and where.
func (s *remoteStore) failed(what string, d v1.Descriptor, err error) error {
	return fmt.Errorf("reading the %s %s from %s: %w", what, d.Digest, s.name, withoutAnswer(s.advise(err)))
}

// withoutAnswer returns an error with the text of err on one line, but without a *registryTransport.Error in it.
// Otherwise errors.As in package registry would mistake the answer of the registry that an image comes from for an
// answer of the charm's registry.
func withoutAnswer(err error) error {
	if _, ok := errors.AsType[*registryTransport.Error](err); ok {
		return errors.New(oneLine(err.Error()))
	}
	return err
}

// mountableImage tells where its layers and config are, so that a registry can mount them without a transfer.
type mountableImage struct {
	v1.Image
	from name.Reference
}

// Layers returns the layers as mountable ones.
func (i mountableImage) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	for n, layer := range layers {
		layers[n] = &remote.MountableLayer{Layer: layer, Reference: i.from}
	}
	return layers, err
}

// ConfigLayer returns the config as a mountable layer for [partial.ConfigLayer].
func (i mountableImage) ConfigLayer() (v1.Layer, error) {
	config, err := partial.ConfigLayer(i.Image)
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: config, Reference: i.from}, nil
}

// LayerByDigest returns the layer with that digest as a mountable one.
func (i mountableImage) LayerByDigest(digest v1.Hash) (v1.Layer, error) {
	layer, err := i.Image.LayerByDigest(digest)
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: layer, Reference: i.from}, nil
}

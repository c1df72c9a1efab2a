package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The kinds of entries in a repository, as its URLs name them.
const (
	manifests = "manifests"
	blobs     = "blobs"
)

// stored is a manifest that the repository holds, as bytes.
type stored struct {
	mediaType types.MediaType
	raw       []byte
}

// Manifest fetches the manifest of that digest and verifies that its bytes have it. Its layers and config are read
// through the repository, when they are, under ctx. It is false without an error when the repository has none.
func (r *Repository) Manifest(ctx context.Context, digest v1.Hash) (*remote.Descriptor, bool, error) {
	d, found, err := r.get(ctx, r.name.Digest(digest.String()))
	if err != nil {
		return nil, false, fmt.Errorf("asking for %s: %w", r.Reference(digest), r.explain(err))
	}
	return d, found, nil
}

// get fetches a manifest by tag or digest, once a run: what a tag or digest named first, or that it named nothing, holds
// until something is put there.
func (r *Repository) get(ctx context.Context, ref name.Reference) (*remote.Descriptor, bool, error) {
	r.mu.Lock()
	d, asked := r.seen[ref.Identifier()]
	r.mu.Unlock()
	if asked {
		return d, d != nil, nil
	}
	d, err := remote.Get(ref, r.remoteOptions(ctx)...)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return nil, false, err
	}
	r.remember(ref.Identifier(), d)
	return d, d != nil, nil
}

// remember keeps what a tag or digest names, nil for nothing.
func (r *Repository) remember(identifier string, d *remote.Descriptor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[identifier] = d
	if d != nil {
		r.seen[d.Digest.String()] = d
		r.stored[d.Digest] = stored{d.MediaType, d.Manifest}
	}
}

// has asks whether the repository holds the manifest or blob, without fetching it.
func (r *Repository) has(ctx context.Context, kind string, d v1.Descriptor) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.url(kind, d.Digest.String()), nil)
	if err != nil {
		return false, err
	}
	if kind == manifests {
		req.Header.Set("Accept", string(d.MediaType))
	}
	res, err := r.do(req, http.StatusOK, http.StatusNotFound, http.StatusFound, http.StatusTemporaryRedirect)
	if err != nil {
		return false, fmt.Errorf("asking whether %s has %s: %w", r.name, d.Digest, r.explain(err))
	}
	// A redirect says where the registry keeps a blob, so it has it.
	return res.StatusCode != http.StatusNotFound, nil
}

// put stores a manifest under a tag or its digest (distribution spec, "Pushing Manifests").
func (r *Repository) put(ctx context.Context, identifier string, digest v1.Hash, m stored) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.url(manifests, identifier), bytes.NewReader(m.raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", string(m.mediaType))
	res, err := r.do(req, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err == nil {
		err = checkDigest(res, digest)
	}
	if err != nil {
		return fmt.Errorf("sending the manifest %s to %s: %w", digest, r.name, r.explain(err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored[digest] = m
	// The tag may have named something else, and the digest nothing.
	delete(r.seen, identifier)
	delete(r.seen, digest.String())
	return nil
}

// checkDigest refuses an answer that says that something else was stored.
func checkDigest(res reply, want v1.Hash) error {
	got := res.Header.Get("Docker-Content-Digest")
	if got != "" && got != want.String() {
		return fmt.Errorf("the registry stored it as %q", got)
	}
	return nil
}

func (r *Repository) url(kind, identifier string) string {
	u := url.URL{
		Scheme: r.name.Scheme(), Host: r.name.RegistryStr(),
		Path: "/v2/" + r.name.RepositoryStr() + "/" + kind + "/" + identifier,
	}
	return u.String()
}

// reply is the head of an answer: its body is closed. There is none (nil) when no answer came.
type reply struct{ *http.Response }

// do sends a request of which only the answer's head matters. A status other than those is a *transport.Error, and
// the answer is returned with it.
func (r *Repository) do(req *http.Request, statuses ...int) (reply, error) {
	res, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	if err := transport.CheckError(res, statuses...); err != nil {
		return reply{res}, err
	}
	// Read to its end, so that the connection serves the next request.
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return reply{res}, err
}

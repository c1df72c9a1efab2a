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

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/registry/blobupload"
)

// The kinds of entries in a repository, as its URLs name them.
const (
	manifests = "manifests"
	blobs     = "blobs"
)

// Manifest fetches the manifest of that digest and verifies that its bytes have it: a v1.Image or v1.ImageIndex whose
// layers and config are read through the repository, when they are, under ctx. It is nil without an error when the
// repository has none.
func (r *Repository) Manifest(ctx context.Context, digest v1.Hash) (image.ImageOrIndex, error) {
	d, err := r.get(ctx, r.name.Digest(digest.String()))
	if err != nil {
		return nil, err
	}
	return imageOf(d)
}

// imageOf returns the image or index of a manifest, nil for nil.
func imageOf(d *remote.Descriptor) (image.ImageOrIndex, error) {
	switch {
	case d == nil:
		return nil, nil
	case d.MediaType.IsIndex():
		return d.ImageIndex()
	}
	return d.Image()
}

// manifest returns the manifest of that digest, nil for none, from h if it can, and adds the answer to h.
func (r *Repository) manifest(ctx context.Context, h *Hints, digest v1.Hash) (*remote.Descriptor, error) {
	d, asked := h.manifests[digest]
	if asked {
		return d, nil
	}
	d, err := r.get(ctx, r.name.Digest(digest.String()))
	if err == nil {
		h.manifests[digest] = d
	}
	return d, err
}

// get fetches a manifest by tag or digest, nil for none.
func (r *Repository) get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	d, err := remote.Get(ref, r.remoteOptions(ctx)...)
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", ref, r.explain(err))
	}
	return d, nil
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
	// A redirect says where the blob is, so the registry has it.
	return res.StatusCode != http.StatusNotFound, nil
}

// put stores a manifest under a tag or its digest (distribution spec, "Pushing Manifests").
func (r *Repository) put(ctx context.Context, identifier string, d v1.Descriptor, raw []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.url(manifests, identifier), bytes.NewReader(raw))
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
		return fmt.Errorf("sending the manifest %s to %s: %w", d.Digest, r.name, r.explain(err))
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

// do sends a request of which only the answer's head matters: its body is closed. A status other than those is a
// *transport.Error, and the answer is returned with it.
func (r *Repository) do(req *http.Request, statuses ...int) (blobupload.Head, error) {
	res, err := r.client.Do(req)
	if err != nil {
		return blobupload.Head{}, err
	}
	defer func() { _ = res.Body.Close() }()
	if err := transport.CheckError(res, statuses...); err != nil {
		return blobupload.Head{Response: res}, err
	}
	// Read to its end, so that the connection serves the next request.
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return blobupload.Head{Response: res}, err
}

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// remoteBlob is the content of a blob on its way from its registry. Where it
// breaks off it is read on from there (OCI distribution spec, "Pulling blobs"),
// as long as each time more of it comes. Whether its parts make the blob that
// was asked for is the caller's to verify, as with every blob.
type remoteBlob struct {
	open   func(offset int64) (io.ReadCloser, error)
	size   int64
	offset int64 // of the next byte

	body  io.ReadCloser
	began int64 // offset of the body's first byte
}

func openBlob(ctx context.Context, from *sourceRepository, d v1.Descriptor) (*remoteBlob, error) {
	b := &remoteBlob{size: d.Size, open: func(offset int64) (io.ReadCloser, error) { return from.blob(ctx, d, offset) }}
	var err error
	b.body, err = b.open(0)
	return b, err
}

func (b *remoteBlob) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p)
		b.offset += int64(n)
		if n > 0 || err == nil {
			return n, nil // an error comes again
		}
		if b.offset >= b.size {
			return 0, io.EOF
		}
		if b.offset == b.began {
			return 0, err
		}
		rest, err := b.open(b.offset)
		if err != nil {
			return 0, fmt.Errorf("it ends after %d of %d bytes, and can't be read on from there: %w", b.offset, b.size, err)
		}
		_ = b.body.Close()
		b.body, b.began = rest, b.offset
	}
}

func (b *remoteBlob) Close() error { return b.body.Close() }

// blob returns the content of a blob from an offset on. A redirect, to where a
// registry keeps its blobs, is followed without credentials.
func (r *sourceRepository) blob(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	address := url.URL{
		Scheme: r.name.Scheme(), Host: r.name.RegistryStr(), Path: "/v2/" + r.name.RepositoryStr() + "/blobs/" + d.Digest.String(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, d.Size-1))
	}
	res, err := r.client.Do(req)
	if err != nil {
		var wrapped *url.Error // has the address, and that to which a redirect leads can hold a secret
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, err
	}
	if err := transport.CheckError(res, http.StatusOK, http.StatusPartialContent); err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	if err := skipTo(res, offset); err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	return res.Body, nil
}

// skipTo leaves out what an answer has before the offset that was asked for.
// Servers may ignore a range, and give the whole (RFC 9110, section 14.2).
func skipTo(res *http.Response, offset int64) error {
	var first int64
	if res.StatusCode == http.StatusPartialContent {
		if _, err := fmt.Sscanf(res.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first > offset {
			return fmt.Errorf("asked for bytes from %d on, the registry gave %q", offset, res.Header.Get("Content-Range"))
		}
	}
	if _, err := io.CopyN(io.Discard, res.Body, offset-first); err != nil {
		return fmt.Errorf("reading up to byte %d once more: %w", offset, err)
	}
	return nil
}

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	registryTransport "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// remoteBlob reads a blob from a registry. If the connection breaks, it continues at the same offset (OCI distribution
// spec, "Pulling blobs"), as long as every attempt yields more bytes. The caller verifies the digest.
type remoteBlob struct {
	io.ReadCloser       // the body of the current response
	began         int64 // offset in the blob at which that body began

	open   func(offset int64) (io.ReadCloser, error)
	size   int64 // 0 if unknown
	offset int64 // of the next byte
}

// Read implements [io.Reader].
func (b *remoteBlob) Read(p []byte) (int, error) {
	for {
		n, err := b.ReadCloser.Read(p)
		b.offset += int64(n)
		switch {
		case n > 0 || err == nil:
			return n, nil // the next Read returns the error again
		case b.size > 0 && b.offset >= b.size, b.size == 0 && errors.Is(err, io.EOF):
			return 0, io.EOF
		case b.offset == b.began && errors.Is(err, io.EOF): // before the blob's end
			return 0, io.ErrUnexpectedEOF
		case b.offset == b.began:
			return 0, err
		}
		rest, err := b.open(b.offset)
		if err != nil {
			return 0, fmt.Errorf("the blob ends after %s, and can't be read on from there: %w", b.read(), err)
		}
		_ = b.Close()
		b.ReadCloser, b.began = rest, b.offset
	}
}

// read says for a message how much of the blob was read.
func (b *remoteBlob) read() string {
	if b.size == 0 {
		return fmt.Sprintf("%d bytes", b.offset)
	}
	return fmt.Sprintf("%d of %d bytes", b.offset, b.size)
}

// Seek lets a sender read lost bytes again, so that it needn't keep them. Only [io.SeekStart] is supported.
func (b *remoteBlob) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return b.offset, errors.ErrUnsupported
	}
	if offset == b.offset {
		return offset, nil
	}
	body, err := b.open(offset)
	if err != nil {
		return b.offset, fmt.Errorf("reading on from byte %d: %w", offset, err)
	}
	_ = b.Close()
	b.ReadCloser, b.began, b.offset = body, offset, offset
	return offset, nil
}

// blob returns the content of a blob from an offset on, in bytes. It follows redirects to the registry's storage
// without credentials.
func (r *sourceRepository) blob(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	address := url.URL{
		Scheme: r.name.Scheme(),
		Host:   r.name.RegistryStr(),
		Path:   "/v2/" + r.name.RepositoryStr() + "/blobs/" + d.Digest.String(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		last := "" // left out if the size is unknown; otherwise sent, because some registries require it
		if d.Size > 0 {
			last = strconv.FormatInt(d.Size-1, 10)
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%s", offset, last))
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, transport.Cause(err)
	}
	if err = registryTransport.CheckError(res, http.StatusOK, http.StatusPartialContent); err == nil {
		err = skipTo(res, offset)
	}
	if err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	return res.Body, nil
}

// skipTo discards the bytes of an answer before offset. Servers may ignore a range and send everything (RFC 9110,
// section 14.2).
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

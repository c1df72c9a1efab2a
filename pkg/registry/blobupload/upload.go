// Package blobupload sends a blob to a registry (OCI distribution specification v1.1, "Pushing blobs"): with one PATCH,
// and a small blob with the PUT that ends the upload. After a broken connection it goes on in chunks, from the byte
// that the registry says it has, or in another upload if the registry lost the first. The blob is verified on its way.
//
// Each request's result is classified by a function of the step and the error alone, and changes the upload's state in
// one method.
package blobupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/dustin/go-humanize"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/ociclient"
	"github.com/charmhub-actions/upload-resource/pkg/registry/layercheck"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// storing is the time limit for an answer. Before the last answer of an upload, a registry reads the blob to store it
// under its digest. A reverse proxy may first receive the whole of a large request.
const storing = 10 * time.Minute

// Destination is the repository to which blobs are sent. Requests go through pkg/transport, which repeats those that
// carry no bytes of a blob.
type Destination struct {
	// Uploads is where uploads begin: https://<registry>/v2/<repository>/blobs/uploads/.
	Uploads string
	// Hosts remember what the registry's host can't do. Share them between the uploads of a run.
	Hosts *Hosts
	// Do sends a request of which only the answer's head matters. An answer with another status than those is returned
	// with a *transport.Error.
	Do func(req *http.Request, statuses ...int) (Head, error)
	// Has reports whether the repository has a blob.
	Has func(ctx context.Context, blob v1.Descriptor) (bool, error)
	// TokenExpires reports whether the token that Do sends may expire soon; with nil it doesn't.
	TokenExpires func() bool
	// Decompress looks into layers, to compare them with their diff IDs; with nil none is.
	Decompress layercheck.Decompressor
	// Wait pauses between tries.
	Wait func(context.Context, time.Duration) error
	Log  *zap.Logger
}

// Head is an answer whose body is closed. Response is nil if there was no answer.
type Head struct{ *http.Response }

// Blob is a blob to send.
type Blob struct {
	Descriptor v1.Descriptor
	// Open returns the blob's bytes. It is called again to read bytes that the registry lost, unless the first result is
	// an io.Seeker.
	Open func() (io.ReadCloser, error)
	// From is another repository of the registry that holds the blob, so that it may be mounted; "" for none.
	From string
	// DiffID is what the decompressed blob is compared with; zero for a blob that isn't.
	DiffID v1.Hash
	// Inspect is whether the blob is decompressed also without a DiffID, to learn what it is.
	Inspect bool
}

// Sent is what was learned about a blob while it was sent. For a mounted blob it is the zero value.
type Sent struct {
	DiffID      v1.Hash // the digest of what the blob decompresses to; zero if it wasn't looked into
	Compression string  // layercheck.CompressionOf the blob
}

// Send mounts or sends a blob. Progress is called with the number of further bytes that were sent; bytes that are sent
// again don't count. Send fails before the registry stores the blob if the bytes don't have the blob's digest, or the
// layer doesn't have the diff ID in b.
func (d Destination) Send(ctx context.Context, b Blob, progress func(n int64)) (Sent, error) {
	at, err := url.Parse(d.Uploads)
	if err != nil {
		return Sent{}, err
	}
	u, s := &upload{Destination: d, blob: b, progress: progress}, newState(b.Descriptor.Size, d.Hosts.of(at.Host))
	defer u.close()
	for next := begin; next != done; {
		r := u.request(ctx, s, next)
		if r.err != nil && ctx.Err() != nil {
			return Sent{}, context.Cause(ctx)
		}
		var pause time.Duration
		if next, pause, err = s.take(r); err != nil {
			return Sent{}, err
		}
		switch {
		case next == ask:
			d.Log.Debug("A blob's upload was interrupted", zap.Stringer("digest", b.Descriptor.Digest),
				zap.Int64("received", s.received), zap.Int("tries", s.failed.All()), zap.Error(r.err))
			d.Log.Info(fmt.Sprintf("Trying again in %s: sending the blob %s was interrupted, the registry has %s of %s",
				pause.Round(100*time.Millisecond), b.Descriptor.Digest, humanized(s.received), humanized(s.size)))
			if err := d.Wait(ctx, pause); err != nil {
				return Sent{}, err
			}
		case next == begin:
			d.Log.Info("Starting over with a blob whose upload the registry lost", zap.Stringer("digest", b.Descriptor.Digest))
		case s.tooLarge:
			d.Log.Debug("The registry refused a request as too large", zap.String("host", at.Host),
				zap.Int64("bytes", r.length), zap.Int64("limit", s.host.limit.Load()))
		case next == done && r.step == begin:
			return Sent{}, nil // mounted
		}
	}
	return Sent{DiffID: u.src.check.DiffID(), Compression: u.src.compression}, nil
}

// humanized returns a number of bytes for messages.
func humanized(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// upload sends the requests for one blob.
type upload struct {
	Destination
	blob     Blob
	src      *source // of this upload
	progress func(n int64)
	reported int64 // bytes that progress knows of
}

// request sends the request of a step and returns its result.
func (u *upload) request(ctx context.Context, s *state, next step) result {
	r := result{step: next}
	switch next {
	case begin:
		if r.err = u.open(); r.err == nil {
			if u.blob.From == "" { // what may be mounted need not be read
				u.src.openAhead()
			}
			r.head, r.err = u.begin(ctx)
		}
	case send:
		r.length = s.length()
		if r.err = u.src.prepare(ctx); r.err == nil {
			r.head, r.end, r.err = u.send(ctx, s, r.length)
		}
	case ask:
		r.head, r.err = u.do(
			ctx,
			http.MethodGet,
			s.location.String(),
			nil,
			http.StatusNoContent,
			http.StatusOK,
			http.StatusAccepted,
		)
	case finish:
		r.head, r.err = u.put(transport.AnswerWithin(ctx, storing), s, nil)
	case whole:
		var content []byte
		r.length, r.end = s.size, s.size
		if content, r.err = io.ReadAll(u.src.open(0, s.size)); r.err == nil {
			r.head, r.err = u.put(transport.Once(ctx), s, content)
		}
	}
	if r.err != nil && ociclient.IsScopeRefusal(r.head.Response) {
		r.err = &passingError{r.err}
	}
	return r
}

// do sends a request with the given body.
func (u *upload) do(ctx context.Context, method, target string, body []byte, statuses ...int) (Head, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return Head{}, err
	}
	if method == http.MethodPut {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	head, err := u.Do(req, statuses...)
	return head, transport.Cause(err)
}

// begin starts an upload, or has the blob mounted.
func (u *upload) begin(ctx context.Context) (Head, error) {
	if u.blob.From != "" {
		query := url.Values{"mount": {u.blob.Descriptor.Digest.String()}, "from": {u.blob.From}}
		head, err := u.do(ctx, http.MethodPost, u.Uploads+"?"+query.Encode(), nil, http.StatusAccepted, http.StatusCreated)
		if head.Response == nil || head.StatusCode != http.StatusUnauthorized && head.StatusCode != http.StatusForbidden {
			return head, err
		}
		// These credentials need not reach the other repository.
	}
	return u.do(ctx, http.MethodPost, u.Uploads, nil, http.StatusAccepted)
}

// open prepares to read the blob from its start. Progress counts each byte once.
func (u *upload) open() (err error) {
	u.close()
	u.src, err = newSource(u.blob, u.Decompress, func(reach int64) {
		if n := reach - u.reported; n > 0 {
			u.progress(n)
			u.reported = reach
		}
	})
	return err
}

// close ends the reading of the blob.
func (u *upload) close() {
	if u.src != nil {
		u.src.close()
	}
}

// send sends the next length bytes of the blob and returns the offset after the last byte sent.
func (u *upload) send(ctx context.Context, s *state, length int64) (head Head, end int64, err error) {
	var body *sourceReader
	open := func() (io.ReadCloser, error) {
		// The request is sent again if its token was refused. A front that takes in all of it first lets that be known late:
		// a chunk is quick enough for a token to last.
		if body != nil && body.offset()-s.received > s.chunk {
			return nil, errors.New("the registry refused the token when most of the bytes were sent")
		}
		body = u.src.open(s.received, s.received+length)
		return body, nil
	}
	ctx = transport.Once(ctx)
	if length > firstChunkMax {
		ctx = transport.AnswerWithin(ctx, storing)
	}
	first, _ := open() // it can't fail
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, s.location.String(), first)
	if err != nil {
		return head, 0, err
	}
	req.GetBody, req.ContentLength = open, length
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", s.received, s.received+length-1))
	if s.tooLarge || u.TokenExpires != nil && u.TokenExpires() {
		req.Header.Set("Expect", "100-continue") // the answer may be a refusal
	}
	head, err = u.Do(req, http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
	if cause := u.src.revoke(); err != nil && cause != nil {
		return head, 0, cause
	}
	return head, body.offset(), transport.Cause(err)
}

// put makes the registry store an upload under the blob's digest. The request carries content if that isn't empty.
func (u *upload) put(ctx context.Context, s *state, content []byte) (Head, error) {
	if err := u.src.verify(); err != nil {
		return Head{}, err
	}
	target, digest := *s.location, u.blob.Descriptor.Digest.String()
	query := target.Query()
	query.Set("digest", digest)
	target.RawQuery = query.Encode()
	head, err := u.do(
		ctx,
		http.MethodPut,
		target.String(),
		content,
		http.StatusCreated,
		http.StatusNoContent,
		http.StatusAccepted,
	)
	if err == nil {
		if stored := head.Header.Get("Docker-Content-Digest"); stored != "" && stored != digest {
			return head, &finalError{fmt.Errorf("the registry stored it as %q", stored)}
		}
		return head, nil
	}
	// The answer may have been lost after the registry had stored it.
	if has, _ := u.Has(ctx, u.blob.Descriptor); has {
		return head, nil
	}
	u.Log.Debug("A blob was not stored", zap.String("digest", digest), zap.Error(err))
	return head, err
}

// Package blobupload sends a blob to a registry (OCI distribution specification v1.1, "Pushing a blob in chunks"), and
// resumes where a connection broke: from the byte that the registry says it has, in another upload where it lost the
// first. The blob is verified on its way.
//
// Each request's result is classified by a function of the step and the error alone, and changes the upload's state in
// one method.
package blobupload

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/dustin/go-humanize"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"

	carry "github.com/charmhub-actions/upload-resource/pkg/transport"
)

// storing is how long the answer may take that ends the upload of a blob: a registry reads the blob over before it stores
// it under its digest, but not a chunk.
const storing = 10 * time.Minute

// Destination is the repository that blobs are sent to. Requests go through pkg/transport, which repeats all but chunks.
type Destination struct {
	// Uploads is where uploads begin: https://<registry>/v2/<repository>/blobs/uploads/.
	Uploads string
	// Do sends a request of which only the answer's head matters. An answer with another status than those is returned
	// with a *transport.Error.
	Do func(req *http.Request, statuses ...int) (Head, error)
	// Has reports whether the repository has a blob.
	Has func(ctx context.Context, blob v1.Descriptor) (bool, error)
	// Decompress looks into layers, to compare them with their diff IDs; with nil none is.
	Decompress Decompressor
	// Wait pauses between tries.
	Wait func(context.Context, time.Duration) error
	Log  *zap.Logger
}

// Head is an answer whose body is closed. Response is nil where no answer came.
type Head struct{ *http.Response }

// Blob is what is sent.
type Blob struct {
	Descriptor v1.Descriptor
	// Open returns the blob's bytes. In what is an io.Seeker, bytes that the registry lost are sought and read again; of
	// another reader, some megabytes are held in memory for that.
	Open func() (io.ReadCloser, error)
	// From is another repository of the registry that holds the blob, so that it may be mounted; "" for none.
	From string
	// DiffID is what the decompressed blob is compared with; zero for a blob that isn't.
	DiffID v1.Hash
}

// Send mounts or sends a blob. Progress is called with the number of further bytes that the registry has received, never
// twice for the same ones. Bytes that don't have the blob's digest are an error, before the registry is asked to store
// them, and so is a layer that has another diff ID. Verified is whether the blob was compared with its diff ID and is
// compressed as its type says: engines go by the content, and not each knows every format, so a layer of another one must
// not come into other images.
func (d Destination) Send(ctx context.Context, b Blob, progress func(n int64)) (verified bool, err error) {
	u, s := &upload{Destination: d, blob: b}, newState(b.Descriptor.Size)
	defer u.close()
	for next := begin; next != done; {
		r, best := u.request(ctx, s, next), s.best
		if r.err != nil && ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		var pause time.Duration
		if next, pause, err = s.take(r); err != nil {
			return false, err
		}
		if s.best > best {
			progress(s.best - best)
		}
		switch {
		case next == ask:
			d.Log.Debug("A blob's upload was interrupted", zap.Stringer("digest", b.Descriptor.Digest),
				zap.Int64("received", s.received), zap.Int("tries", s.tries), zap.Error(r.err))
			d.Log.Info(fmt.Sprintf("Trying again in %s: sending the blob %s was interrupted, the registry has %s of %s",
				pause.Round(100*time.Millisecond), b.Descriptor.Digest, humanized(s.received), humanized(s.size)))
			if err := d.Wait(ctx, pause); err != nil {
				return false, err
			}
		case next == begin:
			d.Log.Info("Starting over with a blob whose upload the registry lost", zap.Stringer("digest", b.Descriptor.Digest))
		case next == done && r.step == begin:
			return false, nil // mounted
		}
	}
	labelledGzip := b.Descriptor.MediaType == types.DockerLayer || b.Descriptor.MediaType == types.OCILayer
	return u.src.check.compared() && (!labelledGzip || u.src.isGzip()), nil
}

func humanized(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// upload sends the requests of a blob's uploads.
type upload struct {
	Destination
	blob Blob
	src  *source // nil until the first byte is sent
}

// request sends the request of a step.
func (u *upload) request(ctx context.Context, s *state, next step) result {
	r := result{step: next}
	switch next {
	case begin:
		u.close()
		r.head, r.err = u.begin(ctx)
	case send:
		r.head, r.end, r.err = u.send(ctx, s)
	case ask:
		r.head, r.err = u.do(ctx, http.MethodGet, s.location.String(), nil, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	case finish:
		r.err = u.finish(ctx, s)
	}
	return r
}

func (u *upload) do(ctx context.Context, method, target string, body []byte, statuses ...int) (Head, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return Head{}, err
	}
	if method == http.MethodPut {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	return u.Do(req, statuses...)
}

// begin begins an upload, or has the blob mounted.
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

// open opens the blob for an upload.
func (u *upload) open(s *state) (err error) {
	if u.src != nil {
		return nil
	}
	var check *diffIDCheck
	if u.blob.DiffID != (v1.Hash{}) && u.Decompress != nil {
		check = newDiffIDCheck(u.blob.DiffID, u.Decompress)
	}
	if u.src, err = newSource(u.blob, max(streamChunkMax, s.minimum), check); err != nil {
		check.abandon()
	}
	return err
}

func (u *upload) close() {
	if u.src != nil {
		u.src.close()
	}
	u.src = nil
}

// send sends the next chunk, up to end.
func (u *upload) send(ctx context.Context, s *state) (head Head, end int64, err error) {
	if err := u.open(s); err != nil {
		return head, 0, err
	}
	u.src.release(s.received)
	end = min(s.received+min(max(s.chunk, s.minimum), u.src.window()), s.size)
	body := &chunk{src: u.src, start: s.received, end: end}
	defer body.revoke()
	req, err := http.NewRequestWithContext(carry.Once(ctx), http.MethodPatch, s.location.String(), body.open())
	if err != nil {
		return head, end, err
	}
	req.GetBody = func() (io.ReadCloser, error) { return body.open(), nil } // for a try with another token
	req.ContentLength = end - s.received
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", s.received, end-1))
	// An expired token is then noticed before the chunk is sent, not after.
	req.Header.Set("Expect", "100-continue")
	head, err = u.Do(req, http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
	if cause := u.src.failure(); err != nil && cause != nil {
		err = &readError{fmt.Errorf("reading the blob: %w", cause)}
	}
	return head, end, err
}

// finish sends the rest of a blob, if any, and has the registry store it under its digest.
func (u *upload) finish(ctx context.Context, s *state) error {
	if err := u.open(s); err != nil {
		return err
	}
	rest, err := io.ReadAll(io.NewSectionReader(u.src, s.received, s.size-s.received))
	if err != nil {
		return &readError{fmt.Errorf("reading the blob: %w", err)}
	}
	if err := u.src.verify(); err != nil {
		return &readError{err}
	}
	target, digest := *s.location, u.blob.Descriptor.Digest.String()
	query := target.Query()
	query.Set("digest", digest)
	target.RawQuery = query.Encode()
	if len(rest) == 0 {
		ctx = carry.AnswerWithin(ctx, storing)
	}
	head, err := u.do(ctx, http.MethodPut, target.String(), rest, http.StatusCreated, http.StatusNoContent, http.StatusAccepted)
	if err == nil {
		if stored := head.Header.Get("Docker-Content-Digest"); stored != "" && stored != digest {
			return fmt.Errorf("the registry stored it as %q", stored)
		}
		return nil
	}
	// The answer may have been lost after the registry had stored it.
	if has, _ := u.Has(ctx, u.blob.Descriptor); has {
		return nil
	}
	u.Log.Debug("A blob was not stored", zap.String("digest", digest), zap.Error(err))
	return err
}

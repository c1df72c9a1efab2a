package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.uber.org/zap"
)

const (
	// A chunk is a twentieth of its blob within these bounds, a quarter of the last one after every failure. So five
	// broken connections within a large blob cost less than a tenth of it, even with a registry that forgets what it
	// received of a broken chunk, while a round trip per chunk doesn't slow down a sound connection.
	firstChunkMin, firstChunkMax = 4 << 20, 32 << 20
	chunkMin                     = 256 << 10
	soundChunks                  = 16 // that arrive before the next are twice as large, up to the first size
	// streamChunkMax bounds what is kept in memory of a blob that can't be read twice; senders of these are.
	streamChunkMax = 8 << 20

	// An upload that the registry lost is begun again so often without getting further than one before: often when a
	// connection broke in it, seldom when the registry forgets by itself, as several do that don't share their storage.
	maxLostBroken, maxLostByItself = 32, 4
)

// upload is a blob on its way (distribution spec, "Pushing a blob in chunks").
type upload struct {
	r        *Repository
	desc     v1.Descriptor
	diffID   v1.Hash // to compare the layer with; zero for none
	src      *source
	progress func(int64)

	location *url.URL // where the registry takes the next chunk
	stands   int64    // bytes that the registry says it has
	reached  int64    // the most it ever had in this session
	best     int64    // the most it ever had, over all sessions
	refused  int64    // offset of the chunk last refused as out of order, -1 for none
	chunk    int64    // bytes of the next chunk
	minimum  int64    // the least that the registry takes, but for the last chunk
	sound    int      // chunks that arrived since the last failure or growth
	tries    int      // failures since the last progress
	broke    bool     // there was a failure in this session
	lost     int      // sessions that the registry lost since best grew
}

func firstChunk(size int64) int64 { return min(max(size/20, firstChunkMin), firstChunkMax) }

// pushBlob mounts or sends one blob. A layer that has a diff ID to be compared with is, when it is sent. Proven is whether
// it was, and is compressed as its type says: engines go by the content, and not each knows every format, so that a layer
// of another one must not come into other images.
func (r *Repository) pushBlob(ctx context.Context, b blob, progress func(int64)) (proven bool, err error) {
	l, err := b.open()
	if err != nil {
		return false, fmt.Errorf("opening it: %w", err)
	}
	u := &upload{r: r, desc: b.desc, diffID: b.diffID, progress: progress}
	u.chunk = firstChunk(b.desc.Size)
	for {
		mounted, err := u.start(ctx, l)
		if mounted || err != nil {
			return false, err
		}
		if err = u.session(ctx, l); !errors.Is(err, errLost) {
			labelledGzip := b.desc.MediaType == types.DockerLayer || b.desc.MediaType == types.OCILayer
			return err == nil && (!labelledGzip || u.src.isGzip()), err
		}
		if err := u.startOver(); err != nil {
			return false, err
		}
		r.log.Info("Starting over with a blob whose upload the registry lost", zap.Stringer("digest", b.desc.Digest))
	}
}

// start begins an upload, or has the blob mounted when it is in another repository of this registry.
func (u *upload) start(ctx context.Context, l v1.Layer) (mounted bool, err error) {
	target := u.r.url(blobs, "uploads/")
	res, err := u.post(ctx, target+u.mountQuery(l))
	if isStatus(err, http.StatusUnauthorized, http.StatusForbidden) && u.mountQuery(l) != "" {
		// These credentials need not reach the other repository.
		res, err = u.post(ctx, target)
	}
	if err != nil || res.StatusCode == http.StatusCreated {
		return err == nil, err
	}
	u.stands, u.reached, u.refused, u.broke = 0, 0, -1, false
	u.minimum, _ = strconv.ParseInt(res.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	u.minimum = min(max(u.minimum, 0), firstChunkMax)
	return false, u.follow(res)
}

func (u *upload) post(ctx context.Context, target string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return reply{}, err
	}
	return u.r.do(req, http.StatusAccepted, http.StatusCreated)
}

// mountQuery asks for a mount from where the layer says it is, if that is in the same registry.
func (u *upload) mountQuery(l v1.Layer) string {
	m, ok := l.(*remote.MountableLayer)
	if !ok || m.Reference.Context().Registry != u.r.name.Registry {
		return ""
	}
	from := m.Reference.Context().RepositoryStr()
	return "?" + url.Values{"mount": {u.desc.Digest.String()}, "from": {from}}.Encode()
}

// session sends the blob from its first byte to its last, and has it kept.
func (u *upload) session(ctx context.Context, l v1.Layer) (err error) {
	var check *diffIDCheck
	if u.diffID != (v1.Hash{}) && u.r.decompress != nil {
		check = newDiffIDCheck(u.diffID, u.r.decompress)
	}
	if u.src, err = newSource(l, u.desc, max(streamChunkMax, u.minimum), check); err != nil {
		check.abandon()
		return err
	}
	defer u.src.close()
	if u.desc.Size <= smallMax {
		return u.sendWhole(ctx)
	}
	for u.stands < u.desc.Size {
		res, err := u.send(ctx)
		if err == nil {
			continue
		}
		if err := u.recover(ctx, res, err); err != nil {
			return err
		}
	}
	return u.finish(ctx, nil)
}

// send sends the next chunk.
func (u *upload) send(ctx context.Context) (reply, error) {
	u.src.release(u.stands)
	body := &chunk{src: u.src, start: u.stands, end: u.end()}
	defer body.revoke()
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, u.location.String(), body)
	if err != nil {
		return reply{}, err
	}
	req.ContentLength = body.end - body.start
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", body.start, body.end-1))
	// An expired token is then noticed before the chunk is sent, not after.
	req.Header.Set("Expect", "100-continue")
	res, err := u.r.do(req, http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return res, err
	}
	if err := u.advance(res, body.end); err != nil {
		return res, err
	}
	if u.stands <= body.start {
		return res, errStuck
	}
	return res, nil
}

// end is where the next chunk ends.
func (u *upload) end() int64 {
	size := max(u.chunk, u.minimum)
	if u.src.file == nil {
		size = min(size, int64(cap(u.src.window)))
	}
	return min(u.stands+size, u.desc.Size)
}

package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"go.uber.org/zap"
)

// smallMax is the size in bytes up to which a blob is sent with the request that has it kept: a round trip less, and
// little to lose when the connection breaks.
const smallMax = 32 << 10

// sendWhole sends a small blob at once and has it kept (distribution spec, "POST then PUT").
func (u *upload) sendWhole(ctx context.Context) error {
	content, err := io.ReadAll(io.NewSectionReader(u.src, 0, u.desc.Size))
	if err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	if err := u.finish(ctx, content); err != nil {
		return err
	}
	u.progress(u.desc.Size)
	return nil
}

// finish sends the rest of a blob, if any, and has the registry keep it under its digest. Bytes that aren't the
// digest's go no further.
func (u *upload) finish(ctx context.Context, rest []byte) error {
	if err := u.src.verify(); err != nil {
		return err
	}
	res, err := u.put(ctx, rest)
	if err == nil {
		return checkDigest(res, u.desc.Digest)
	}
	// The answer may have been lost after the registry had done it.
	if kept, _ := u.r.has(ctx, blobs, u.desc); kept {
		return nil
	}
	// A rest that the transport sent again may have met a part of itself, which is out of order.
	if u.isLost(err) || len(rest) > 0 && isStatus(err, http.StatusRequestedRangeNotSatisfiable) {
		u.r.log.Debug("A blob was not kept", zap.Stringer("digest", u.desc.Digest), zap.Error(err))
		return errLost
	}
	return err
}

func (u *upload) put(ctx context.Context, rest []byte) (reply, error) {
	target := *u.location
	query := target.Query()
	query.Set("digest", u.desc.Digest.String())
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target.String(), bytes.NewReader(rest))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	return u.r.do(req, http.StatusCreated, http.StatusNoContent, http.StatusAccepted)
}

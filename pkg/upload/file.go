package upload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

func (j *job) uploadFile(ctx context.Context, r *report) error {
	var file content
	var revisions []charmhub.Revision
	err := together(
		func() error { return j.checkType(charmhub.TypeFile, "digest or image") },
		func() (err error) { file, err = j.readFile(ctx); return err },
		func() (err error) { revisions, err = j.store.Revisions(ctx, j.Charm, j.Resource); return err },
	)
	if err != nil {
		return err
	}
	r.SourceDigest, r.size = "sha256:"+file.sha256, file.size
	r.Uploaded, err = j.publish(ctx, file, revisions, r)
	return err
}

// readFile hashes the file; it is opened again if it has to be sent.
func (j *job) readFile(ctx context.Context) (content, error) {
	open := func() (io.ReadCloser, error) { return j.files.Open(j.File) }
	size, digest, err := hashFile(ctx, open)
	if errors.Is(err, workspace.ErrFolder) {
		return content{}, fmt.Errorf("input filepath names the folder %s: give a file, such as an archive of the folder", j.File)
	}
	if err != nil {
		return content{}, fmt.Errorf("input filepath: %w", err)
	}
	return content{
		kind: charmhub.TypeFile, name: filepath.Base(j.File), size: size, sha256: digest,
		architectures: j.Architectures, open: open,
	}, nil
}

func hashFile(ctx context.Context, open func() (io.ReadCloser, error)) (size int64, digest string, err error) {
	file, err := open()
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	size, err = io.Copy(hash, contextReader{ctx, file})
	return size, hex.EncodeToString(hash.Sum(nil)), err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // io.Reader takes none
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

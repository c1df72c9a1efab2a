package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/parallel"
	"github.com/charmhub-actions/upload-resource/pkg/workspace"
)

// PublishFile uploads a file to a resource and records it for the architectures, in addition to those already recorded.
// If Charmhub already has the content, it isn't uploaded. After an error the result says what was done before it.
func (p *Publisher) PublishFile(
	ctx context.Context,
	t Target,
	path string,
	architectures []string,
) (result Result, err error) {
	var file content
	var earlier listing
	err = parallel.All(
		func() error { return p.checkType(ctx, t, charm.TypeFile, "digest or image") },
		func() (err error) { file, err = p.readFile(ctx, path); return err },
		func() (err error) { earlier, err = p.requestRevisions(ctx, t); return err },
	)
	if err != nil {
		return result, err
	}
	if file.size == 0 {
		p.Runner.Logger().Warn(fmt.Sprintf("The file %s is empty; check that the step before this one has written it", path))
	}
	file.architectures = architectures
	result.SourceDigest, result.Size = "sha256:"+file.sha256, file.size
	result.Revised, err = p.revise(ctx, t, file, earlier)
	result.Uploaded = result.ContentSent
	return result, err
}

// readFile hashes the file. The content is opened again if it has to be sent.
func (p *Publisher) readFile(ctx context.Context, path string) (content, error) {
	file, err := p.Files.Open(path)
	if errors.Is(err, workspace.ErrFolder) {
		return content{}, fmt.Errorf("input filepath: %s is a folder; give a file, such as an archive of the folder", path)
	}
	if err != nil {
		return content{}, fmt.Errorf("input filepath: %w", err)
	}
	defer func() { _ = file.Close() }()
	// A large file takes long to read: a run that is stopped ends that.
	defer context.AfterFunc(ctx, func() { _ = file.Close() })()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return content{}, fmt.Errorf("input filepath: %w", err)
	}
	return content{
		kind: charm.TypeFile, name: filepath.Base(path), size: size, sha256: hex.EncodeToString(hash.Sum(nil)),
		open: func() (io.ReadCloser, error) { return p.Files.Open(path) },
	}, nil
}

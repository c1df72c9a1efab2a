package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	storage "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxSearched is how much of one content is searched, unpacked, in bytes.
const maxSearched = 512 << 20

// Exposed searches what clients made the sandbox keep since the last call, and returns a line for each secret in it: of
// [Server.Secrets] and of those given. Uploads and all data of the registry are searched, layers unpacked. Only the
// text for an image may hold the password for pulling it.
func (s *Server) Exposed(given ...string) (found []string, err error) {
	s.searched.mu.Lock()
	defer s.searched.mu.Unlock()
	secrets, owners := slices.Concat(s.Secrets(), given), s.SecretOwners()
	slices.Sort(secrets)
	secrets = slices.Compact(secrets)
	search := func(path string, size int64, open func() (io.ReadCloser, error)) error {
		if !s.searched.isNew(path, size) {
			return nil
		}
		inside, err := secretsIn(open, secrets)
		if err != nil {
			return fmt.Errorf("searching %s: %w", path, err)
		}
		for _, secret := range inside {
			if slices.Equal(owners[secret], contentOwns) && isImageText(open) {
				continue
			}
			found = append(found, fmt.Sprintf("the published content %s holds the secret %s…", path,
				secret[:min(6, len(secret))]))
		}
		return nil
	}
	for _, folder := range []string{"uploads", "registry"} {
		err = errors.Join(err, searchFolder(filepath.Join(s.dir, folder), search))
	}
	if s.memory != nil {
		err = errors.Join(err, searchMemory(s.memory, search))
	}
	return found, err
}

// searched is what Exposed has seen: sizes by path. Uploads grow, and nothing else in a registry changes but small
// links.
type searched struct {
	mu    sync.Mutex
	sizes map[string]int64
}

// isNew reports whether the file is new, or has another size than before.
func (s *searched) isNew(path string, size int64) bool {
	if s.sizes == nil {
		s.sizes = map[string]int64{}
	}
	before, known := s.sizes[path]
	s.sizes[path] = size
	return !known || before != size
}

// searchFunc looks for secrets in one file.
type searchFunc func(path string, size int64, open func() (io.ReadCloser, error)) error

// searchFolder leaves out files that vanish meanwhile, as ended uploads do.
func searchFolder(folder string, search searchFunc) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				err = search(path, info.Size(), func() (io.ReadCloser, error) { return os.Open(path) })
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// searchMemory calls search for each file in a registry's memory.
func searchMemory(memory storage.StorageDriver, search searchFunc) error {
	ctx := context.Background()
	return storage.WalkFallback(ctx, memory, "/", func(info storage.FileInfo) error {
		if info.IsDir() {
			return nil
		}
		err := search(info.Path(), info.Size(), func() (io.ReadCloser, error) { return memory.Reader(ctx, info.Path(), 0) })
		if errors.As(err, new(storage.PathNotFoundError)) {
			return nil
		}
		return err
	})
}

// secretsIn returns the secrets that a content holds, unpacked if it is compressed. What only looks compressed is
// searched as it is.
func secretsIn(open func() (io.ReadCloser, error), secrets []string) ([]string, error) {
	packed, err := open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = packed.Close() }()
	start := bufio.NewReader(packed)
	var unpacked io.Reader
	switch magic, _ := start.Peek(4); { // a short content isn't compressed
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unpacked, err = gzip.NewReader(start)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var decoder *zstd.Decoder
		if decoder, err = zstd.NewReader(start, zstd.WithDecoderConcurrency(1)); err == nil {
			defer decoder.Close()
			unpacked = decoder
		}
	default:
		return searchText(start, secrets)
	}
	var found []string
	if err == nil {
		found, err = searchText(unpacked, secrets)
	}
	if err == nil || len(found) > 0 {
		return found, nil
	}
	asItIs, err := open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = asItIs.Close() }()
	return searchText(asItIs, secrets)
}

// searchText returns those of the secrets that the text holds.
func searchText(text io.Reader, secrets []string) (found []string, err error) {
	overlap := 0
	for _, secret := range secrets {
		overlap = max(overlap, len(secret)-1)
	}
	text = io.LimitReader(text, maxSearched)
	window := make([]byte, overlap+1<<18)
	for kept := 0; err == nil; {
		var n int
		n, err = io.ReadFull(text, window[kept:])
		block := window[:kept+n]
		for _, secret := range secrets {
			if bytes.Contains(block, []byte(secret)) && !slices.Contains(found, secret) {
				found = append(found, secret)
			}
		}
		kept = copy(window, block[max(0, len(block)-overlap):])
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return found, err
}

// isImageText reports whether a content is the text for an image, and no more.
func isImageText(open func() (io.ReadCloser, error)) bool {
	content, err := open()
	if err != nil {
		return false
	}
	defer func() { _ = content.Close() }()
	text, err := io.ReadAll(io.LimitReader(content, keptBody))
	if err != nil {
		return false
	}
	var image imageText
	strict := json.NewDecoder(strings.NewReader(string(text)))
	strict.DisallowUnknownFields()
	return strict.Decode(&image) == nil && image.ImageName != "" && !strict.More()
}

// shared is the name of a storage whose driver is a parameter, so that the sandbox and its registry use the same one.
const shared = "shared"

// init registers the shared storage with the registry's library.
func init() { factory.Register(shared, sharedFactory{}) }

// sharedFactory gives registries the storage driver that they share.
type sharedFactory struct{}

// Create returns the parameter "driver".
func (sharedFactory) Create(_ context.Context, parameters map[string]any) (storage.StorageDriver, error) {
	return parameters["driver"].(storage.StorageDriver), nil
}

package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// shares are the sizes of an image's layers, in per cent of the image: a base,
// what a program needs, the program, its settings. The last is what changes.
var shares = []int64{55, 30, 14, 1}

// place is somewhere that an image may lie. Put returns what finds the image
// there, which is in the OCI layout folder already.
type place struct {
	name, kind string
	put        func(image v1.Image, folder string) (upload, error)
}

// makeScenarios makes an image and a changed one, puts both wherever images may
// lie, and adds a scenario for each place, and one for a file.
func (b *bench) makeScenarios(ctx context.Context, size int, engines []engine) error {
	progress("making images of %d MB", size)
	var places []place
	for _, e := range engines {
		places = append(places, place{"image by ID, " + e.kind, "engine", func(image v1.Image, folder string) (upload, error) {
			return b.load(ctx, e, filepath.Base(folder), image)
		}})
	}
	places = append(places,
		place{"image in an OCI archive, as a rock is one", "rock", func(_ v1.Image, folder string) (upload, error) {
			return upload{ref: folder + ".rock"}, writeArchive(folder+".rock", folder)
		}},
		place{"image in another registry, by digest", "registry", func(image v1.Image, _ string) (upload, error) {
			digest, err := image.Digest()
			if err != nil {
				return upload{}, err
			}
			repository, options := b.source.repository(ctx)
			ref, err := name.NewDigest(repository + "@" + digest.String())
			if err != nil {
				return upload{}, err
			}
			return upload{ref: ref.String()}, remote.Write(ref, image, options...)
		}})
	scenarios := make([]scenario, len(places))
	var layers []v1.Layer
	for _, label := range []string{"image", "changed"} {
		folder := filepath.Join(b.work, fmt.Sprintf("%s-%d", label, size))
		image, err := makeImage(folder, int64(size)*1e6, layers)
		if err != nil {
			return err
		}
		layers, err = image.Layers()
		config, configErr := image.ConfigName()
		if err := errors.Join(err, configErr); err != nil {
			return err
		}
		for i, p := range places {
			u, err := p.put(image, folder)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			u.sum = config.String()
			scenarios[i] = scenario{p.name, size, p.kind, append(scenarios[i].uploads, u)}
		}
	}
	b.scenarios = append(b.scenarios, scenarios...)

	path := filepath.Join(b.work, fmt.Sprintf("file-%d", size))
	text, err := io.ReadAll(content(0, int64(size)*1e4))
	sum := sha256.Sum256(text)
	file := scenario{"file of 1 % of that", size, "file", []upload{{ref: path, sum: hex.EncodeToString(sum[:])}}}
	b.scenarios = append(b.scenarios, file)
	return errors.Join(err, os.WriteFile(path, text, 0o600))
}

// makeImage makes an image in an OCI layout in the folder: of new layers, or of
// those of another image with a new last one. Each layer is one file.
func makeImage(folder string, size int64, of []v1.Layer) (v1.Image, error) {
	kept := max(0, len(of)-1)
	layers, offset := of[:kept:kept], int64(0)
	if kept > 0 {
		offset = size // what no other layer has
	}
	for _, share := range shares[kept:] {
		layer := tarOf("data", size*share/100, content(offset, size*share/100))
		layers = append(layers, stream.NewLayer(layer, stream.WithMediaType(types.OCILayer)))
		offset += size * share / 100
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Cmd: []string{"/usr/bin/true"}},
	})
	if err != nil {
		return nil, err
	}
	image = mutate.ConfigMediaType(mutate.MediaType(image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, layers...); err != nil {
		return nil, err
	}
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := path.AppendImage(image); err != nil { // the layers are compressed now, once
		return nil, err
	}
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	return path.Image(digest)
}

// writeArchive makes a tar of a folder.
func writeArchive(path, folder string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(file)
	return errors.Join(archive.AddFS(os.DirFS(folder)), archive.Close(), file.Close())
}

// tarOf returns a tar of one file, which is made while it is read.
func tarOf(name string, size int64, content io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644})
		if err == nil {
			_, err = io.CopyN(archive, content, size)
		}
		_ = w.CloseWithError(errors.Join(err, archive.Close()))
	}()
	return r
}

// content returns a section of this machine's own files, one after another: they
// compress as images do.
func content(offset, size int64) io.Reader {
	r, w := io.Pipe()
	go func() {
		skip, left := offset, size
		for _, root := range []string{"/usr/lib", "/usr/bin", "/usr/share", "/usr/local"} {
			_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
				if err != nil || !entry.Type().IsRegular() {
					return nil // what can't be read isn't in an image
				}
				file, err := os.Open(path) //nolint:gosec // of this machine's own folders
				if err != nil {
					return nil // nor is this
				}
				defer func() { _ = file.Close() }()
				n, err := io.Copy(io.Discard, io.LimitReader(file, skip))
				if skip -= n; err == nil && skip == 0 {
					n, err = io.Copy(w, io.LimitReader(file, left))
					left -= n
				}
				if err != nil || left == 0 {
					return fs.SkipAll
				}
				return nil
			})
			if left == 0 {
				break
			}
		}
		if left > 0 {
			_ = w.CloseWithError(errors.New("this machine has too few files: take a smaller size"))
		}
		_ = w.Close()
	}()
	return r
}

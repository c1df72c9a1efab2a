package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Unpacked is an image whose layers aren't compressed yet, in a store that
// calls it by the digest of its config.
type Unpacked struct {
	// ID is the digest of the config.
	ID v1.Hash
	// DiffIDs are the digests of the uncompressed layers, lowest first.
	DiffIDs []v1.Hash
	// Platform is what the config says the image runs on.
	Platform v1.Platform
	// Size is about how many bytes will be read, for progress.
	Size int64

	config []byte             // nil until it comes by in the stream
	layers map[string]v1.Hash // diff IDs by file name, where they are known beforehand
	open   opener             // the image as `docker save` writes it
}

// layerVisitor is given each layer as it comes by: its diff ID, or the zero
// Hash when only its bytes can tell, and its content, to be read or left.
type layerVisitor func(diffID v1.Hash, content io.Reader) error

// walk reads the image once, from the first byte to the last one needed. It
// sets u.config and calls layer for every file that may be a layer; it stops
// as soon as done says so.
func (u *Unpacked) walk(ctx context.Context, done func() bool, layer layerVisitor) error {
	if done() {
		return nil
	}
	stream, err := u.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	w := walker{Unpacked: u, entries: newTarStream(stream), legacy: map[string]v1.Hash{}}
	for header, err := range w.entries.files() {
		if err != nil {
			return err
		}
		if err := w.visit(header, layer); err != nil || done() {
			return err
		}
	}
	return nil
}

// walker is one pass over a stream of the form that `docker save` writes, in
// any of its dialects.
type walker struct {
	*Unpacked
	entries *tarStream
	legacy  map[string]v1.Hash // diff IDs by folder, proven by v1 JSON
}

func (w *walker) visit(header *tar.Header, layer layerVisitor) error {
	dir, base := path.Split(header.Name)
	switch {
	case w.config == nil && strings.Contains(base, w.ID.Hex):
		return w.readConfig(header)
	case base == "json" && w.layers == nil:
		return w.readLegacy(strings.TrimSuffix(dir, "/"), header)
	}
	if diffID, ok := w.identify(header.Name, dir, base); ok {
		return layer(diffID, w.entries)
	}
	if strings.HasSuffix(base, ".tar") && w.layers == nil {
		return layer(v1.Hash{}, w.entries)
	}
	return nil
}

// identify tells which layer a file is, without reading it: from the table
// of contents, from the v1 JSON before it, or from the diff ID in its name.
func (w *walker) identify(name, dir, base string) (v1.Hash, bool) {
	if w.layers != nil {
		diffID, ok := w.layers[name]
		return diffID, ok
	}
	if diffID, ok := w.legacy[strings.TrimSuffix(dir, "/")]; ok && base == "layer.tar" {
		return diffID, true
	}
	named := v1.Hash{Algorithm: "sha256", Hex: strings.TrimSuffix(base, ".tar")}
	return named, slices.Contains(w.DiffIDs, named)
}

func (w *walker) readConfig(header *tar.Header) error {
	config, err := w.entries.document(header)
	if err != nil {
		return err
	}
	if got := sum(config); got != w.ID {
		return fmt.Errorf("the config of image %s has the digest %s: the image is damaged", w.ID, got)
	}
	parsed, err := parseConfig(config)
	if err != nil {
		return err
	}
	if !slices.Equal(parsed.RootFS.DiffIDs, w.DiffIDs) {
		return fmt.Errorf("the config of image %s lists other layers than the engine does", w.ID)
	}
	w.config = config
	return nil
}

func (w *walker) readLegacy(id string, header *tar.Header) error {
	doc, err := w.entries.document(header)
	if err != nil {
		return err
	}
	if diffID, ok := legacyLayer(id, doc, w.DiffIDs); ok {
		w.legacy[id] = diffID
	}
	return nil
}

func parseConfig(raw []byte) (*v1.ConfigFile, error) {
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("its config is damaged: %w", err)
	}
	return config, nil
}

func sum(content []byte) v1.Hash {
	digest := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest[:])}
}

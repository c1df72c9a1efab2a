package source

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

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// Unpacked is an image whose layers aren't compressed yet, in a store that identifies it by the digest of its config.
type Unpacked struct {
	// ID is the digest of the config.
	ID v1.Hash
	// Digest is the digest by which the store identifies the image. It differs from ID only for an image without layers
	// in an engine: the engine doesn't export its config, so another config with the same fields is made, and ID is the
	// digest of that.
	Digest v1.Hash
	// DiffIDs are the digests of the uncompressed layers, lowest first.
	DiffIDs []v1.Hash
	// Platform is what the config says the image runs on.
	Platform v1.Platform
	// Size is the approximate number of bytes that will be read, for progress.
	Size int64

	// Export opens the image as a tar stream in the form that `docker save` writes.
	Export func(ctx context.Context) (io.ReadCloser, error)

	config []byte             // nil if only the export has it
	layers map[string]v1.Hash // diff IDs by file name; nil if they aren't known before the export is read
	close  func() error       // nil if nothing is held open
}

// Identity returns the image's ID. See [Source].
func (u *Unpacked) Identity() image.Identity { return image.Identity{Config: u.ID} }

// Close releases what the image holds open. See [Source].
func (u *Unpacked) Close() error {
	if u.close == nil {
		return nil
	}
	return u.close()
}

// LayerVisitor is called for each layer in an export, with its diff ID, or the zero Hash if only the content shows it.
// It may leave content unread. An error ends the reading.
type LayerVisitor func(diffID v1.Hash, content io.Reader) error

// Read reads the export once, up to the last byte that is needed, and returns the config, nil if the export has none.
// It calls layer for every file that may be a layer. It stops when it has the config and done returns true.
func (u *Unpacked) Read(ctx context.Context, done func() bool, layer LayerVisitor) (config []byte, err error) {
	if u.config != nil && done() {
		return u.config, nil
	}
	stream, err := u.Export(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	w := walker{Unpacked: u, got: u.config, entries: newTarStream(stream), legacy: map[string]v1.Hash{}}
	for header, err := range w.entries.files() {
		if err != nil {
			return nil, err
		}
		if err := w.visit(header, layer); err != nil {
			return nil, err
		}
		if w.got != nil && done() {
			break
		}
	}
	return w.got, nil
}

// walker reads a stream in any variant of the format of `docker save`.
type walker struct {
	*Unpacked
	got     []byte // the config; nil until it was read
	entries *tarStream
	legacy  map[string]v1.Hash // diff IDs by folder, as v1 JSON announces them
}

// visit reads a file of the stream, and calls layer if it may be a layer.
func (w *walker) visit(header *tar.Header, layer LayerVisitor) error {
	dir, base := path.Split(header.Name)
	switch {
	case w.got == nil && strings.Contains(base, w.ID.Hex):
		return w.readConfig(header)
	case base == "json" && w.layers == nil:
		doc, err := w.entries.document(header, manifestLimit)
		if err != nil {
			return err
		}
		id := strings.TrimSuffix(dir, "/")
		if diffID, ok := legacyLayer(id, doc, w.DiffIDs); ok {
			w.legacy[id] = diffID
		}
		return nil
	}
	if diffID, ok := w.identify(header.Name, dir, base); ok {
		return layer(diffID, w.entries)
	}
	if strings.HasSuffix(base, ".tar") && w.layers == nil {
		return layer(v1.Hash{}, w.entries)
	}
	return nil
}

// identify returns the diff ID of a layer without reading the layer: from manifest.json, from the v1 JSON before it, or
// from its name.
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

// readConfig reads the config. It fails if the digest isn't the image ID, or if the config lists other layers than the
// image's store.
func (w *walker) readConfig(header *tar.Header) error {
	config, err := w.entries.document(header, configLimit)
	if err != nil {
		return err
	}
	if got := sum(config); got != w.ID {
		return fmt.Errorf(
			"the config of image %s has the digest %s: the image is damaged; build, save or pull it again",
			w.ID,
			got,
		)
	}
	parsed, err := parseConfig(config)
	if err != nil {
		return err
	}
	if !slices.Equal(parsed.RootFS.DiffIDs, w.DiffIDs) {
		return fmt.Errorf("the config of image %s lists other layers than the engine does; build or pull it again", w.ID)
	}
	w.got = config
	return nil
}

// parseConfig parses a config.
func parseConfig(raw []byte) (*v1.ConfigFile, error) {
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("the image's config is damaged: %w", err)
	}
	return config, nil
}

// sum returns the SHA-256 digest of content.
func sum(content []byte) v1.Hash {
	digest := sha256.Sum256(content)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(digest[:])}
}

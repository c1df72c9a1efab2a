package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// savedImage is an image in manifest.json, which lists the contents of an archive of `docker save`.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// hexName matches the digest in the name of a config in an archive: <hex>.json, sha256:<hex> or blobs/sha256/<hex>.
var hexName = regexp.MustCompile(`(?:^|[:/])([0-9a-f]{64})(?:\.json)?$`)

// hex returns the image ID from the config's name, "" if the name doesn't contain it.
func (s savedImage) hex() string {
	if m := hexName.FindStringSubmatch(s.Config); m != nil {
		return m[1]
	}
	return ""
}

// openDockerArchive opens the image that selector names by a tag, an ID, or the beginning of an ID. If the archive
// has one image, selector may be "". It reads no layer. Closing the image closes the file, as does an error.
func openDockerArchive(ctx context.Context, file *tarFile, selector string) (_ Source, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	toc, err := readContents(ctx, file.open)
	if err != nil {
		return nil, err
	}
	saved, err := toc.selectImage(selector)
	if err != nil {
		return nil, err
	}
	u, err := toc.unpacked(ctx, saved, file.open)
	if err != nil {
		return nil, err
	}
	u.Size = file.size
	u.close = file.Close
	return u, nil
}

// contents holds what one pass over an archive found: the names of its files, its links, and the images that it
// lists.
type contents struct {
	names  map[string]bool
	links  map[string]string
	images []savedImage
	index  []byte // index.json, which makes an OCI layout of it, too
}

// readContents reads the whole archive once.
func readContents(ctx context.Context, open openFunc) (contents, error) {
	stream, err := open(ctx)
	if err != nil {
		return contents{}, err
	}
	defer func() { _ = stream.Close() }()
	entries := newTarStream(stream)
	toc := contents{names: entries.seen, links: entries.links}
	for header, err := range entries.files() {
		switch {
		case err != nil:
		case header.Name == "manifest.json":
			toc.images, err = readSaved(entries.document(header, manifestLimit))
		case header.Name == "index.json":
			toc.index, err = entries.document(header, manifestLimit)
		}
		if err != nil {
			return contents{}, err
		}
	}
	return toc, nil
}

// readSaved parses manifest.json. It returns err if that isn't nil.
func readSaved(raw []byte, err error) ([]savedImage, error) {
	if err != nil {
		return nil, err
	}
	var images []savedImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("manifest.json is damaged: %w; write the archive again with `docker save`", err)
	}
	return images, nil
}

// selectImage returns the image that selector names.
func (c contents) selectImage(selector string) (savedImage, error) {
	if !c.names["manifest.json"] {
		return savedImage{}, fmt.Errorf("no manifest.json, so no docker archive; give what `docker save` wrote")
	}
	if selector == "" && len(c.images) == 1 {
		return c.images[0], nil
	}
	id := strings.TrimPrefix(selector, "sha256:")
	var choice []string
	for _, image := range c.images {
		if slices.Contains(image.RepoTags, selector) || len(id) >= 12 && strings.HasPrefix(image.hex(), id) {
			return image, nil
		}
		choice = append(choice, strings.Join(append([]string{path.Base(image.Config)}, image.RepoTags...), " "))
	}
	if selector == "" {
		return savedImage{}, fmt.Errorf(
			"the archive holds %d images; choose one as docker-archive:FILE:TAG or docker-archive:FILE:ID: %s",
			len(c.images),
			strings.Join(choice, ", "),
		)
	}
	return savedImage{}, fmt.Errorf("the archive has no image %q; choose from %s", selector, strings.Join(choice, ", "))
}

// unpacked describes an image in the archive; open opens the archive.
func (c contents) unpacked(ctx context.Context, saved savedImage, open openFunc) (*Unpacked, error) {
	raw, err := readFile(ctx, open, path.Clean(saved.Config))
	if err != nil {
		return nil, err
	}
	id := sum(raw)
	if named := saved.hex(); named != "" && named != id.Hex {
		return nil, fmt.Errorf(
			"the config %s has the digest %s: the image is damaged; build, save or pull it again",
			saved.Config,
			id,
		)
	}
	config, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	if len(saved.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf(
			"the image has %d layers where its config lists %d; build it again",
			len(saved.Layers),
			len(config.RootFS.DiffIDs),
		)
	}
	u := &Unpacked{
		ID: id, Digest: id, DiffIDs: config.RootFS.DiffIDs, Platform: image.ConfigPlatform(config),
		config: raw, Export: open, layers: make(map[string]v1.Hash, len(saved.Layers)),
	}
	for i, layer := range saved.Layers {
		file, err := c.resolve(layer)
		if err != nil {
			return nil, err
		}
		u.layers[file] = u.DiffIDs[i]
	}
	return u, nil
}

// resolve returns the name of the file that holds a layer. Engines up to version 24 save a layer once and link to it
// elsewhere, even from other images. The file may be missing, because the charm's repository may have the layer.
func (c contents) resolve(layer string) (string, error) {
	name := path.Clean(layer)
	if target, ok := c.links[name]; ok {
		name = path.Join(path.Dir(name), target)
	}
	if _, again := c.links[name]; again {
		return "", fmt.Errorf("the layer %q is a link to another link; write the archive again with `docker save`", layer)
	}
	return name, nil
}

// readFile returns the content of a file in a tar stream, at most as large as a config.
func readFile(ctx context.Context, open openFunc, name string) ([]byte, error) {
	stream, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = stream.Close() }()
	entries := newTarStream(stream)
	for header, err := range entries.files() {
		if err != nil {
			return nil, err
		}
		if header.Name == name {
			return entries.document(header, configLimit)
		}
	}
	return nil, fmt.Errorf(
		"the archive has no %s, which its manifest.json names: the image is incomplete; write the archive again with "+
			"`docker save`",
		name,
	)
}

// Package releaseimage builds what a release consists of: the program for each
// platform, and the action's image, without a container engine. Their digests
// depend on the source and the version alone, so that anyone can build a release
// again and compare.
package releaseimage

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Index returns the index of the images of those programs that are for Linux.
func Index(programs []Program, version string) (v1.ImageIndex, error) {
	var images []mutate.IndexAddendum
	for _, p := range programs {
		if p.OS != "linux" {
			continue
		}
		img, err := Image(p.Content, p.Architecture, version)
		if err != nil {
			return nil, err
		}
		images = append(images, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.OS, Architecture: p.Architecture}},
		})
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), images...)
	return mutate.Annotations(index, labels(version)).(v1.ImageIndex), nil
}

// Image returns the image that runs a program of one architecture: the program
// as one layer on top of the CA bundle.
func Image(program []byte, architecture, version string) (v1.Image, error) {
	base, err := layer(
		file{name: "etc/"}, file{name: "etc/ssl/"}, file{name: "etc/ssl/certs/"},
		file{name: "etc/ssl/certs/ca-certificates.crt", content: certificates(), mode: 0o644},
		file{name: "tmp/", mode: 0o1777}, // packed layers wait there until they are sent
	)
	if err != nil {
		return nil, fmt.Errorf("packing the CA bundle: %w", err)
	}
	top, err := layer(file{name: "upload-resource", content: program, mode: 0o755})
	if err != nil {
		return nil, fmt.Errorf("packing the program: %w", err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS:           "linux",
		Architecture: architecture,
		RootFS:       v1.RootFS{Type: "layers"},
		// No user: only root may write the file behind GITHUB_OUTPUT and reach the
		// engine's socket, both of which the runner mounts.
		Config: v1.Config{Entrypoint: []string{"/upload-resource"}, WorkingDir: "/", Labels: labels(version)},
	})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(img, base, top)
}

// labels returns the labels of an image and the annotations of an index. From the
// source, GitHub's registry learns which repository the package belongs to.
func labels(version string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.source":  "https://github.com/charmhub-actions/upload-resource",
		"org.opencontainers.image.version": version,
	}
}

// file is an entry of a layer; a folder's name ends in a slash.
type file struct {
	name    string
	content []byte
	mode    int64 // 0 is a folder's usual one
}

// layer returns a layer of files that belong to root and have no times. Its
// compressor is a module and not Go's own, which may change with Go's version.
func layer(files ...file) (v1.Layer, error) {
	var compressed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(zip)
	for _, f := range files {
		header := tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)),
			Format: tar.FormatUSTAR}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
			if header.Mode == 0 {
				header.Mode = 0o755
			}
		}
		if err := archive.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(compressed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// certificates returns Mozilla's root certificates as PEM. They come from a
// module, whose version go.sum fixes. A root that is trusted with a constraint is
// left out: the format can't say so.
func certificates() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer doesn't fail
		}
	}
	return out.Bytes()
}

// Package releaseimage builds the action's image without a container engine, for
// each platform of a release. The digest depends on the source and the version
// alone, so that anyone can build a release again and compare.
package releaseimage

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// architectures lists those for which Charmhub has charms and Go compiles.
var architectures = []string{"amd64", "arm64", "ppc64le", "riscv64", "s390x"}

// Index compiles the program in a module's root folder for each architecture of
// a release, and returns the index of their images.
func Index(ctx context.Context, folder, version string) (v1.ImageIndex, error) {
	toolchain, err := toolchain(ctx, folder)
	if err != nil {
		return nil, err
	}
	var images []mutate.IndexAddendum
	for _, architecture := range architectures {
		program, err := compile(ctx, folder, toolchain, architecture, version)
		if err != nil {
			return nil, fmt.Errorf("compiling for linux/%s: %w", architecture, err)
		}
		img, err := Image(program, architecture, version)
		if err != nil {
			return nil, err
		}
		images = append(images, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
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

// toolchain returns the version of Go that the module names: another one would
// compile the same source to other bytes.
func toolchain(ctx context.Context, folder string) (string, error) {
	var module struct{ Toolchain string }
	out, err := goCommand(ctx, folder, os.Environ(), "mod", "edit", "-json")
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil {
		return "", fmt.Errorf("reading go.mod: %w", err)
	}
	if module.Toolchain == "" {
		return "", errors.New("reading go.mod: it has no line toolchain; add one, so that every machine compiles with the same Go")
	}
	return module.Toolchain, nil
}

// compile returns the program of a folder, compiled for an architecture. Whatever
// could change its bytes is set here, and not left to the environment.
func compile(ctx context.Context, folder, toolchain, architecture, version string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "release-image-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "program")
	env := append(os.Environ(),
		"GOENV=off", "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN="+toolchain, "GOEXPERIMENT=", "GOFIPS140=off", "CGO_ENABLED=0",
		"GOOS=linux", "GOARCH="+architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOPPC64=power8", "GORISCV64=rva20u64",
	)
	_, err = goCommand(ctx, folder, env, "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid= -X main.version="+version, "-o", path, ".")
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// goCommand runs the go command in a folder and returns what it printed.
func goCommand(ctx context.Context, folder string, env []string, args ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the arguments are fixed but for the version
	command.Dir, command.Env = folder, env
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
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
		header := tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Format: tar.FormatUSTAR}
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

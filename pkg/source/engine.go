package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	engineimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// engine is a client of a container engine with Docker's API: Docker, or podman behind its compatible socket.
type engine struct {
	api  *client.Client
	host string
}

// newEngine returns a client of the engine that DOCKER_HOST names, or of the local one. DOCKER_CERT_PATH and
// DOCKER_TLS_VERIFY configure TLS. It makes no request.
func newEngine() (*engine, error) {
	api, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("DOCKER_HOST, DOCKER_CERT_PATH or DOCKER_TLS_VERIFY is wrong: %w; correct or unset it", err)
	}
	return &engine{api: api, host: api.DaemonHost()}, nil
}

// NotFoundError is the error for a name or digest that no image in a place has.
type NotFoundError struct{ Name, Place string }

// Error says what wasn't found, and where.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s has no image %s", e.Place, e.Name)
}

// find returns the image whose ID or RepoDigest begins with hex. It returns a [*NotFoundError] if there is no such
// image. If there are several, the error lists them.
func (e *engine) find(ctx context.Context, hex string) (Source, error) {
	if len(hex) == 64 {
		src, err := e.inspect(ctx, "sha256:"+hex)
		if !errdefs.IsNotFound(err) {
			return src, err
		}
	}
	// The engine neither resolves a RepoDigest without a name nor distinguishes an ambiguous prefix from an unknown one,
	// so the list of images is searched.
	list, err := callEngine(ctx, e, "list its images", func(ctx context.Context) (client.ImageListResult, error) {
		return e.api.ImageList(ctx, client.ImageListOptions{All: true})
	})
	if err != nil {
		return nil, err
	}
	ids := matches(list.Items, hex)
	switch len(ids) {
	case 0:
		return nil, &NotFoundError{Name: hex, Place: "the container engine at " + e.host}
	case 1:
		return e.inspect(ctx, ids[0])
	default:
		return nil, fmt.Errorf("%s is the beginning of several images in the container engine; write more digits: %s",
			hex, strings.Join(ids, ", "))
	}
}

// matches returns the IDs of the images whose ID or RepoDigest begins with hex. They are sorted, and each is listed
// once.
func matches(images []engineimage.Summary, hex string) []string {
	var ids []string
	for _, one := range images {
		names := append([]string{one.ID}, one.RepoDigests...)
		if slices.ContainsFunc(names, func(name string) bool {
			return strings.HasPrefix(name[strings.LastIndex(name, ":")+1:], hex)
		}) {
			ids = append(ids, one.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// inspectImage requests the engine's description of an image.
func (e *engine) inspectImage(
	ctx context.Context,
	id string,
	options ...client.ImageInspectOption,
) (client.ImageInspectResult, error) {
	return callEngine(ctx, e, "inspect image "+id, func(ctx context.Context) (client.ImageInspectResult, error) {
		return e.api.ImageInspect(ctx, id, options...)
	})
}

// inspect returns the image with that ID.
func (e *engine) inspect(ctx context.Context, id string) (Source, error) {
	found, err := e.inspectImage(ctx, id)
	if err != nil {
		return nil, err
	}
	digest, err := v1.NewHash(found.ID)
	if err != nil {
		return nil, fmt.Errorf("the container engine calls image %s %q, which is no digest", id, found.ID)
	}
	var src Source
	if found.Descriptor != nil || e.keepsManifests(ctx) {
		src, err = e.stored(ctx, digest, found.InspectResponse)
	} else {
		src, err = e.unpacked(digest, found.InspectResponse)
	}
	if err != nil {
		return nil, fmt.Errorf("image %s in the container engine: %w", id, err)
	}
	return src, nil
}

// unpacked returns an image of a graph driver. Its ID is the digest of its config.
func (e *engine) unpacked(id v1.Hash, found engineimage.InspectResponse) (*Unpacked, error) {
	u := &Unpacked{ID: id, Digest: id, Size: found.Size, Export: e.exporter(id), Platform: v1.Platform{
		OS: found.Os, Architecture: found.Architecture, Variant: found.Variant, OSVersion: found.OsVersion,
	}}
	for _, layer := range found.RootFS.Layers {
		diffID, err := v1.NewHash(layer)
		if err != nil {
			return nil, err
		}
		u.DiffIDs = append(u.DiffIDs, diffID)
	}
	if len(u.DiffIDs) > 0 {
		return u, nil
	}
	// Docker can't export an image without layers, so the exact bytes of its config can't be read. A config with the
	// same fields is made from what the engine reports.
	var err error
	u.config, err = json.Marshal(map[string]any{
		"architecture": found.Architecture, "variant": found.Variant, "os": found.Os, "os.version": found.OsVersion,
		"created": found.Created, "author": found.Author, "config": found.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{}},
	})
	u.ID = sum(u.config)
	return u, err
}

// keepsManifests reports whether the engine uses the containerd image store. It is needed below version 1.48 of the
// API, where the description of an image doesn't say so.
func (e *engine) keepsManifests(ctx context.Context) bool {
	found, err := callEngine(ctx, e, "describe itself", func(ctx context.Context) (client.SystemInfoResult, error) {
		return e.api.Info(ctx, client.InfoOptions{})
	})
	return err == nil && slices.Contains(found.Info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"})
}

// stored returns an image of the containerd image store, which keeps manifests and compressed layers.
func (e *engine) stored(ctx context.Context, digest v1.Hash, found engineimage.InspectResponse) (*storedImage, error) {
	src := &storedImage{digest: digest, export: exportStore{export: e.exporter(digest)}}
	if found.Descriptor == nil { // before version 1.48 of the API
		return src, nil
	}
	d := v1.Descriptor{MediaType: types.MediaType(found.Descriptor.MediaType), Size: found.Descriptor.Size, Digest: digest}
	var err error
	if src.image, err = newBacked(ctx, &src.export, d); err != nil || !d.MediaType.IsIndex() {
		return src, err
	}
	listed, err := e.inspectImage(ctx, digest.String(), client.ImageInspectWithManifests(true))
	if err != nil {
		return nil, err
	}
	src.images, err = imagesOf(listed.Manifests)
	return src, err
}

// imagesOf returns the images in an index, without attestations. It returns nil if the engine doesn't know the kind of
// a manifest. An engine may call a manifest an attestation because of an annotation, while runtimes would run it as an
// image.
func imagesOf(manifests []engineimage.ManifestSummary) ([]v1.Descriptor, error) {
	var images []v1.Descriptor
	for _, m := range manifests {
		digest, err := v1.NewHash(m.Descriptor.Digest.String())
		if err != nil {
			return nil, err
		}
		d := v1.Descriptor{MediaType: types.MediaType(m.Descriptor.MediaType), Size: m.Descriptor.Size, Digest: digest}
		if p := m.Descriptor.Platform; p != nil {
			d.Platform = &v1.Platform{
				OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
			}
		}
		switch {
		case image.IsAttached(d):
		case m.Kind != engineimage.ManifestKindImage || d.Platform == nil:
			return nil, nil
		default:
			images = append(images, d)
		}
	}
	return images, nil
}

// exporter returns a function that exports an image. Errors name the engine, also those in the middle of the stream.
func (e *engine) exporter(id v1.Hash) openFunc {
	doing := "export image " + id.String()
	return func(ctx context.Context) (io.ReadCloser, error) {
		stream, err := transport.ReadWatched(ctx, e.host, answerLimit, func(ctx context.Context) (io.ReadCloser, error) {
			return e.api.ImageSave(ctx, []string{id.String()})
		})
		if err != nil {
			return nil, e.failed(doing, err)
		}
		return exportStream{stream, func(err error) error { return e.failed(doing, err) }}, nil
	}
}

// exportStream is an export whose errors name the engine.
type exportStream struct {
	io.ReadCloser
	failed func(error) error
}

// Read implements [io.Reader].
func (s exportStream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.failed(err)
	}
	return n, err
}

// answerLimit is the time limit for the beginning of an engine's answer. Before the first byte of an export, the engine
// writes the whole image to its disk.
const answerLimit = 15 * time.Minute

// callEngine makes a request other than an export. It fails after answerLimit. Doing says for the error what is being
// done.
func callEngine[T any](ctx context.Context, e *engine, doing string, call func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeoutCause(ctx, answerLimit, fmt.Errorf("no answer within %s", answerLimit))
	defer cancel()
	result, err := call(limited)
	if err == nil {
		return result, nil
	}
	if limited.Err() != nil && ctx.Err() == nil {
		err = context.Cause(limited)
	}
	return result, e.failed(doing, err)
}

// failed returns the error for a failed request. It says whether the engine couldn't be reached or refused the request.
func (e *engine) failed(doing string, err error) error {
	if client.IsErrConnectionFailed(err) {
		return fmt.Errorf("no container engine answers at %s: %w; start one, or set DOCKER_HOST to its address", e.host, err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("its answer broke off") // an export that breaks off isn't a damaged archive
	}
	return fmt.Errorf("the container engine at %s failed to %s: %w; the engine's log says more", e.host, doing, err)
}

package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/blobinfocache/none"
	"github.com/containers/image/v5/types"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ggcrtypes "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// RegistryAccess says how registries that images come from are asked. Its
// zero value uses the credentials of `docker login` or `podman login`, if
// there are any for the registry.
type RegistryAccess struct {
	// Username and Password replace those of the login.
	Username, Password string
	UserAgent          string
}

func (a RegistryAccess) system(registry string) *types.SystemContext {
	sys := &types.SystemContext{DockerRegistryUserAgent: a.UserAgent}
	if a.Username != "" || a.Password != "" {
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: a.Username, Password: a.Password}
	}
	if loopback(registry) { // plain HTTP is for this machine alone
		sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
	}
	return sys
}

func loopback(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = registry
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Resolve returns the digest that a tag, as name:tag, names now.
func (a RegistryAccess) Resolve(ctx context.Context, tagged string) (v1.Hash, error) {
	named, err := reference.ParseNormalizedNamed(tagged)
	if err != nil {
		return v1.Hash{}, err
	}
	ref, err := docker.NewReference(named)
	if err != nil {
		return v1.Hash{}, err
	}
	registry := reference.Domain(named)
	if err := checkRealm(ctx, registry); err != nil {
		return v1.Hash{}, err
	}
	found, err := docker.GetDigest(ctx, a.system(registry), ref)
	if err != nil {
		return v1.Hash{}, err
	}
	return v1.NewHash(found.String())
}

// remoteStore is an image in another registry. It reads what it is asked
// for, when it is asked.
type remoteStore struct {
	source types.ImageSource
	name   name.Digest
}

// openRegistry opens name@digest; only its manifest is read.
func openRegistry(ctx context.Context, access RegistryAccess, ref Reference) (*Source, error) {
	named, err := reference.ParseNormalizedNamed(ref.Name)
	if err != nil {
		return nil, err
	}
	digested, ok := named.(reference.Digested)
	if !ok {
		return nil, fmt.Errorf("%s has no digest", ref.Name)
	}
	canonical, err := reference.WithDigest(reference.TrimNamed(named), digested.Digest())
	if err != nil {
		return nil, err
	}
	from, err := newRemoteStore(ctx, access, canonical)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s in its registry: %w", ref.Text, err)
	}
	src, err := from.open(ctx, digested.Digest())
	if err != nil {
		_ = from.source.Close()
		return nil, fmt.Errorf("cannot read %s from its registry: %w", ref.Text, err)
	}
	src.Name = ref.Text
	return src, nil
}

func newRemoteStore(ctx context.Context, access RegistryAccess, canonical reference.Canonical) (*remoteStore, error) {
	ref, err := docker.NewReference(canonical)
	if err != nil {
		return nil, err
	}
	registry := reference.Domain(canonical)
	if err := checkRealm(ctx, registry); err != nil {
		return nil, err
	}
	source, err := ref.NewImageSource(ctx, access.system(registry))
	if err != nil {
		return nil, err
	}
	digested, err := name.NewDigest(canonical.String())
	return &remoteStore{source: source, name: digested}, err
}

func (s *remoteStore) open(ctx context.Context, want digest.Digest) (*Source, error) {
	raw, mediaType, err := s.source.GetManifest(ctx, nil)
	if err != nil {
		return nil, err
	}
	hash, err := v1.NewHash(want.String())
	if err != nil {
		return nil, err
	}
	m, err := newAddressed(ctx, s, v1.Descriptor{
		MediaType: ggcrtypes.MediaType(mediaType), Size: int64(len(raw)), Digest: hash,
	})
	if err != nil {
		return nil, err
	}
	if _, err := m.RawManifest(); err != nil {
		return nil, err
	}
	if err := bounded(m); err != nil {
		return nil, err
	}
	return &Source{Digest: hash, Addressed: m, close: s.source.Close}, nil
}

func (s *remoteStore) fetch(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	hash := digest.Digest(d.Digest.String())
	if d.MediaType.IsIndex() || d.MediaType.IsImage() {
		raw, err := s.manifest(ctx, hash)
		return io.NopCloser(bytes.NewReader(raw)), err
	}
	content, _, err := s.source.GetBlob(ctx, types.BlobInfo{Digest: hash, Size: d.Size, URLs: d.URLs}, none.NoCache)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s from %s: %w", d.Digest, s.name.Context(), err)
	}
	return content, nil
}

func (s *remoteStore) manifest(ctx context.Context, hash digest.Digest) ([]byte, error) {
	instance := &hash
	if hash.String() == s.name.DigestStr() {
		instance = nil // this one was read when the store was opened
	}
	raw, _, err := s.source.GetManifest(ctx, instance)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s from %s: %w", hash, s.name.Context(), err)
	}
	return raw, nil
}

// mountableImage says of each layer, and of the config, where it is, so that a
// registry can mount it from there without a transfer.
type mountableImage struct {
	v1.Image
	from name.Reference
}

func (i mountableImage) Layers() ([]v1.Layer, error) {
	layers, err := i.Image.Layers()
	for n, layer := range layers {
		layers[n] = &remote.MountableLayer{Layer: layer, Reference: i.from}
	}
	return layers, err
}

// ConfigLayer is what [partial.ConfigLayer] asks for.
func (i mountableImage) ConfigLayer() (v1.Layer, error) {
	config, err := partial.ConfigLayer(i.Image)
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: config, Reference: i.from}, nil
}

func (i mountableImage) LayerByDigest(digest v1.Hash) (v1.Layer, error) {
	layer, err := i.Image.LayerByDigest(digest)
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: layer, Reference: i.from}, nil
}

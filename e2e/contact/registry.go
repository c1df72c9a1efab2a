package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// aboutRegistry lists the assumptions about the registry and its token service.
var aboutRegistry = []assumption{
	{"The registry", "the store gives a repository with a user and a password", "no image can be published",
		tryCredentials},
	{"The registry", "the registry names a token service, on the store's host",
		"the action asks the service that is named; its connection is opened later, which costs two round trips",
		tryChallenge},
	{"The registry", "the token service gives a token for pull and push that lasts a minute or more",
		"the action gets another one when it is refused", tryBearer},
	{"The registry", "an upload that broke off goes on where it was", "the blob is sent from its start", tryChunks},
	{"The registry", "an image of Docker's types with a gzip layer is taken, and has its digest there", "the upload fails",
		tryImage("gzip")},
	{"The registry", "an OCI image with a zstd layer is taken",
		"an image with such layers, and compression: zstd, fails; use gzip", tryImage("zstd")},
	{"The registry", "an index is taken", "an index, and several lines of image, fail; give one image", tryIndex},
	{"The registry", "the tag of a record is taken, and can be moved",
		"the next run is slower; locations-record: false doesn't try", tryRecord},
	{"The registry", "a manifest that isn't there is answered with 404, also where a blob has its digest",
		"a failure of the registry is repeated, and taken for it", tryMissing},
}

// tryCredentials asks the store for the repository and the login of the image resource.
func tryCredentials(ctx context.Context, c *contact) (finding, error) {
	if c.image == "" {
		return finding{}, errNoImage
	}
	login, err := c.client.UploadCredentials(ctx, c.charm, c.image)
	if err != nil {
		return refuted("%v", err)
	}
	c.recorder.Hide(login.Username + ":" + login.Password)
	image := login.ImageName
	host, path, _ := strings.Cut(image, "/")
	if at := c.at.Registry; at != nil {
		host, image = at.Host, at.Host+at.Path+"/"+path
	}
	var options []name.Option
	if plain, _, _ := strings.Cut(host, ":"); transport.IsLoopback(plain) {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(image, options...)
	if err != nil {
		return refuted("the repository is called %q: %v", login.ImageName, err)
	}
	c.login, c.repository = login, repository
	return confirmed("%s for %s, with a password of %d characters", login.ImageName, login.Username, len(login.Password))
}

// registry returns an address of the repository's API.
func (c *contact) registry(path string) string {
	return c.repository.Scheme() + "://" + c.repository.RegistryStr() + "/v2/" + c.repository.RepositoryStr() + path
}

// challenge returns what the registry says about its token service.
func (c *contact) challenge(ctx context.Context) (map[string]string, error) {
	if c.login.Password == "" {
		return nil, fmt.Errorf("there are no credentials for the registry")
	}
	a, err := c.send(ctx, http.MethodGet, c.repository.Scheme()+"://"+c.repository.RegistryStr()+"/v2/", nil)
	if err != nil {
		return nil, err
	}
	kind, rest, _ := strings.Cut(a.header.Get("WWW-Authenticate"), " ")
	parameters := map[string]string{"kind": kind}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(part, "=")
		parameters[strings.TrimSpace(key)] = strings.Trim(value, `"`)
	}
	return parameters, nil
}

// tryChallenge reads which token service the registry names.
func tryChallenge(ctx context.Context, c *contact) (finding, error) {
	said, err := c.challenge(ctx)
	if err != nil {
		return finding{}, err
	}
	note := fmt.Sprintf("%s, realm %s, service %s", said["kind"], said["realm"], said["service"])
	realm, err := url.Parse(said["realm"])
	if err != nil || said["kind"] != "Bearer" {
		return refuted("%s", note)
	}
	return finding{realm.Host == c.at.Store.Host, note}, nil
}

// errNoTokens says that a registry takes user and password by itself.
var errNoTokens = errors.New("the registry names no token service")

// bearer gets a token for the repository.
func (c *contact) bearer(ctx context.Context) (token string, lasts int, err error) {
	said, err := c.challenge(ctx)
	if err != nil {
		return "", 0, err
	}
	if said["kind"] != "Bearer" {
		return "", 0, errNoTokens
	}
	query := url.Values{"service": {said["service"]},
		"scope": {"repository:" + c.repository.RepositoryStr() + ":pull,push"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, said["realm"]+"?"+query.Encode(), nil)
	if err != nil {
		return "", 0, err
	}
	request.Header.Set("User-Agent", userAgent)
	request.SetBasicAuth(c.login.Username, c.login.Password)
	a, err := c.sendRequest(request)
	if err == nil {
		err = a.ok()
	}
	var given struct {
		Token   string
		Access  string `json:"access_token"`
		Expires int    `json:"expires_in"`
	}
	if err == nil {
		err = json.Unmarshal(a.body, &given)
	}
	if given.Token == "" {
		given.Token = given.Access
	}
	c.recorder.Hide(given.Token)
	return given.Token, given.Expires, err
}

// authorize returns the header for requests to the repository.
func (c *contact) authorize(ctx context.Context) (header []string, err error) {
	token, _, err := c.bearer(ctx)
	if errors.Is(err, errNoTokens) {
		basic := base64.StdEncoding.EncodeToString([]byte(c.login.Username + ":" + c.login.Password))
		return []string{"Authorization", "Basic " + basic}, nil
	}
	return []string{"Authorization", "Bearer " + token}, err
}

// tryBearer gets a token for pull and push, and checks how long it lasts.
func tryBearer(ctx context.Context, c *contact) (finding, error) {
	token, lasts, err := c.bearer(ctx)
	switch {
	case err != nil:
		return finding{}, err
	case token == "":
		return refuted("the answer has no token")
	case lasts == 0:
		return confirmed("it doesn't say how long, which means a minute")
	}
	return finding{lasts >= 60, fmt.Sprintf("%d s", lasts)}, nil
}

// tryChunks sends a blob in two parts, and asks between them what arrived.
func tryChunks(ctx context.Context, c *contact) (finding, error) {
	authorize, err := c.authorize(ctx)
	if err != nil {
		return finding{}, err
	}
	blob := c.content("chunks", 20_000)
	a, err := c.send(ctx, http.MethodPost, c.registry("/blobs/uploads/"), nil, authorize...)
	if err != nil || a.status != http.StatusAccepted {
		return refuted("beginning an upload was answered %d: %v", a.status, err)
	}
	at, from := a.header.Get("Location"), 0
	for _, to := range []int{8_000, len(blob)} {
		if a, err = c.patch(ctx, at, blob[from:to], from, authorize); err != nil || a.status != http.StatusAccepted {
			return refuted("the part from %d to %d was answered %d: %v", from, to, a.status, err)
		}
		if at, err = c.resolve(a.header.Get("Location")); err != nil {
			return finding{}, err
		}
		if a, err = c.send(ctx, http.MethodGet, at, nil, authorize...); err != nil {
			return finding{}, err
		}
		if want := fmt.Sprintf("0-%d", to-1); a.header.Get("Range") != want {
			return refuted("after %d bytes, the state was answered %d with the range %q", to, a.status, a.header.Get("Range"))
		}
		from = to
	}
	return confirmed("two parts of one blob, which is left to be forgotten")
}

// patch sends a part of a blob to the upload at a location, from a byte on.
func (c *contact) patch(ctx context.Context, at string, part []byte, from int, authorize []string) (answer, error) {
	at, err := c.resolve(at)
	if err != nil {
		return answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, at, bytes.NewReader(part))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("User-Agent", userAgent)
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("Content-Range", fmt.Sprintf("%d-%d", from, from+len(part)-1))
	request.Header.Set(authorize[0], authorize[1])
	return c.sendRequest(request)
}

// resolve returns a location of the registry as an absolute address.
func (c *contact) resolve(location string) (string, error) {
	base, err := url.Parse(c.registry("/"))
	if err != nil {
		return "", err
	}
	at, err := base.Parse(location)
	if err != nil {
		return "", err
	}
	if at.Host != base.Host {
		return "", fmt.Errorf("the registry leads to %s", at.Host)
	}
	return at.String(), nil
}

// content returns bytes that are the same in each run with this seed.
func (c *contact) content(what string, size int) []byte {
	generator := rand.NewChaCha8(sha256.Sum256([]byte(c.seed + " " + what)))
	content := make([]byte, size)
	_, _ = generator.Read(content) // never fails
	return content
}

// build makes an image of one layer with one file.
func (c *contact) build(kind string) (v1.Image, error) {
	img, layerType, pack, architecture := empty.Image, types.DockerLayer, compression.GZip, "amd64"
	if kind != "gzip" {
		img = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
		layerType, pack, architecture = types.OCILayerZStd, compression.ZStd, "arm64"
	}
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	content := c.content(kind, 3000)
	if err := archive.WriteHeader(&tar.Header{Name: "contact", Mode: 0o644, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	_, _ = archive.Write(content) // into memory
	_ = archive.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser,
		error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	},
		tarball.WithCompression(pack), tarball.WithMediaType(layerType))
	if err != nil {
		return nil, err
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: architecture, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(img)},
	})
}

// diffIDs returns the diff IDs in the image's config; nil if the config can't be read.
func diffIDs(img v1.Image) []v1.Hash {
	config, err := img.ConfigFile()
	if err != nil {
		return nil
	}
	return config.RootFS.DiffIDs
}

// options send by the recorder, one request after the other.
func (c *contact) options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithAuth(&authn.Basic{Username: c.login.Username, Password: c.login.Password}),
		remote.WithTransport(c.recorder), remote.WithContext(ctx), remote.WithUserAgent(userAgent), remote.WithJobs(1),
	}
}

// push tries again after a failure, which the registry may have in passing.
func (c *contact) push(ctx context.Context, once func() error) error {
	return upload.Repeat(ctx, c.wait, upload.Attempts, func() (pause time.Duration, again bool, err error) {
		err = once()
		return 0, err != nil, err
	})
}

// tryImage returns a try that pushes an image with layers of this compression, and reads it back.
func tryImage(kind string) func(context.Context, *contact) (finding, error) {
	return func(ctx context.Context, c *contact) (finding, error) {
		if c.login.Password == "" {
			return untried("there are no credentials for the registry")
		}
		img, err := c.build(kind)
		if err != nil {
			return finding{}, err
		}
		digest, err := img.Digest()
		if err != nil {
			return finding{}, err
		}
		ref := c.repository.Digest(digest.String())
		if err := c.push(ctx, func() error { return remote.Write(ref, img, c.options(ctx)...) }); err != nil {
			return refuted("%v", err)
		}
		return c.isThere(ctx, kind, ref)
	}
}

// isThere looks for an image that was sent.
func (c *contact) isThere(ctx context.Context, kind string, ref name.Digest) (finding, error) {
	there, err := remote.Head(ref, c.options(ctx)...)
	if err != nil {
		return refuted("it was taken, and isn't there: %v", err)
	}
	if there.Digest.String() != ref.DigestStr() {
		return refuted("it was taken as %s", there.Digest)
	}
	c.images[kind] = ref.DigestStr()
	return confirmed("%s", ref.DigestStr())
}

// tryIndex pushes an index of the run's images, and reads it back.
func tryIndex(ctx context.Context, c *contact) (finding, error) {
	if c.images["gzip"] == "" {
		return untried("there is no image to join")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, kind := range []string{"gzip", "zstd"} {
		img, err := c.build(kind)
		if err != nil {
			return finding{}, err
		}
		if c.images[kind] != "" {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img})
		}
	}
	digest, err := index.Digest()
	if err != nil {
		return finding{}, err
	}
	ref := c.repository.Digest(digest.String())
	if err := c.push(ctx, func() error { return remote.WriteIndex(ref, index, c.options(ctx)...) }); err != nil {
		return refuted("%v", err)
	}
	return c.isThere(ctx, "index", ref)
}

// tryRecord pushes a record as the action does, and then another one under the same tag.
func tryRecord(ctx context.Context, c *contact) (finding, error) {
	if c.images["gzip"] == "" {
		return untried("there is no image to record")
	}
	tag := c.repository.Tag(strings.Replace(c.images["gzip"], ":", "-", 1) + ".image-locations.imgpkg")
	for _, kind := range []string{"record", "another record"} {
		img, err := c.build(kind)
		if err != nil {
			return finding{}, err
		}
		if err := c.push(ctx, func() error { return remote.Write(tag, img, c.options(ctx)...) }); err != nil {
			return refuted("%s: %v", kind, err)
		}
		digest, err := img.Digest()
		if err != nil {
			return finding{}, err
		}
		if there, err := remote.Head(tag, c.options(ctx)...); err != nil || there.Digest != digest {
			return refuted("%s was taken, and the tag names another image: %v", kind, err)
		}
	}
	return confirmed("%s", tag.TagStr())
}

// tryMissing asks for manifests that the repository lacks, and looks at the answers.
func tryMissing(ctx context.Context, c *contact) (finding, error) {
	authorize, err := c.authorize(ctx)
	if err != nil {
		return finding{}, err
	}
	digests := map[string]string{"nothing": fmt.Sprintf("sha256:%x", sha256.Sum256(c.content("missing", 32)))}
	if img, err := c.build("gzip"); err == nil && c.images["gzip"] != "" {
		if config, err := img.ConfigName(); err == nil {
			digests["a config"] = config.String()
		}
	}
	var wrong []string
	ctx = transport.Once(ctx) // a failure is the answer here
	for _, what := range slices.Sorted(maps.Keys(digests)) {
		var a answer
		for range 2 { // the first may be a failure in passing
			if a, err = c.send(ctx, http.MethodGet, c.registry("/manifests/"+digests[what]), nil, authorize...); err != nil {
				return finding{}, err
			}
			if a.status == http.StatusNotFound {
				break
			}
		}
		if a.status != http.StatusNotFound {
			wrong = append(wrong, fmt.Sprintf("the digest of %s was answered %d", what, a.status))
		}
	}
	if len(wrong) > 0 {
		return refuted("%s", strings.Join(wrong, ", "))
	}
	return confirmed("")
}

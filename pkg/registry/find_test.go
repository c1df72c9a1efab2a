package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/charmhub-actions/upload-resource/pkg/compression"
	"github.com/charmhub-actions/upload-resource/pkg/image"
)

// configOf returns the digest of an image's config.
func configOf(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// layerOf returns the digest of an image's first layer.
func layerOf(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(t, layers[0])
}

// byID is what an engine with a graph driver knows of an image.
func byID(t *testing.T, img v1.Image) image.Identity {
	t.Helper()
	return image.Identity{Config: configOf(t, img)}
}

// byEither is a digest of which nobody knows whether it is a manifest's or a config's.
func byEither(digest v1.Hash) image.Identity { return image.Identity{Manifest: digest, Config: digest} }

// uploaded pushes and records an image as a run does, and moves the tag latest to it.
func uploaded(t *testing.T, v *View, img image.ImageOrIndex) {
	t.Helper()
	compared, err := v.Push(t.Context(), mustPlan(t, v, img), nil)
	if err != nil {
		t.Fatal(err)
	}
	if compared {
		err = recordImage(t, v, img, true)
	}
	if err == nil {
		err = moveLatest(t, v, img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// wantFound compares what a view finds with an image; nil for nothing.
func wantFound(t *testing.T, v *View, id image.Identity, want image.ImageOrIndex, compared bool) {
	t.Helper()
	got, err := v.Find(t.Context(), id)
	switch {
	case err != nil:
		t.Fatal(err)
	case want == nil:
		if got.Image != nil {
			t.Errorf("found %s, want nothing", digestOf(t, got.Image))
		}
	case got.Image == nil:
		t.Errorf("found nothing, want %s", digestOf(t, want))
	case digestOf(t, got.Image) != digestOf(t, want) || got.Compared != compared:
		t.Errorf("found %s, compared %t; want %s, %t", digestOf(t, got.Image), got.Compared, digestOf(t, want), compared)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	older, newest, other := randomImage(t, 100, 2), randomImage(t, 100, 2), randomImage(t, 100, 2)
	nothing := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	s := newServer(t)
	v, _ := s.open(t)
	uploaded(t, v, older)
	uploaded(t, v, newest)
	for name, test := range map[string]struct {
		id       image.Identity
		want     v1.Image
		requests map[string]int
	}{
		"digest":             {image.Identity{Manifest: digestOf(t, older)}, older, map[string]int{"GET": 1}},
		"ID of the latest":   {byID(t, newest), newest, map[string]int{"GET": 2}},
		"ID of another":      {byID(t, older), older, map[string]int{"GET": 3}},
		"unknown ID":         {byID(t, other), nil, map[string]int{"GET": 2}},
		"unknown digest":     {image.Identity{Manifest: digestOf(t, other)}, nil, map[string]int{"GET": 1}},
		"either, a digest":   {byEither(digestOf(t, older)), older, map[string]int{"GET": 1}},
		"either, an ID":      {byEither(configOf(t, newest)), newest, map[string]int{"GET": 3}},
		"either, an old ID":  {byEither(configOf(t, older)), older, map[string]int{"GET": 4}},
		"either, unknown":    {byEither(nothing), nil, map[string]int{"GET": 3}},
		"nothing to look by": {image.Identity{}, nil, map[string]int{}},
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := s.open(t)
			var want image.ImageOrIndex
			if test.want != nil {
				want = test.want
			}
			wantFound(t, v, test.id, want, false)
			wantRequests(t, name, s.log(), test.requests)
			wantFound(t, v, test.id, want, false)
			wantRequests(t, name+", again", s.log(), map[string]int{})
		})
	}
}

// An image that another tool pushed, or that was uploaded with another token, is believed after its layers were read
// and compared. Recorded, it is found as fast as any other from then on.
func TestFindCompares(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, s *server, img v1.Image){
		"another tool's": func(t *testing.T, s *server, img v1.Image) { t.Helper(); s.seed(t, repoPath+":latest", img) },
		"another token's": func(t *testing.T, s *server, img v1.Image) {
			t.Helper()
			v, _ := s.open(t)
			uploaded(t, NewView(v.Repository, []byte("another key"), noProgress), img)
		},
		"without a key": func(t *testing.T, s *server, img v1.Image) {
			t.Helper()
			v, _ := s.open(t)
			uploaded(t, NewView(v.Repository, nil, noProgress), img)
		},
		"named by a record without a proof": func(t *testing.T, s *server, img v1.Image) {
			t.Helper()
			s.seed(t, repoPath+":some", img)
			v, _ := s.open(t)
			if err := recordImage(t, v, img, false, configOf(t, img)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			img := randomImage(t, 100, 3)
			prepare(t, s, img)
			v, _ := s.open(t)
			var read atomic.Int64
			v.progress = func(_ string, total int64) (func(int64), func()) {
				read.Add(-total)
				return func(n int64) { read.Add(n) }, func() {}
			}
			wantFound(t, v, byID(t, img), img, true)
			if read.Load() != 0 {
				t.Errorf("progress is off by %d bytes", read.Load())
			}
			if n := count(s.log(), "P"); n > 0 {
				t.Errorf("%d writes", n)
			}
			if err := recordImage(t, v, img, true); err != nil {
				t.Fatal(err)
			}
			next, _ := s.open(t)
			wantFound(t, next, byID(t, img), img, false)
			if requests := s.log(); len(requests) > 3 {
				t.Errorf("%q, want at most three requests", requests)
			}
		})
	}
}

// tampered is an image whose manifest was changed after it was made.
type tampered struct {
	v1.Image
	manifest *v1.Manifest
}

// Manifest returns the changed manifest.
func (i tampered) Manifest() (*v1.Manifest, error) { return i.manifest, nil }

// RawManifest returns the changed manifest as JSON.
func (i tampered) RawManifest() ([]byte, error) { return jsonOf(i.manifest), nil }

// Digest returns the digest of the changed manifest.
func (i tampered) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(jsonOf(i.manifest)))
	return h, err
}

// Size returns the size of the changed manifest.
func (i tampered) Size() (int64, error) { return int64(len(jsonOf(i.manifest))), nil }

// MediaType returns that of the changed manifest.
func (i tampered) MediaType() (types.MediaType, error) { return i.manifest.MediaType, nil }

// tamper returns an image whose manifest is changed, and nothing else.
func tamper(t *testing.T, img v1.Image, change func(*v1.Manifest)) v1.Image {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m = m.DeepCopy()
	change(m)
	return tampered{img, m}
}

// withLayers is an image with the config of img and other layers.
func withLayers(t *testing.T, img v1.Image, layers ...v1.Layer) v1.Image {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := mutate.ConfigFile(mustAppend(t, layers...), config)
	if err != nil {
		t.Fatal(err)
	}
	return forged
}

// TestFindDistrusts: whoever may push can tag an image latest that has the config that is looked for.
func TestFindDistrusts(t *testing.T) {
	t.Parallel()
	img, foreign := randomImage(t, 100, 2), randomImage(t, 100, 2)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	others, err := foreign.Layers()
	if err != nil {
		t.Fatal(err)
	}
	const encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
	for name, forged := range map[string]v1.Image{
		"other layers":     withLayers(t, img, others...),
		"one other layer":  withLayers(t, img, layers[0], others[1]),
		"too few":          withLayers(t, img, layers[0]),
		"too many":         withLayers(t, img, layers[0], layers[1], layers[1]),
		"in another order": withLayers(t, img, layers[1], layers[0]),
		"read elsewhere":   tamper(t, img, func(m *v1.Manifest) { m.Layers[0].URLs = []string{"https://example.com/layer"} }),
		"read in part": tamper(t, img, func(m *v1.Manifest) {
			m.Layers[1].Annotations = map[string]string{"io.github.containers.zstd-chunked.manifest-checksum": "x"}
		}),
		"embedded":             tamper(t, img, func(m *v1.Manifest) { m.Layers[1].Data = []byte("x") }),
		"config embedded":      tamper(t, img, func(m *v1.Manifest) { m.Config.Data = []byte("x") }),
		"of an unknown type":   tamper(t, img, func(m *v1.Manifest) { m.Layers[0].MediaType = encrypted }),
		"labelled as unpacked": tamper(t, img, func(m *v1.Manifest) { m.Layers[0].MediaType = types.OCIUncompressedLayer }),
		// Docker, containerd or both don't pull these.
		"config of a plugin": tamper(t, img, func(m *v1.Manifest) {
			m.Config.MediaType = "application/vnd.docker.plugin.v1+json"
		}),
		"another size":               tamper(t, img, func(m *v1.Manifest) { m.Layers[0].Size++ }),
		"less":                       tamper(t, img, func(m *v1.Manifest) { m.Layers[1].Size-- }),
		"another size of the config": tamper(t, img, func(m *v1.Manifest) { m.Config.Size++ }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.seed(t, repoPath+":latest", forged)
			for _, id := range []image.Identity{byID(t, img), byEither(configOf(t, img))} {
				v, _ := s.open(t)
				wantFound(t, v, id, nil, false)
			}
		})
	}
}

// TestFindDistrustsCompression: a runtime may go by a layer's type, and not every one knows every compression.
func TestFindDistrustsCompression(t *testing.T) {
	t.Parallel()
	const content = "hello"
	// printf hello | bzip2 | xxd -i
	const bzipped = "BZh91AY&SY\x19\x31\x65\x3d\x00\x00\x00\x81\x00\x02\x44\xa0\x00\x21\x9a\x68\x33\x4d\x07\x33" +
		"\x8b\xb9\x22\x9c\x28\x48\x0c\x98\xb2\x9e\x80"
	diffID, _, err := v1.SHA256(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	compressed := func(w io.WriteCloser, b *bytes.Buffer) []byte {
		_, err := io.WriteString(w, content)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var gz, zst bytes.Buffer
	zstdWriter, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	gzipped, zstandard := compressed(gzip.NewWriter(&gz), &gz), compressed(zstdWriter, &zst)
	for name, test := range map[string]struct {
		blob      []byte
		mediaType types.MediaType
		found     bool
	}{
		"gzip":                  {gzipped, types.OCILayer, true},
		"gzip, Docker's":        {gzipped, types.DockerLayer, true},
		"zstd":                  {zstandard, types.OCILayerZStd, true},
		"zstd, labelled gzip":   {zstandard, types.OCILayer, false},
		"gzip, labelled zstd":   {gzipped, types.OCILayerZStd, false},
		"bzip2, labelled gzip":  {[]byte(bzipped), types.OCILayer, false},
		"nothing":               {nil, types.OCILayer, false},
		"gzip and more":         {append(slices.Clone(gzipped), "more"...), types.OCILayer, false},
		"gzip, and gzip's end":  {append(slices.Clone(gzipped), gzipped[:2]...), types.OCILayer, false},
		"gzip, twice the layer": {append(slices.Clone(gzipped), gzipped...), types.OCILayer, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := mustAppend(t, static.NewLayer(test.blob, test.mediaType))
			config, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			config = config.DeepCopy()
			config.RootFS.DiffIDs = []v1.Hash{diffID}
			if img, err = mutate.ConfigFile(img, config); err != nil {
				t.Fatal(err)
			}
			s := newServer(t)
			s.seed(t, repoPath+":latest", img)
			v, _ := s.open(t)
			v.decompress = new(compression.Bounds).Decompress
			var want image.ImageOrIndex
			if test.found {
				want = img
			}
			wantFound(t, v, byID(t, img), want, test.found)
		})
	}
}

// TestFindDistrustsForms: engines don't run an image whose manifest says that it is something else. Distribution
// doesn't take such a manifest, but other registries may.
func TestFindDistrustsForms(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 2)
	for name, change := range map[string]func(*v1.Manifest){
		"an index":          func(m *v1.Manifest) { m.MediaType = types.OCIImageIndex },
		"without a type":    func(m *v1.Manifest) { m.MediaType = "" },
		"schema version 1":  func(m *v1.Manifest) { m.SchemaVersion = 1 },
		"no schema version": func(m *v1.Manifest) { m.SchemaVersion = 0 },
		"as it should be":   func(*v1.Manifest) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.seed(t, repoPath+":some", img)
			raw, err := tamper(t, img, change).RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/manifests/latest") {
					return false
				}
				w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
				_, _ = w.Write(raw)
				return true
			})
			v, _ := s.open(t)
			found, err := v.Find(t.Context(), byID(t, img))
			if want := name == "as it should be"; err != nil || (found.Image != nil) != want {
				t.Errorf("found %v, %v; want an image: %t", found.Image, err, want)
			}
		})
	}
}

// TestFindDistrustsManifestAsConfig: a digest that is looked for may be a manifest's that the repository lacks. Its
// bytes are a blob that anyone can push, and an image with that blob as its config and without layers has nothing to
// compare.
func TestFindDistrustsManifestAsConfig(t *testing.T) {
	t.Parallel()
	wanted := randomImage(t, 100, 1)
	raw, err := wanted.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	forged := asConfig{tamper(t, empty.Image, func(m *v1.Manifest) {
		m.Config.Digest, m.Config.Size = digestOf(t, wanted), int64(len(raw))
	}), raw}
	s := newServer(t)
	s.seed(t, repoPath+":latest", forged)
	v, _ := s.open(t)
	wantFound(t, v, byEither(digestOf(t, wanted)), nil, false)
}

// asConfig is an image with any bytes for a config.
type asConfig struct {
	v1.Image
	config []byte
}

// RawConfigFile returns the bytes that the test passes off as a config.
func (i asConfig) RawConfigFile() ([]byte, error) { return i.config, nil }

// ConfigName returns the digest of these bytes.
func (i asConfig) ConfigName() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(i.config))
	return h, err
}

// TestFindDistrustsProofs: a proof is for one token, repository, source and manifest.
func TestFindDistrustsProofs(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 2)
	others, err := randomImage(t, 100, 2).Layers()
	if err != nil {
		t.Fatal(err)
	}
	forged := withLayers(t, img, others...)
	honest := prover{aTokensKey, repoPath}
	source, remote := configOf(t, img), digestOf(t, forged)
	by := func(key []byte, path string) string {
		return prover{key, path}.proof(layersKind, source, remote, v1.Hash{})
	}
	for name, test := range map[string]struct {
		proof string
		found bool
	}{
		"this very statement":       {honest.proof(layersKind, source, remote, v1.Hash{}), true},
		"among others":              {"00," + honest.proof(layersKind, source, remote, v1.Hash{}) + ",11", true},
		"the fourth":                {"1,2,3," + honest.proof(layersKind, source, remote, v1.Hash{}), true},
		"the fifth":                 {"1,2,3,4," + honest.proof(layersKind, source, remote, v1.Hash{}), false},
		"none":                      {"", false},
		"text":                      {"verified", false},
		"a part of it":              {honest.proof(layersKind, source, remote, v1.Hash{})[:62], false},
		"another token's":           {by([]byte("another key"), repoPath), false},
		"another charm's":           {by(aTokensKey, "charm/another/my-image"), false},
		"another resource's":        {by(aTokensKey, "charm/abc123/other"), false},
		"of the honest manifest":    {honest.proof(layersKind, source, digestOf(t, img), v1.Hash{}), false},
		"of another source":         {honest.proof(layersKind, digestOf(t, img), remote, v1.Hash{}), false},
		"of a key":                  {honest.proof(keyKind, source, remote, v1.Hash{}), false},
		"of a record with a source": {honest.proof(layersKind, source, remote, source), false},
		"of a key and its source":   {honest.proof(keyKind, source, remote, source), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.seed(t, repoPath+":latest", forged)
			annotations := map[string]string{
				imageAnnotation: remote.String(), proofsAnnotation: test.proof,
				"com.github.charmhub-actions.upload-resource.verified": remote.String(),
			}
			v, _ := s.open(t)
			record, err := newRecord(v.name.Digest(remote.String()), annotations)
			if err != nil {
				t.Fatal(err)
			}
			s.seed(t, repoPath+":"+recordTag(source), record)
			var want image.ImageOrIndex
			if test.found { // only a holder of the token can make such a proof
				want = forged
			}
			wantFound(t, v, byID(t, img), want, false)
			if learned := v.Layers(t.Context()); (len(learned) > 0) != test.found {
				t.Errorf("learned %d layers", len(learned))
			}
			keyless := NewView(v.Repository, nil, noProgress)
			wantFound(t, keyless, byID(t, img), nil, false)
		})
	}
}

// A record that names another image, or nothing that can be read, is ignored.
func TestFindIgnoresRecords(t *testing.T) {
	t.Parallel()
	img, other := randomImage(t, 100, 1), randomImage(t, 100, 1)
	naming := func(digest string) func(host string) v1.Image {
		return func(host string) v1.Image {
			ref, err := name.NewDigest(host + "/" + repoPath + "@" + digestOf(t, img).String())
			if err != nil {
				t.Fatal(err)
			}
			record, err := newRecord(ref, map[string]string{imageAnnotation: digest})
			if err != nil {
				t.Fatal(err)
			}
			return record
		}
	}
	as := func(img v1.Image) func(string) v1.Image { return func(string) v1.Image { return img } }
	for name, record := range map[string]func(host string) v1.Image{
		"another image":     naming(digestOf(t, other).String()),
		"nothing":           naming(configOf(t, img).String()),
		"a layer":           naming(layerOf(t, other).String()),
		"a tag":             naming("latest"),
		"half a digest":     naming("sha256:" + strings.Repeat("a", 63)),
		"without a word":    as(empty.Image),
		"the image it's of": as(img),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.seed(t, repoPath+":other", other)
			s.seed(t, repoPath+":there", img)
			s.seed(t, repoPath+":"+recordTag(configOf(t, img)), record(s.host()))
			v, _ := s.open(t)
			wantFound(t, v, byID(t, img), nil, false)
			if n := len(s.log()); n > 3 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// Hints that can't be read are none.
func TestFindWithRefusedHints(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":some", img)
	for _, status := range []int{401, 403, 404, 500} {
		s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			hint := strings.HasSuffix(r.URL.Path, ".imgpkg") || strings.HasSuffix(r.URL.Path, "/latest")
			return hint && answer(w, status, "DENIED")
		})
		v, _ := s.open(t)
		wantFound(t, v, byEither(digestOf(t, img)), img, false)
		wantFound(t, v, byID(t, img), nil, false)
		v.Layers(t.Context())
		if n := count(s.log(), "GET"); n != 3 {
			t.Errorf("%d: %d requests, want one for each of digest, record and tag", status, n)
		}
	}
}

// TestFindSaysWhatItCouldNotRead: a tag and a record that the registry fails to give may have led to the image. What it
// refuses leads nowhere, also the next time.
func TestFindSaysWhatItCouldNotRead(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	for status, unread := range map[int]bool{
		200: false, 401: false, 403: false, 404: false, 429: true, 500: true, 503: true,
	} {
		for _, hint := range []string{"/manifests/latest", ".imgpkg"} {
			s := newServer(t)
			s.seed(t, repoPath+":some", img)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				return status != 200 && strings.HasSuffix(r.URL.Path, hint) && answer(w, status, "UNAVAILABLE")
			})
			v, _ := s.open(t)
			got, err := v.Find(t.Context(), byID(t, img))
			if err != nil || got.Image != nil || (got.Unread != nil) != unread {
				t.Errorf("%s, %d: %+v, %v", hint, status, got, err)
			}
			if unread && !strings.Contains(got.Unread.Error(), "UNAVAILABLE") {
				t.Errorf("%s, %d: %v", hint, status, got.Unread)
			}
		}
	}
}

// TestFindByWhatTheRegistryCannotSay: distribution 2 answers 500 if it is asked for a blob as a manifest. The same
// answer for what isn't a blob either is a failure.
func TestFindByWhatTheRegistryCannotSay(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	for name, test := range map[string]struct {
		status      int
		blob, fails bool
	}{
		"a blob": {http.StatusInternalServerError, true, false},
		"down":   {http.StatusInternalServerError, false, true},
		"denied": {http.StatusForbidden, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if test.blob {
				s.seed(t, repoPath+":latest", img)
			}
			v, _ := s.open(t)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, "/manifests/"+configOf(t, img).String()) && answer(w, test.status, "UNKNOWN")
			})
			got, err := v.Find(t.Context(), byEither(configOf(t, img)))
			if (err != nil) != test.fails || (got.Image != nil) == test.fails {
				t.Errorf("Find = %+v, %v", got, err)
			}
		})
	}
}

// TestFindAsksAgain: a failure in passing says nothing of the digest.
func TestFindAsksAgain(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(w http.ResponseWriter){
		"too many requests": func(w http.ResponseWriter) { answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS") },
		"a gateway":         func(w http.ResponseWriter) { answer(w, http.StatusServiceUnavailable, "UNAVAILABLE") },
		"a failure":         func(w http.ResponseWriter) { answer(w, http.StatusInternalServerError, "UNKNOWN") },
		"a break": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("{"))
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			img := randomImage(t, 100, 1)
			s.seed(t, repoPath+":some", img)
			v, _ := s.open(t)
			var asked atomic.Int64
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				first := strings.HasSuffix(r.URL.Path, "/manifests/"+digestOf(t, img).String()) && asked.Add(1) == 1
				if first {
					fail(w)
				}
				return first
			})
			wantFound(t, v, byEither(digestOf(t, img)), img, false)
		})
	}
}

// listing is an index of images for amd64, arm64 and so on.
func listing(images ...v1.Image) v1.ImageIndex {
	var index v1.ImageIndex = empty.Index
	for i, img := range images {
		platform := &v1.Platform{OS: "linux", Architecture: []string{"amd64", "arm64", "s390x"}[i]}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return index
}

// TestFindByImages: an index that offers the same images to run is found by the tag latest, and by the record of its
// first image; the digest itself is asked for first.
func TestFindByImages(t *testing.T) {
	t.Parallel()
	a, b := randomImage(t, 100, 1), randomImage(t, 100, 1)
	annotation := map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	attached := func(index v1.ImageIndex, platform v1.Platform) v1.ImageIndex {
		return mutate.AppendManifests(index, mutate.IndexAddendum{Add: randomImage(t, 10, 1), Descriptor: v1.Descriptor{
			Platform: &platform, Annotations: annotation,
		}})
	}
	attested := func(index v1.ImageIndex) v1.ImageIndex {
		return attached(index, v1.Platform{OS: "unknown", Architecture: "unknown"})
	}
	forged := func(architecture string) v1.ImageIndex {
		return attached(listing(a, b), v1.Platform{OS: "linux", Architecture: architecture})
	}
	built := attested(listing(a, b))
	for name, test := range map[string]struct {
		held             v1.ImageIndex
		latest, recorded bool
		found            bool
		requests         int
	}{
		"the same":            {built, true, true, true, 1},
		"rebuilt, the latest": {attested(listing(a, b)), true, false, true, 3},
		"rebuilt, recorded":   {attested(listing(a, b)), false, true, true, 4},
		"without a hint":      {attested(listing(a, b)), false, false, false, 3},
		"fewer images":        {attested(listing(a)), true, true, false, 3},
		"other platforms":     {attested(listing(b, a)), true, false, false, 3},
		// A runtime for that platform would take the foreign image, whatever its annotation says.
		"an image that claims to be an attestation": {forged("s390x"), true, true, false, 3},
		"an image before it for the same platform":  {forged("amd64"), true, true, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			v, _ := s.open(t)
			mustPush(t, v, test.held)
			if test.latest {
				if err := moveLatest(t, v, test.held); err != nil {
					t.Fatal(err)
				}
			}
			if test.recorded {
				if err := recordImage(t, v, test.held, false, digestOf(t, a)); err != nil {
					t.Fatal(err)
				}
			}
			raw, err := built.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			var want image.ImageOrIndex
			if test.found {
				want = test.held
			}
			for _, digest := range []v1.Hash{digestOf(t, built), {}} {
				v, _ := s.open(t)
				wantFound(t, v, image.Identity{Manifest: digest, Images: image.RunnableImages(raw)}, want, false)
				if requests := s.log(); digest != (v1.Hash{}) && len(requests) > test.requests {
					t.Errorf("%d requests %q, want at most %d", len(requests), requests, test.requests)
				}
			}
		})
	}
}

// The config of an image in an index is another thing than the index.
func TestFindNoIndexByAConfig(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 100, 1)
	uploaded(t, v, listing(img))
	wantFound(t, v.again(), byID(t, img), nil, false)
}

// TestFindAsksOnce: however many images of one run are looked for at once, each question is asked once.
func TestFindAsksOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 100, 1)
	uploaded(t, v, img)
	s.log()
	v = v.again()
	var g sync.WaitGroup
	for range 10 {
		g.Go(func() {
			if found, err := v.Find(t.Context(), byID(t, img)); err != nil || found.Image == nil {
				t.Errorf("Find = %+v, %v", found, err)
			}
			v.Layers(t.Context())
		})
	}
	g.Wait()
	// latest, its record; its config; its layer.
	wantRequests(t, "ten times at once", s.log(), map[string]int{"GET": 3, "HEAD": 1})
}

// TestFindSaysWhyItUsesNoImage: other layers than the config's are a reason to worry. What can't be read or compared
// isn't, and a registry that fails may have the image.
func TestFindSaysWhyItUsesNoImage(t *testing.T) {
	t.Parallel()
	img, other := randomImage(t, 100, 1), randomImage(t, 100, 1)
	cut := []byte("\x1f\x8b cut off")
	whole, err := layersIn(t, other)[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := io.ReadAll(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		img    v1.Image
		status int // of the answer for a layer
		level  zapcore.Level
		unread bool
	}{
		"other layers":   {img: withLayers(t, img, layersIn(t, other)...), level: zap.WarnLevel},
		"another size":   {img: tamper(t, img, func(m *v1.Manifest) { m.Layers[0].Size++ }), level: zap.WarnLevel},
		"embedded":       {img: tamper(t, img, func(m *v1.Manifest) { m.Layers[0].Data = []byte("x") })},
		"no compression": {img: withLayers(t, img, static.NewLayer([]byte("plain"), types.DockerLayer))},
		"no header":      {img: withLayers(t, img, static.NewLayer(cut, types.DockerLayer))},
		"no end":         {img: withLayers(t, img, static.NewLayer(blob[:len(blob)-1], types.DockerLayer))},
		"a layer gone":   {img: img, status: http.StatusNotFound},
		"a failure":      {img: img, status: http.StatusServiceUnavailable, unread: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.seed(t, repoPath+":latest", test.img)
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				isLayer := strings.HasSuffix(r.URL.Path, "/blobs/"+layerOf(t, test.img).String())
				return isLayer && test.status != 0 && answer(w, test.status, "UNKNOWN")
			})
			v, _ := s.open(t)
			core, logs := observer.New(zap.InfoLevel)
			v.log = zap.New(core)
			found, err := v.Find(t.Context(), byID(t, img))
			if err != nil || found.Image != nil || (found.Unread != nil) != test.unread {
				t.Errorf("Find = %+v, %v", found, err)
			}
			isReason := func(e observer.LoggedEntry) bool { return strings.Contains(e.Message, "it isn't used") }
			if reasons := logs.Filter(isReason).All(); len(reasons) != 1 || reasons[0].Level != test.level {
				t.Errorf("logged %+v, want one reason at level %s", reasons, test.level)
			}
		})
	}
}

// TestFindRefusesSchema1: an image of a form that is no longer read is there, but of no use.
func TestFindRefusesSchema1(t *testing.T) {
	t.Parallel()
	const manifest = `{"schemaVersion":1}`
	digest, _, err := v1.SHA256(strings.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	v, _ := s.open(t)
	s.spoil(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", string(types.DockerManifestSchema1))
		_, _ = io.WriteString(w, manifest)
		return true
	})
	if found, err := v.Find(t.Context(), image.Identity{Manifest: digest}); err == nil || found.Image != nil {
		t.Errorf("Find = %+v, %v", found, err)
	}
}

// An image that proves not to be the one doesn't hide the other candidate.
func TestFindComparesEachCandidate(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	layers, err := randomImage(t, 100, 1).Layers()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	s.seed(t, repoPath+":latest", withLayers(t, img, layers...))
	s.seed(t, repoPath+":some", img)
	v, _ := s.open(t)
	if err := recordImage(t, v, img, false, configOf(t, img)); err != nil {
		t.Fatal(err)
	}
	wantFound(t, v.again(), byID(t, img), img, true)
}

// TestFindSaysThatANamedManifestCouldNotBeRead: a record leads to a manifest that the registry fails to give.
func TestFindSaysThatANamedManifestCouldNotBeRead(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	s := newServer(t)
	v, _ := s.open(t)
	mustPush(t, v, img)
	if err := recordImage(t, v, img, true); err != nil {
		t.Fatal(err)
	}
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		isImage := strings.HasSuffix(r.URL.Path, "/manifests/"+digestOf(t, img).String())
		return isImage && answer(w, http.StatusServiceUnavailable, "UNAVAILABLE")
	})
	if found, err := v.again().Find(t.Context(), byID(t, img)); err != nil || found.Image != nil || found.Unread == nil {
		t.Errorf("Find = %+v, %v", found, err)
	}
	s.spoil(nil)
	if found, err := v.again().Find(t.Context(), byID(t, randomImage(t, 100, 1))); err != nil || found.Unread != nil {
		t.Errorf("Find = %+v, %v", found, err)
	}
}

// TestViewForgetsStoppedQuestions: a question whose asker was stopped is asked again.
func TestViewForgetsStoppedQuestions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 100, 1)
	uploaded(t, v, img)
	v = v.again()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if d := v.latest(stopped); d != nil {
		t.Errorf("latest is %+v", d)
	}
	if rec := v.record(stopped, configOf(t, img)); rec.image != (v1.Hash{}) {
		t.Errorf("the record says %+v", rec)
	}
	wantFound(t, v, byID(t, img), img, false)
	if d := v.latest(t.Context()); d == nil || d.Digest != digestOf(t, img) {
		t.Errorf("latest is %+v", d)
	}
	if diffIDs, err := v.readDiffIDs(t.Context(), v1.Descriptor{Digest: aSource, Size: 3}); err == nil {
		t.Errorf("diff IDs of a config that isn't there: %v", diffIDs)
	}
}

// A run that is stopped says so, and nothing else.
func TestFindStopped(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", img)
	ctx, cancel := context.WithCancelCause(t.Context())
	s.spoil(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/"+layerOf(t, img).String()) {
			cancel(context.DeadlineExceeded)
			<-r.Context().Done()
			return true
		}
		return false
	})
	if found, err := v.Find(ctx, byID(t, img)); err == nil || found.Image != nil {
		t.Errorf("Find = %+v, %v", found, err)
	}
}

// TestFindWithoutABlob: a manifest counts without its blobs, if it is found by its digest or a record. If its layers
// have to be compared, one that is missing rules the image out.
func TestFindWithoutABlob(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 2)
	for recorded, want := range map[bool]image.ImageOrIndex{true: img, false: nil} {
		t.Run(fmt.Sprintf("recorded %t", recorded), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			v, _ := s.open(t)
			s.seed(t, repoPath+":latest", img)
			if recorded {
				if err := recordImage(t, v, img, true); err != nil {
					t.Fatal(err)
				}
			}
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				isLayer := strings.HasSuffix(r.URL.Path, "/blobs/"+layerOf(t, img).String())
				return isLayer && answer(w, http.StatusNotFound, "BLOB_UNKNOWN")
			})
			wantFound(t, v.again(), byID(t, img), want, false)
			wantFound(t, v.again(), image.Identity{Manifest: digestOf(t, img)}, img, false)
		})
	}
}

// TestUncompressedLayersAreTheirOwnProof: charmcraft 4 leaves layers whose digest is their diff ID. Their size is
// asked for, they aren't read.
func TestUncompressedLayersAreTheirOwnProof(t *testing.T) {
	t.Parallel()
	img := mustAppend(t, static.NewLayer([]byte("plain"), types.DockerLayer)) // a static layer is its own diff ID
	s := newServer(t)
	s.seed(t, repoPath+":latest", img)
	v, _ := s.open(t)
	wantFound(t, v, byID(t, img), img, true)
	if requests := s.log(); slices.Contains(requests, "GET /v2/"+repoPath+"/blobs/"+layerOf(t, img).String()) {
		t.Errorf("the layer was read: %q", requests)
	}
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		isLayer := strings.HasSuffix(r.URL.Path, "/blobs/"+layerOf(t, img).String())
		return isLayer && answer(w, http.StatusNotFound, "BLOB_UNKNOWN")
	})
	wantFound(t, v.again(), byID(t, img), nil, false)
	s.spoil(nil)
	s.seed(t, repoPath+":latest", tamper(t, img, func(m *v1.Manifest) { m.Layers[0].Size++ }))
	wantFound(t, v.again(), byID(t, img), nil, false)
}

func TestProofs(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]string{
		"without a key":  prover{repository: repoPath}.proof(layersKind, aKey, aSource, v1.Hash{}),
		"without a kind": prover{aTokensKey, repoPath}.proof("", aKey, aSource, v1.Hash{}),
	} {
		if p != "" {
			t.Errorf("a proof %s: %s", name, p)
		}
	}
	long := func(c string) string { return strings.Repeat(c, 64) }
	for want, given := range map[string][]string{
		long("a"):                   nil,
		long("a") + "," + long("b"): {long("b")},
		long("a") + "," + long("b") + "," + long("c"):                   {long("b"), long("a"), "forged", long("c")},
		long("a") + "," + long("b") + "," + long("c") + "," + long("d"): {long("b"), long("c"), long("d"), long("e")},
	} {
		if got := formatProofs(long("a"), given); got != want {
			t.Errorf("with %q: %s, want %s", given, got, want)
		}
	}
	if diff := cmp.Diff([]string{"1", "2", "3", "4"}, parseProofs("1,2,3,4,5")); diff != "" {
		t.Errorf("parsed (-want +got):\n%s", diff)
	}
}

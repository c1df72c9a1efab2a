package registry

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/pkg/image"
)

func configOf(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// identityOf is what an engine knows of an image.
func identityOf(t *testing.T, img v1.Image) Identity {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return Identity{Digest: configOf(t, img), DiffIDs: config.RootFS.DiffIDs}
}

// What an image was found by.
const (
	byDigest = "digest"
	byRecord = "record"
	byLatest = "latest"
)

// foundBy tells that by the hints, "" for nothing found.
func foundBy(t *testing.T, f Found) string {
	t.Helper()
	if f.Image == nil {
		return ""
	}
	digest := digestOf(t, f.Image)
	if f.Hints.latest != nil && f.Hints.latest.Digest == digest {
		return byLatest
	}
	for _, said := range f.Hints.records {
		if slices.Contains(said.images, digest) {
			return byRecord
		}
	}
	return byDigest
}

// recordOf is a locations record with that file.
func recordOf(t *testing.T, content string) v1.Image {
	t.Helper()
	l, err := newTar([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return mustAppend(t, l)
}

func TestLocate(t *testing.T) {
	s := newServer(t)
	img, other, newest := randomImage(t, 100, 1), randomImage(t, 100, 1), randomImage(t, 100, 1)
	s.seed(t, repoPath+":some", img)
	s.seed(t, repoPath+":latest", newest)
	r, _ := s.open(t)
	if err := r.Record(t.Context(), img, false, Hints{}, configOf(t, img)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		id       Identity
		by       string
		digest   v1.Hash
		requests int
	}{
		"config of the latest": {identityOf(t, newest), byLatest, digestOf(t, newest), 2},
		"digest of the latest": {Identity{Digest: digestOf(t, newest)}, byDigest, digestOf(t, newest), 1},
		"config in a record":   {identityOf(t, img), byRecord, digestOf(t, img), 4},
		"digest of any":        {Identity{Digest: digestOf(t, img)}, byDigest, digestOf(t, img), 1},
		"ID of the latest":     {Identity{Digest: configOf(t, newest)}, byLatest, digestOf(t, newest), 4},
		"ID in a record":       {Identity{Digest: configOf(t, img)}, byRecord, digestOf(t, img), 6},
		// Also the record of latest, which Layers needs.
		"config of an unknown":  {identityOf(t, other), "", v1.Hash{}, 6},
		"digest of an unknown":  {Identity{Digest: digestOf(t, other)}, "", v1.Hash{}, 3},
		"config, not a layer's": {Identity{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}}, "", v1.Hash{}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := s.open(t)
			got, err := r.Locate(t.Context(), test.id, Hints{})
			if err != nil || foundBy(t, got) != test.by {
				t.Fatalf("Locate = %+v, %v; want it by %q", got, err, test.by)
			}
			if got.Image != nil && digestOf(t, got.Image) != test.digest {
				t.Errorf("located %s, want %s", digestOf(t, got.Image), test.digest)
			}
			if requests := s.log(); len(requests) > test.requests {
				t.Errorf("%d requests %q, want at most %d", len(requests), requests, test.requests)
			}
		})
	}
}

func TestLocateDistrustsRecords(t *testing.T) {
	img, other := randomImage(t, 100, 1), randomImage(t, 100, 1)
	naming := func(repo, identifier string) func(host string) v1.Image {
		return func(host string) v1.Image { return recordOf(t, yamlOf(host+"/"+repo+identifier)) }
	}
	as := func(img v1.Image) func(string) v1.Image { return func(string) v1.Image { return img } }
	// The image is there, so that following a record that is to be ignored would find it.
	long := func(host string) v1.Image {
		named := yamlOf(host + "/" + repoPath + "@" + digestOf(t, img).String())
		return recordOf(t, named+strings.Repeat("# more\n", 10<<20/7))
	}
	for name, record := range map[string]func(host string) v1.Image{
		"another image":     naming(repoPath, "@"+digestOf(t, other).String()),
		"nothing":           naming(repoPath, "@"+configOf(t, img).String()),
		"other repository":  naming("charm/foreign/image", "@"+digestOf(t, img).String()),
		"a layer":           naming(repoPath, "@"+layerOf(t, other).String()),
		"a tag":             naming(repoPath, ":other"),
		"no images":         as(recordOf(t, "apiVersion: "+recordAPIVersion+"\nkind: "+recordKind+"\n")),
		"another kind":      as(recordOf(t, "apiVersion: v1\nkind: Pod\n")),
		"bad YAML":          as(recordOf(t, "{{{{")),
		"an empty file":     as(recordOf(t, "")),
		"10 MB of YAML":     long,
		"not a tar":         as(mustAppend(t, static.NewLayer(bytes.Repeat([]byte("?"), 600), types.DockerLayer))),
		"not its type":      as(mustAppend(t, static.NewLayer([]byte("x"), types.OCILayer))),
		"large layer":       as(mustAppend(t, static.NewLayer(make([]byte, 10<<20), types.DockerLayer))),
		"no layer":          as(empty.Image),
		"two layers":        as(randomImage(t, 10, 2)),
		"the image it's of": as(img),
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.seed(t, repoPath+":other", other)
			s.seed(t, repoPath+":there", img)
			s.seed(t, "charm/foreign/image:latest", img)
			s.seed(t, repoPath+":"+recordTag(configOf(t, img)), record(s.host()))
			r, _ := s.open(t)
			got, err := r.Locate(t.Context(), identityOf(t, img), Hints{})
			if got.Image != nil || err != nil {
				t.Errorf("Locate = %+v, %v; want nothing", got, err)
			}
			if n := len(s.log()); n > 5 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func layerOf(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return digestOf(t, layers[0])
}

func TestLocateWithRefusedHints(t *testing.T) {
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":some", img)
	for _, status := range []int{401, 403, 404, 500} {
		s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			hint := strings.HasSuffix(r.URL.Path, ".imgpkg") || strings.HasSuffix(r.URL.Path, "/latest")
			return hint && answer(w, status, "DENIED")
		})
		r, _ := s.open(t)
		if got, err := r.Locate(t.Context(), Identity{Digest: digestOf(t, img)}, Hints{}); err != nil || foundBy(t, got) != byDigest {
			t.Errorf("%d: Locate = %+v, %v", status, got, err)
		}
		if got, err := r.Locate(t.Context(), identityOf(t, img), Hints{}); err != nil || got.Image != nil {
			t.Errorf("%d: by its config: %+v, %v; want unknown", status, got, err)
		}
	}
}

func TestLocateIndex(t *testing.T) {
	s := newServer(t)
	r, _ := s.open(t)
	img := randomImage(t, 100, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	mustPush(t, r, index)
	if err := r.MoveLatest(t.Context(), index, Hints{}); err != nil {
		t.Fatal(err)
	}
	r, _ = s.open(t)
	got, err := r.Locate(t.Context(), Identity{Digest: digestOf(t, index)}, Hints{})
	if err != nil || foundBy(t, got) != byDigest {
		t.Fatalf("Locate = %+v, %v", got, err)
	}
	if read, ok := got.Image.(v1.ImageIndex); !ok || digestOf(t, read) != digestOf(t, index) {
		t.Errorf("an index was found as a %T", got.Image)
	}
	// A config inside of an index is another thing than the index.
	if got, err := r.Locate(t.Context(), identityOf(t, img), Hints{}); got.Image != nil || err != nil {
		t.Errorf("located %+v by a child's config", got)
	}
}

// A record may name many images; each of the first is tried.
func TestLocateTriesWhatARecordNames(t *testing.T) {
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":there", img)
	for _, before := range []int{1, maxNamed - 1, maxNamed} {
		content := yamlOf(s.host() + "/charm/foreign/image@" + digestOf(t, img).String())
		var entries string
		for range before {
			entries += "- image: " + s.host() + "/" + repoPath + "@" + digestOf(t, randomImage(t, 10, 1)).String() + "\n"
		}
		entries += "- image: " + s.host() + "/" + repoPath + "@" + digestOf(t, img).String() + "\n"
		content = strings.Replace(content, "kind:", entries+"kind:", 1)
		s.seed(t, repoPath+":"+recordTag(configOf(t, img)), recordOf(t, content))
		r, _ := s.open(t)
		got, err := r.Locate(t.Context(), identityOf(t, img), Hints{})
		if want := before < maxNamed; err != nil || (foundBy(t, got) == byRecord) != want {
			t.Errorf("after %d others: Locate = %+v, %v; want it found: %t", before, got, err, want)
		}
	}
}

// A manifest with the config that is looked for and other layers than it lists isn't the image.
func TestLocateCountsLayers(t *testing.T) {
	s := newServer(t)
	img := randomImage(t, 100, 2)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for name, layers := range map[string][]v1.Layer{"too few": layers[:1], "too many": append(slices.Clone(layers), layers...)} {
		t.Run(name, func(t *testing.T) {
			other, err := mutate.ConfigFile(mustAppend(t, layers...), config)
			if err != nil {
				t.Fatal(err)
			}
			s.seed(t, repoPath+":latest", other)
			for _, id := range []Identity{identityOf(t, other), {Digest: configOf(t, other)}} {
				r, _ := s.open(t)
				if got, err := r.Locate(t.Context(), id, Hints{}); got.Image != nil || err != nil {
					t.Errorf("Locate = %+v, %v; want nothing", got, err)
				}
			}
		})
	}
}

// TestLocateByWhatTheRegistryCannotSay: distribution 2 fails when it is asked for a blob as a manifest.
func TestLocateByWhatTheRegistryCannotSay(t *testing.T) {
	img := randomImage(t, 100, 1)
	for status, fails := range map[int]bool{http.StatusInternalServerError: false, http.StatusForbidden: true} {
		s := newServer(t)
		r, _ := s.open(t)
		s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, configOf(t, img).String()) && answer(w, status, "UNKNOWN")
		})
		got, err := r.Locate(t.Context(), identityOf(t, img), Hints{})
		if got.Image != nil || (err != nil) != fails {
			t.Errorf("status %d: Locate = %+v, %v", status, got, err)
		}
	}
}

// TestLocateAsksAgain: a failure in passing says nothing of the digest, and is told from what the registry can't say.
func TestLocateAsksAgain(t *testing.T) {
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":some", img)
	id := Identity{Digest: digestOf(t, img), DiffIDs: identityOf(t, img).DiffIDs}
	for name, fail := range map[string]func(w http.ResponseWriter){
		"too many requests": func(w http.ResponseWriter) { answer(w, http.StatusTooManyRequests, "TOOMANYREQUESTS") },
		"a gateway":         func(w http.ResponseWriter) { answer(w, http.StatusServiceUnavailable, "UNAVAILABLE") },
		"a break": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("{"))
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := s.open(t)
			var asked atomic.Int64
			s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
				first := strings.HasSuffix(r.URL.Path, id.Digest.String()) && asked.Add(1) == 1
				if first {
					fail(w)
				}
				return first
			})
			got, err := r.Locate(t.Context(), id, Hints{})
			if err != nil || foundBy(t, got) != byDigest {
				t.Errorf("Locate = %+v, %v", got, err)
			}
		})
	}
}

// TestLocateByImages: an index that lists the same images to run is found by the tag latest, and by the record of its
// first image; the digest itself is asked for first.
func TestLocateByImages(t *testing.T) {
	a, b := randomImage(t, 100, 1), randomImage(t, 100, 1)
	listing := func(images ...v1.Image) v1.ImageIndex {
		var index v1.ImageIndex = empty.Index
		for i, img := range images {
			platform := &v1.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[i]}
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
		}
		return index
	}
	attested := func(index v1.ImageIndex) v1.ImageIndex {
		return mutate.AppendManifests(index, mutate.IndexAddendum{Add: randomImage(t, 10, 1), Descriptor: v1.Descriptor{
			Platform:    &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"},
		}})
	}
	held := attested(listing(a, b))
	for name, test := range map[string]struct {
		index            v1.ImageIndex
		latest, recorded bool
		by               string
		requests         int
	}{
		"the same":              {held, true, true, byLatest, 1},
		"rebuilt, the latest":   {attested(listing(a, b)), true, false, byLatest, 3},
		"rebuilt, recorded":     {attested(listing(a, b)), false, true, byRecord, 5},
		"rebuilt, without hint": {attested(listing(a, b)), false, false, "", 3},
		"fewer images":          {attested(listing(a)), true, true, "", 4},
		"other platforms":       {attested(listing(b, a)), true, false, "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			r, _ := s.open(t)
			mustPush(t, r, held)
			if test.latest {
				if err := r.MoveLatest(t.Context(), held, Hints{}); err != nil {
					t.Fatal(err)
				}
			}
			if test.recorded {
				recordAs(t, r, digestOf(t, a), digestOf(t, held))
			}
			raw, err := test.index.RawManifest()
			if err != nil {
				t.Fatal(err)
			}
			for _, digest := range []v1.Hash{digestOf(t, test.index), {}} {
				fresh, _ := s.open(t)
				got, err := fresh.Locate(t.Context(), Identity{Digest: digest, Images: image.RunnableImages(raw)}, Hints{})
				want := test.by
				if name == "the same" && digest != (v1.Hash{}) {
					want = byDigest // before anything else was read
				}
				if err != nil || foundBy(t, got) != want {
					t.Errorf("Locate = %+v, %v; want it by %q", got, err, want)
				}
				if got.Image != nil && digestOf(t, got.Image) != digestOf(t, held) {
					t.Errorf("located %s, want %s", digestOf(t, got.Image), digestOf(t, held))
				}
				if requests := s.log(); digest != (v1.Hash{}) && len(requests) > test.requests {
					t.Errorf("%d requests %q, want at most %d", len(requests), requests, test.requests)
				}
			}
		})
	}
}

func yamlOf(image string) string { return string(recordYAML(image)) }

package registry

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

const goldenImage = "registry.jujucharms.com/charm/abc123/my-image@sha256:" +
	"b5fc1d7b2e4ea86a06b0cf88de915a2c43a99a00b6b3c0af731e5f4c07ae8eff"

var goldenDigest, _ = name.NewDigest(goldenImage)

// golden compares with a file in testdata/record.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	testkit.Golden(t, filepath.Join("record", file), string(got))
}

// The record is read by imgpkg and compared by digest: every byte of it counts. What gzip makes of the layer is left
// to the compressor's version.
func TestRecordGolden(t *testing.T) {
	record, err := newRecord(goldenDigest, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := record.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	if _, err := layer.ReadFrom(content); err != nil {
		t.Fatal(err)
	}
	config, err := record.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	m, err := record.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m = m.DeepCopy()
	m.Layers[0].Digest, m.Layers[0].Size = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}, 0
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "layer.tar", layer.Bytes())
	golden(t, "config.json", config)
	golden(t, "manifest.json", manifest)

	source := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	if got, want := recordTag(source), "sha256-"+source.Hex+".image-locations.imgpkg"; got != want {
		t.Errorf("tag %q, want %q", got, want)
	}
	again, err := newRecord(goldenDigest, nil)
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, again) != digestOf(t, record) {
		t.Error("the same record has other bytes")
	}
}

func TestRecordYAML(t *testing.T) {
	golden(t, "image-locations.yml", recordYAML(goldenImage))
}

func TestRecordIsWrittenOnce(t *testing.T) {
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", img)
	source := layerOf(t, img) // any digest will do
	r, _ := s.open(t)
	for _, writes := range []bool{true, false} {
		found, err := r.Locate(t.Context(), Identity{Digest: source}, Hints{})
		if err != nil {
			t.Fatal(err)
		}
		s.log()
		if err := r.Record(t.Context(), img, false, found.Hints, source); err != nil {
			t.Fatal(err)
		}
		if err := r.MoveLatest(t.Context(), img, found.Hints); err != nil {
			t.Fatal(err)
		}
		if got := s.log(); (len(got) > 0) != writes {
			t.Errorf("requests %q", got)
		}
		r, _ = s.open(t)
	}
}

func TestRecordRefused(t *testing.T) {
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", img)
	r, _ := s.open(t)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".imgpkg") && answer(w, 409, "TAG_INVALID")
	})
	err := r.Record(t.Context(), img, false, Hints{}, digestOf(t, img))
	wantError(t, err, "writing the locations record", "TAG_INVALID")
}

func FuzzParseRecord(f *testing.F) {
	repo, err := name.NewRepository("registry.jujucharms.com/charm/abc123/my-image")
	if err != nil {
		f.Fatal(err)
	}
	record, err := newRecord(goldenDigest, nil)
	if err != nil {
		f.Fatal(err)
	}
	layers, err := record.Layers()
	if err != nil {
		f.Fatal(err)
	}
	content, err := layers[0].Compressed()
	if err != nil {
		f.Fatal(err)
	}
	var packed bytes.Buffer
	if _, err := packed.ReadFrom(content); err != nil {
		f.Fatal(err)
	}
	f.Add(packed.Bytes())
	f.Fuzz(func(t *testing.T, packed []byte) {
		named, err := parseRecord(packed, repo)
		if (err == nil) == (len(named) == 0) || len(named) > maxNamed {
			t.Errorf("digests %s, error %v", named, err)
		}
	})
}

// FuzzRecordYAML is behind FuzzParseRecord's compression, where a fuzzer seldom gets.
func FuzzRecordYAML(f *testing.F) {
	repo, err := name.NewRepository("registry.jujucharms.com/charm/abc123/my-image")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(recordYAML(goldenImage))
	f.Add([]byte("a: &a [*a, *a]"))
	f.Fuzz(func(t *testing.T, content []byte) {
		named, err := parseLocations(content, repo)
		if (err == nil) == (len(named) == 0) || len(named) > maxNamed {
			t.Errorf("digests %s, error %v", named, err)
		}
	})
}

// TestRecordOfAliases: whoever can push can write a record; reading it takes little memory, whatever it holds.
func TestRecordOfAliases(t *testing.T) {
	repo, err := name.NewRepository("registry.example/charm/x")
	if err != nil {
		t.Fatal(err)
	}
	digest := "registry.example/charm/x@sha256:" + strings.Repeat("a", 64)
	content := slices.Concat(recordYAML(digest), []byte("x: &x "+strings.Repeat("x", 30_000)+"\ny: ["+strings.Repeat("*x,", 10_000)+"]\n"))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	named, err := parseLocations(content, repo)
	runtime.ReadMemStats(&after)
	if err != nil || len(named) != 1 {
		t.Errorf("%v, %v", named, err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; len(content) > maxRecord || allocated > 16<<20 {
		t.Errorf("%d MB were allocated for %d bytes", allocated>>20, len(content))
	}
}

package registry

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/image"
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
	golden(t, "image-locations.yml", locationsYAML(goldenImage))
}

func TestRecordIsWrittenOnce(t *testing.T) {
	t.Parallel()
	for _, compared := range []bool{true, false} {
		s := newServer(t)
		img := randomImage(t, 100, 1)
		s.seed(t, repoPath+":latest", img)
		for _, writes := range []bool{true, false} {
			v, _ := s.open(t)
			if _, err := v.Find(t.Context(), byID(t, img)); err != nil {
				t.Fatal(err)
			}
			s.log()
			if err := recordImage(t, v, img, compared, configOf(t, img)); err != nil {
				t.Fatal(err)
			}
			if err := moveLatest(t, v, img); err != nil {
				t.Fatal(err)
			}
			if got := s.log(); (len(got) > 0) != writes {
				t.Errorf("compared %t: requests %q", compared, got)
			}
		}
	}
}

// TestRecordKeepsProofs: pipelines with different tokens don't undo each other's records, and the newest four count.
func TestRecordKeepsProofs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", img)
	v, _ := s.open(t)
	as := func(n int) *View { return NewView(v.Repository, fmt.Append(nil, "key ", n), noProgress) }
	for n := range maxProofs + 1 {
		wantFound(t, as(n), byID(t, img), img, true)
		one := as(n)
		if _, err := one.Find(t.Context(), byID(t, img)); err != nil {
			t.Fatal(err)
		}
		if err := recordImage(t, one, img, true); err != nil {
			t.Fatal(err)
		}
	}
	for n := range maxProofs + 1 {
		wantFound(t, as(n), byID(t, img), img, n == 0)
	}
	// A run that can't make a proof leaves those of others.
	keyless := NewView(v.Repository, nil, noProgress)
	keyless.record(t.Context(), configOf(t, img))
	if err := recordImage(t, keyless, img, true); err != nil {
		t.Fatal(err)
	}
	if rec := v.again().record(t.Context(), configOf(t, img)); len(rec.proofs) != maxProofs {
		t.Errorf("without a key, %d proofs are left, want %d", len(rec.proofs), maxProofs)
	}
	// Proofs of another image aren't kept.
	other := randomImage(t, 100, 1)
	mustPush(t, v, other)
	one := as(1)
	one.record(t.Context(), configOf(t, img))
	if err := recordImage(t, one, other, true, configOf(t, img)); err != nil {
		t.Fatal(err)
	}
	if rec := v.again().record(t.Context(), configOf(t, img)); rec.image != digestOf(t, other) || len(rec.proofs) != 1 {
		t.Errorf("recorded %+v, want the other image with one proof", rec)
	}
}

// TestRecordShowsNothing: a record has the proof, and nothing of the key.
func TestRecordShowsNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	img := randomImage(t, 100, 1)
	v, _ := s.open(t)
	uploaded(t, v, img)
	d, err := v.get(t.Context(), v.name.Tag(recordTag(configOf(t, img))))
	if err != nil || d == nil {
		t.Fatal(err)
	}
	if !bytes.Contains(d.Manifest, []byte(v.prover.proof(layersKind, configOf(t, img), digestOf(t, img), v1.Hash{}))) {
		t.Errorf("no proof in %s", d.Manifest)
	}
	if bytes.Contains(d.Manifest, aTokensKey) || bytes.Contains(d.Manifest, []byte(hex.EncodeToString(aTokensKey))) {
		t.Errorf("the key is in %s", d.Manifest)
	}
}

func TestRecordOfNothing(t *testing.T) {
	t.Parallel()
	v, _ := newServer(t).open(t)
	if err := v.Record(t.Context(), true); err != nil {
		t.Error(err)
	}
}

func TestRecordRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	img := randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", img)
	v, _ := s.open(t)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".imgpkg") && answer(w, 409, "TAG_INVALID")
	})
	wantError(t, recordImage(t, v, img, true), "writing the locations record", "TAG_INVALID")
}

func TestLatestMoves(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	older, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", older)
	s.seed(t, repoPath+":newer", newer)
	v, _ := s.open(t)
	for _, img := range []v1.Image{newer, older, newer} {
		if err := moveLatest(t, v.again(), img); err != nil {
			t.Fatal(err)
		}
		if got := v.again().latest(t.Context()); got == nil || got.Digest != digestOf(t, img) {
			t.Errorf("latest is %+v, want %s", got, digestOf(t, img))
		}
	}
	wantError(t, moveLatest(t, v, randomImage(t, 10, 1)), "sending the manifest")
}

// The image that another tool pushed is found by its config before and after the tag leaves it.
func TestMovedLatestLeavesARecord(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	older, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", older)
	v, _ := s.open(t)
	wantFound(t, v.again(), byID(t, older), older, true)
	wantFound(t, v, byID(t, newer), nil, false)
	mustPush(t, v, newer)
	if err := moveLatest(t, v, newer); err != nil {
		t.Fatal(err)
	}
	wantFound(t, v.again(), byID(t, older), older, true)
}

// TestRecordOfMany: images that are recorded already don't keep another from being recorded.
func TestRecordOfMany(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	var all []Recorded
	for range 8 {
		img := randomImage(t, 100, 1)
		mustPush(t, v, img)
		all = append(all, Recorded{Image: img, Compared: true})
	}
	if err := v.Record(t.Context(), false, all[4:]...); err != nil {
		t.Fatal(err)
	}
	v = v.again()
	for _, one := range all {
		v.record(t.Context(), configOf(t, one.Image.(v1.Image))) //nolint:forcetypeassert // it is one
	}
	s.log()
	if err := v.Record(t.Context(), false, all...); err != nil {
		t.Fatal(err)
	}
	// Of each record a config, a layer and a manifest; the layer has the image's digest in it, and the config the layer's.
	wantRequests(t, "those that weren't recorded", s.log(), map[string]int{"POST": 8, "PUT": 12})
	for _, one := range all {
		wantFound(t, v.again(), byID(t, one.Image.(v1.Image)), one.Image, false) //nolint:forcetypeassert // it is one
	}
	broken := unreadable{all[0].Image.(v1.Image)} //nolint:forcetypeassert // it is one
	wantError(t, v.Record(t.Context(), true, Recorded{Image: broken}), "gone")
	wantError(t, v.pushRecords(t.Context(), map[string]v1.Image{"tag": broken}), "gone")
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/uploads/") && answer(w, http.StatusForbidden, "DENIED")
	})
	wantError(t, recordImage(t, v, randomImage(t, 100, 1), true), "writing the locations record: sending the blob")
}

// unreadable is an image of which nothing can be read.
type unreadable struct{ v1.Image }

// RawConfigFile always fails.
func (unreadable) RawConfigFile() ([]byte, error) { return nil, errors.New("gone") }

// RawManifest always fails.
func (unreadable) RawManifest() ([]byte, error) { return nil, errors.New("gone") }

// Digest always fails.
func (unreadable) Digest() (v1.Hash, error) { return v1.Hash{}, errors.New("gone") }

// TestRecordReplacesLatest: an image with the same config that somebody tagged latest doesn't get the record that the
// run writes at the same time.
func TestRecordReplacesLatest(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	layers, err := randomImage(t, 100, 1).Layers()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	s.seed(t, repoPath+":latest", withLayers(t, img, layers...))
	v, _ := s.open(t)
	wantFound(t, v, byID(t, img), nil, false)
	mustPush(t, v, img)
	s.log()
	if err := v.Record(t.Context(), true, Recorded{Image: img, Compared: true}); err != nil {
		t.Fatal(err)
	}
	wantRequests(t, "one record and the tag", s.log(), map[string]int{"POST": 2, "PUT": 4})
	wantFound(t, v.again(), byID(t, img), img, false)
}

func TestMoveLatestWritesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	img, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})
	tagged := func(img image.ImageOrIndex) func(t *testing.T, v *View) {
		return func(t *testing.T, v *View) {
			t.Helper()
			mustPush(t, v, img)
			if err := moveLatest(t, v, img); err != nil {
				t.Fatal(err)
			}
		}
	}
	recorded := func(remote v1.Hash) func(t *testing.T, v *View) {
		return func(t *testing.T, v *View) {
			t.Helper()
			tagged(img)(t, v)
			if err := v.writeRecords(t.Context(), map[v1.Hash]statement{configOf(t, img): {image: remote}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		before func(t *testing.T, v *View)
		writes int
	}{
		"latest absent":       {func(*testing.T, *View) {}, 1},
		"latest unseen":       {tagged(img), 1},
		"no record":           {tagged(img), 6},
		"an index":            {tagged(index), 1},
		"a record":            {recorded(digestOf(t, img)), 1},
		"a record of another": {recorded(digestOf(t, newer)), 6},
		"a proven record of another": {func(t *testing.T, v *View) {
			t.Helper()
			tagged(img)(t, v)
			other := statement{image: digestOf(t, newer), kind: layersKind}
			if err := v.writeRecords(t.Context(), map[v1.Hash]statement{configOf(t, img): other}); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"the same": {tagged(newer), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			v, _ := s.open(t)
			test.before(t, v)
			v = v.again()
			if name != "latest unseen" {
				v.latest(t.Context())
			}
			mustPush(t, v, newer)
			s.log()
			if err := moveLatest(t, v, newer); err != nil {
				t.Fatal(err)
			}
			if got := s.log(); count(got, "P") != test.writes {
				t.Errorf("%q, want %d writes", got, test.writes)
			}
		})
	}
}

// The two hints don't depend on each other.
func TestLatestMovesWithoutARecord(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	older, newer := randomImage(t, 100, 1), randomImage(t, 100, 1)
	s.seed(t, repoPath+":latest", older)
	v, _ := s.open(t)
	v.latest(t.Context())
	mustPush(t, v, newer)
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ".imgpkg") && answer(w, 409, "TAG_INVALID")
	})
	wantError(t, moveLatest(t, v, newer), "writing the locations record", "TAG_INVALID")
	if got := v.again().latest(t.Context()); got == nil || got.Digest != digestOf(t, newer) {
		t.Errorf("latest is %+v, want the newer", got)
	}
}

// TestRecordsBlobsAreSentBesideTheImage: beginning an upload takes seconds with some registries. No more requests are
// made, and nothing names the image before it is there.
func TestRecordsBlobsAreSentBesideTheImage(t *testing.T) {
	t.Parallel()
	var requests [2]map[string]int
	for n, recorded := range []bool{false, true} {
		s := newServer(t)
		v, _ := s.open(t)
		img := randomImage(t, 100, 2)
		p := mustPlan(t, v, img)
		p.WillRecord = recorded
		core, logs := observer.New(zap.DebugLevel)
		v.log = zap.New(core)
		s.log()
		compared, err := v.Push(t.Context(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		pushed := s.log()
		if failed := logs.FilterMessage(recordsBlobsFailed).Len(); failed > 0 {
			t.Error("a failure is logged that wasn't one")
		}
		if err := recordImage(t, v, img, compared); err != nil {
			t.Fatal(err)
		}
		written := s.log()
		if recorded {
			if puts := count(pushed, "PUT /v2/"+repoPath+"/manifests/"); puts != 1 || count(written, "POST") > 0 {
				t.Errorf("pushing took %q, and recording %q; want the record's blobs with the image's, and its manifest later",
					pushed, written)
			}
		}
		requests[n] = map[string]int{}
		for _, request := range append(pushed, written...) {
			method, _, _ := strings.Cut(request, " ")
			requests[n][method]++
		}
		if rec := v.again().record(t.Context(), configOf(t, img)); rec.image != digestOf(t, img) {
			t.Errorf("the record says %v", rec.image)
		}
	}
	if diff := cmp.Diff(requests[0], requests[1]); diff != "" {
		t.Errorf("requests without and with the record's blobs beside the image's (-without +with):\n%s", diff)
	}
}

// recordsBlobsFailed is the log's line if a record's blobs could not be sent beside the image.
const recordsBlobsFailed = "could not send the locations record's blobs"

// recordLayer is the digest of the layer of an image's record.
func recordLayer(t *testing.T, v *View, img v1.Image) string {
	t.Helper()
	record, err := newRecord(v.name.Digest(digestOf(t, img).String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return layerOf(t, record).String()
}

// TestPushStopsTheRecord: if the image can't be pushed, its record's blobs aren't waited for.
func TestPushStopsTheRecord(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 100, 1)
	layer := recordLayer(t, v, img)
	arrived := make(chan struct{})
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Query().Get("digest") == layer:
			_, _ = io.Copy(io.Discard, r.Body)
			close(arrived)
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute):
				t.Error("the record's blob is still sent")
			}
			return true
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/"):
			<-arrived
			return answer(w, http.StatusForbidden, "DENIED")
		}
		return false
	})
	p := mustPlan(t, v, img)
	p.WillRecord = true
	wantError(t, pushError(t, v, p), "sending the manifest")
}

// TestRecordsBlobsMayFail: the image counts, and Record sends them again.
func TestRecordsBlobsMayFail(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	v, _ := s.open(t)
	img := randomImage(t, 100, 1)
	layer := recordLayer(t, v, img)
	core, logs := observer.New(zap.DebugLevel)
	v.log = zap.New(core)
	var refused atomic.Bool
	s.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		isFirst := r.URL.Query().Get("digest") == layer && refused.CompareAndSwap(false, true)
		return isFirst && answer(w, http.StatusForbidden, "DENIED")
	})
	p := mustPlan(t, v, img)
	p.WillRecord = true
	compared, err := v.Push(t.Context(), p, nil)
	if !refused.Load() || err != nil {
		t.Fatalf("refused: %t, %v", refused.Load(), err)
	}
	if n := logs.FilterMessage(recordsBlobsFailed).Len(); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
	if err := recordImage(t, v, img, compared); err != nil {
		t.Error(err)
	}
	if rec := v.again().record(t.Context(), configOf(t, img)); rec.image != digestOf(t, img) {
		t.Errorf("the record says %v", rec.image)
	}
}

package publish

import (
	"errors"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var aKey = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}

// A key is recorded when the revision exists, and says where the image came from.
func TestKeyIsRecorded(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.Key = aKey
	src := backed(t, newImage(t, arm64))
	r := h.publish(t, nil, h.add(t, "./image.tar", src))
	if !r.Created {
		t.Errorf("got %+v", r)
	}
	h.wantCalls(t, "Open", "Find", "Plan", "Push", "MoveLatest", "RecordKey "+src.digest.String())

	refused := newHouse(nil)
	refused.Key = aKey
	refused.repository.fail["RecordKey "+src.digest.String()] = errors.New("immutable")
	refused.publish(t, nil, refused.add(t, "./image.tar", src))
	refused.wantLog(t, "Could not record the key")

	unrecorded := newHouse(nil)
	unrecorded.Key, unrecorded.NoRecord = aKey, true
	unrecorded.publish(t, nil, unrecorded.add(t, "./image.tar", src))
	if strings.Contains(strings.Join(unrecorded.repository.calls, " "), "RecordKey") {
		t.Error("the key was recorded, though nothing may be")
	}

	dry := newHouse(nil)
	dry.Key, dry.DryRun, dry.repository.images[src.digest] = aKey, true, src.image
	dry.publish(t, nil, dry.add(t, "./image.tar", src))
	if strings.Contains(strings.Join(dry.repository.calls, " "), "RecordKey") {
		t.Error("a dry run recorded the key")
	}
}

func TestKeyAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.Key = aKey
	if r := h.publish(t, nil); !r.Unknown || r.Revision != nil || r.RemoteDigest != "" {
		t.Errorf("an unknown key gives %+v", r)
	}
	h.wantCalls(t, "Open", "FindKey")
	h.wantLog(t, "No image is recorded under this key")

	h = newHouse(nil)
	img := newImage(t, arm64)
	h.Key, h.repository.keyed, h.repository.keyedSource = aKey, img, aKey
	r := h.publish(t, nil)
	if digest := digestOf(t, img).String(); r.RemoteDigest != digest || r.SourceDigest != aKey.String() ||
		r.Revision == nil || r.Uploaded {
		t.Errorf("a known key gives %+v", r)
	}
	h.wantCalls(t, "Open", "FindKey")

	h = newHouse(nil)
	h.Key, h.repository.fail["FindKey"] = aKey, errors.New("down")
	if _, err := h.PublishImage(t.Context(), Target{"my-charm", "my-image"}, nil, nil); err == nil ||
		!strings.Contains(err.Error(), "down") {
		t.Errorf("got %v", err)
	}
}

func TestPushOnly(t *testing.T) {
	t.Parallel()
	for _, present := range []bool{false, true} {
		h := newHouse(nil)
		h.PushOnly = true
		src := backed(t, newImage(t, arm64))
		h.repository.present = present
		r := h.publish(t, nil, h.add(t, "./image.tar", src))
		if r.Revision != nil || r.Uploaded == present || r.RemoteDigest != src.digest.String() || len(r.Digests) != 2 {
			t.Errorf("present %t: got %+v", present, r)
		}
		for _, call := range []string{"Revisions", "ImageBlob", "Upload", "CreateRevision"} {
			if h.store.count(call) > 0 {
				t.Errorf("present %t: the store was asked to %s", present, call)
			}
		}
	}
	h := newHouse(nil)
	h.PushOnly, h.DryRun = true, true
	h.publish(t, nil, h.add(t, "./image.tar", backed(t, newImage(t, arm64))))
	if strings.Contains(h.out.String(), "would create a revision") {
		t.Errorf("the log of a dry run: %s", h.out)
	}
}

// The digests that a runtime may report are told with the one at the source.
func TestDigests(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	index, images := both(t)
	r := h.publish(t, &amd64, h.add(t, "./image.tar", backed(t, index)))
	config, err := images["amd64"].ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	want := []v1.Hash{digestOf(t, images["amd64"]), config, digestOf(t, index)}
	if len(r.Digests) != 3 || r.Digests[0] != want[0] || r.Digests[1] != want[1] || r.Digests[2] != want[2] {
		t.Errorf("got %v, want %v", r.Digests, want)
	}
}

func TestReportOfKeyAndPushOnly(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		result Result
		want   []string
	}{
		"unknown key": {Result{Target: Target{"c", "r"}, Unknown: true}, []string{"resources=[]\n", "revision=\n",
			"digests=\n", "uploaded=false\n"}},
		"push-only": {
			Result{Target: Target{"c", "r"}, PushOnly: true, RemoteDigest: aKey.String(), Digests: []v1.Hash{aKey},
				Uploaded: true},
			[]string{"revision=\n", "remote-digest=" + aKey.String() + "\n", `digests=["` + aKey.String() + `"]`,
				"uploaded=true\n"},
		},
	} {
		runner, out := newRunner(nil)
		if err := Report(runner, 0, "", []Result{test.result}); err != nil {
			t.Fatal(err)
		}
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: the outputs lack %q:\n%s", name, want, out)
			}
		}
	}
	line := LastLine(0, []Result{{PushOnly: true}, {Revised: Revised{Created: true}}})
	if !strings.HasSuffix(line, "1 created, 1 pushed") {
		t.Error(line)
	}
}

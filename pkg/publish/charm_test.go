package publish

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/internal/imagetest"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

const metadata = `
name: my-charm
resources:
  tagged: {type: oci-image, upstream-source: ghcr.io/x/tagged:1}
  pinned: {type: oci-image, upstream-source: "docker://ghcr.io/x/pinned@` + someDigest + `"}
  lost: {type: oci-image, upstream-source: "ghcr.io/x/lost"}
  wrong: {type: oci-image, upstream-source: "user:pass-word@ghcr.io/x/wrong:1"}
  file: {type: file}
  unsourced: {type: oci-image}
`

// newSet is a house for the charm of the metadata. Sources go by the texts that the metadata becomes.
func newSet(t *testing.T) (h *house, path string) {
	t.Helper()
	h = newHouse(nil)
	h.store.resources = nil
	for _, name := range []string{"tagged", "pinned", "lost", "wrong"} {
		h.store.resources = append(h.store.resources, charmhub.Resource{Name: name, Type: charm.TypeImage})
	}
	img := newImage(t, arm64)
	digest := digestOf(t, img)
	h.sources.tags["ghcr.io/x/tagged:1"] = digest
	h.repository.images[digest] = img
	pinned, err := v1.NewHash(someDigest)
	if err != nil {
		t.Fatal(err)
	}
	h.repository.images[pinned] = img
	return h, imagetest.TempFile(t, "charmcraft.yaml", []byte(metadata))
}

func TestCharm(t *testing.T) {
	t.Parallel()
	h, path := newSet(t)
	h.DryRun = true
	results, err := h.Publish(t.Context(), Inputs{Metadata: path})
	wantError(t, err, "2 of 4 resources failed:\n", "resource 'lost': upstream-source: no such tag",
		"resource 'wrong': upstream-source: ", "***@ghcr.io")
	var names []string
	left := map[string]string{}
	for _, r := range results {
		if left[r.Resource] = r.LeftOut; r.LeftOut != "" {
			continue
		}
		delete(left, r.Resource)
		names = append(names, r.Resource)
		if failed := r.Resource == "lost" || r.Resource == "wrong"; (r.Err != nil) != failed || r.Charm != "my-charm" {
			t.Errorf("got %+v", r)
		}
	}
	if diff := cmp.Diff([]string{"lost", "pinned", "tagged", "wrong"}, names); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	wantLeft := map[string]string{
		"file":      "of type file; upload it with the inputs resource and filepath",
		"unsourced": "without upstream-source; upload it with the inputs resource and image",
	}
	if diff := cmp.Diff(wantLeft, left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	h.wantLog(t, "Left out: resource 'file' is of type file; upload it with",
		"Left out: resource 'unsourced' is without upstream-source; upload it with")
	if h.store.count("Resources") != 1 {
		t.Errorf("calls of the store: %v", h.store.calls)
	}
	h.wantLog(t, "Uploading 4 resources of charm 'my-charm': lost, pinned, tagged, wrong",
		"tagged: Resolved the tag tag=ghcr.io/x/tagged:1 digest=sha256:")
	if h.runner.Logger().Info("pass-word"); !strings.Contains(h.out.String(), "\n***\n") {
		t.Error("the password in a source isn't masked")
	}
}

// What is shown of one of several resources says of which, and has no groups.
func TestNamedRunner(t *testing.T) {
	t.Parallel()
	runner, out := newRunner(env{"GITHUB_ACTIONS": "true"})
	named := namedRunner{runner, "my-image"}
	named.Group("Group")()
	named.Logger().Info("line")
	add, done := named.Progress("Sending", 10)
	add(10)
	done()
	if got := out.String(); got != "my-image: line\n" {
		t.Errorf("printed %q", got)
	}
}

// Resources of each kind are published together, each with its own key, and one that fails doesn't stop the others.
func TestPublishSet(t *testing.T) {
	t.Parallel()
	h, _ := newSet(t)
	h.store.resources = append(h.store.resources, charmhub.Resource{Name: "my-file", Type: charm.TypeFile})
	ref, err := source.ParseDigest(someDigest)
	if err != nil {
		t.Fatal(err)
	}
	results, err := h.PublishSet(t.Context(), "my-charm", []Item{
		{Resource: "pinned", Images: []Part{{Reference: ref}}, Key: KeyOf("text")},
		{Resource: "my-file", File: imagetest.TempFile(t, "my.txt", []byte(fileText))},
		{Resource: "lost", Key: KeyOf("another text")},
		{Resource: "wrong", File: "absent"},
	})
	wantError(t, err, "1 of 4 resources failed:\nresource 'wrong': resource 'wrong' of charm 'my-charm' is of type "+
		"oci-image, not file")
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprint(r.Resource, " ", r.Err == nil, " ", r.Revision != nil, " ", r.Unknown))
	}
	if diff := cmp.Diff([]string{"pinned true true false", "my-file true true false", "lost true false true",
		"wrong false false false"}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if h.store.count("Resources") != 1 {
		t.Errorf("calls of the store: %v", h.store.calls)
	}
	if !slices.Contains(h.repository.calls, "RecordKey sha256:"+ref.Hex) {
		t.Errorf("the key isn't recorded: %v", h.repository.calls)
	}
}

func TestCharmFails(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"name: x": "has no resource of type oci-image with an upstream-source",
		"resources: {a: {type: oci-image, upstream-source: x}}": "has no name; give the charm's with the input charm",
		"a: [": "charmcraft.yaml: yaml:",
	} {
		results, err := newHouse(nil).Publish(t.Context(),
			Inputs{Metadata: imagetest.TempFile(t, "charmcraft.yaml", []byte(text))})
		if wantError(t, err, want); results != nil {
			t.Errorf("%s: results %v", text, results)
		}
	}
	_, err := newHouse(nil).Publish(t.Context(), Inputs{Metadata: filepath.Join(t.TempDir(), "absent")})
	wantError(t, err, "input metadata: cannot find ", "absent")
}

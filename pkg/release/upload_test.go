package release

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
)

// TestReleaseUploadsResources: between the charm files and the release. What fails stops the release alone.
func TestReleaseUploadsResources(t *testing.T) {
	unknownTrack := []charmhub.Channel{{Track: "9", Risk: "edge"}}
	for name, test := range map[string]struct {
		on       []charmhub.Release
		channels []charmhub.Channel
		files    []error // how the creation of the charm revision fails
		dryRun   bool
		err      error // of the upload

		uploaded string // with which the upload was called; empty if it wasn't
		released bool
		errs     []string
		log      string
	}{
		"to an empty channel": {uploaded: "declared", released: true, log: "charm revision 2 with my-image:2, released"},
		"in place of another": {on: []charmhub.Release{withImage(1)}, uploaded: "declared", released: true,
			log: "charm revision 2 (was 1) with my-image:2 (was 1), released"},
		"unchanged": {on: []charmhub.Release{{Channel: edge, Base: noble, Revision: 2,
			Resources: map[string]int{"my-image": 2}}}, uploaded: "declared",
			log: "charm revision 2 with my-image:2, unchanged"},
		"dry": {on: []charmhub.Release{withImage(1)}, dryRun: true,
			log: "charm revision to be created (was 1) with my-image to be uploaded (was 1), to be released"},
		"a failing upload":     {err: errGone, uploaded: "declared", errs: []string{"gone"}},
		"a failing charm file": {files: []error{errGone}, uploaded: "undeclared", errs: []string{"upload ", "gone"}},
		"a failing file and image": {files: []error{errGone}, err: context.DeadlineExceeded, uploaded: "undeclared",
			errs: []string{"gone", "deadline"}},
		"what can't be released": {channels: unknownTrack, errs: []string{"the charm has no track 9"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(test.on...)
			store.numbers, store.fail = map[string]int{"a.charm": 2}, map[string][]error{"CreateCharmRevision": test.files}
			store.listed = []string{"latest"}
			path := charmFile(t, "a.charm", "my-charm", noble)
			if len(test.on) > 0 && test.on[0].Revision == 2 {
				store.revisions = append(store.revisions, charmhub.CharmRevision{Revision: 2, SHA3: sumOf(t, path),
					Bases: []charm.Base{noble}})
			}
			r := newReleaser(store)
			in := Inputs{Charm: "my-charm", Channels: []charmhub.Channel{edge}, Files: []string{path}, DryRun: test.dryRun,
				Resources: map[string]int{"my-image": channelmap.ToUpload}, KeepResources: true}
			if test.channels != nil {
				in.Channels = test.channels
			}
			uploaded := ""
			in.Upload = func(_ context.Context, declared bool) (map[string]charmhub.Revision, error) {
				uploaded = map[bool]string{true: "declared", false: "undeclared"}[declared]
				if test.err != nil {
					return nil, test.err
				}
				return map[string]charmhub.Revision{"my-image": {Revision: 2, Type: charm.TypeImage}}, nil
			}
			result, err := r.Release(t.Context(), in)
			if test.errs == nil && err != nil {
				t.Fatal(err)
			}
			if test.errs != nil {
				testkit.WantError(t, err, test.errs...)
			}
			if uploaded != test.uploaded || result.Released != test.released {
				t.Errorf("uploaded %q, released %t", uploaded, result.Released)
			}
			if result.Log(r.Runner.Logger()); !strings.Contains(r.out.String(), test.log) {
				t.Errorf("the log lacks %q:\n%s", test.log, r.out)
			}
			if slices.ContainsFunc(store.calls, func(call string) bool { return call == "Revisions my-image" }) {
				t.Errorf("the revisions of what is uploaded were asked for: %v", store.calls)
			}
		})
	}
}

// TestReadFiles: the name is that of the first file, and each that is wrong is said.
func TestReadFiles(t *testing.T) {
	r := newReleaser(newStore())
	a, b, other := charmFile(t, "a.charm", "my-charm", noble), charmFile(t, "b.charm", "my-charm", nobleArm),
		charmFile(t, "c.charm", "another", noble)
	read, err := ReadFiles(t.Context(), r.Files, []string{a, "absent", b, a, other}, "")
	testkit.WantError(t, err, "input charms: cannot find absent", "c.charm is of charm 'another', not 'my-charm'")
	var got []string
	for _, file := range read {
		got = append(got, file.Path, strings.Join(slices.Sorted(maps.Keys(file.Resources)), " "))
	}
	if diff := cmp.Diff([]string{a, "my-file my-image", b, "my-file my-image"}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

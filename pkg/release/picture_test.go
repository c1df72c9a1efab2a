package release

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/internal/testkit"
	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/release/channelmap"
)

// TestSummaryPicture draws the summary of a release for the documents.
func TestSummaryPicture(t *testing.T) {
	file := func(base charm.Base, number int) CharmFile {
		path := "my-charm_" + base.Name + "-" + base.Channel + "-" + base.Architecture + ".charm"
		return CharmFile{Archive: charm.Archive{Bases: []charm.Base{base}}, Path: path, Revision: number,
			Created: number > 14}
	}
	done := Result{
		Charm: "my-charm", Released: true, Charms: []CharmFile{file(jammy, 12), file(noble, 15)},
		Digests: map[string]string{"my-image": "sha256:9f2c41d0a7b85e63" + strings.Repeat("7a10c4e8d26b93f5", 3)},
	}
	channel := charmhub.Channel{Track: "latest", Risk: "edge", Branch: "pr-12"}
	before := map[string]int{"my-image": 6, "my-file": 2}
	after := map[string]int{"my-image": 7, "my-file": 2}
	for _, row := range []channelmap.Row{
		{Before: ptr(entry(jammy, 12, before)), After: entry(jammy, 12, after)},
		{Before: ptr(entry(noble, 14, before)), After: entry(noble, 15, after)},
		{NewChannel: true, After: charmhub.Release{Channel: channel, Base: noble, Revision: 15, Resources: after}},
	} {
		done.Plan.Rows, done.Plan.Entries = append(done.Plan.Rows, row), append(done.Plan.Entries, row.After)
	}
	testkit.Golden(t, "../../../docs/pictures/summary-release.svg", testkit.Picture(done.Summary("https://charmhub.io")))
}

// ptr returns a pointer to the release.
func ptr(r charmhub.Release) *charmhub.Release { return &r }

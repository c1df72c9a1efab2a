package publish

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// The newest charm revision that declares a resource decides on its type. Revision 0 is one, and newer than one that
// the store doesn't say.
func TestTypeByTheNewestCharmRevision(t *testing.T) {
	image := func(revision *int) charmhub.Resource {
		return charmhub.Resource{Name: "my-image", Type: charm.TypeImage, CharmRevision: revision}
	}
	file := func(revision *int) charmhub.Resource {
		return charmhub.Resource{Name: "my-image", Type: charm.TypeFile, CharmRevision: revision}
	}
	for name, resources := range map[string][]charmhub.Resource{
		"newer first":   {image(new(3)), file(new(2))},
		"newer last":    {file(new(2)), image(new(3))},
		"revision 0":    {file(nil), image(new(0))},
		"none, first":   {image(nil), file(nil)},
		"not said last": {image(new(0)), file(nil)},
	} {
		h := newHouse(env{})
		h.store.resources = resources
		if err := h.checkType(t.Context(), Target{"my-charm", "my-image"}, charm.TypeImage, "filepath"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

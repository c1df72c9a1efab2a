package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// TestTextThatChanges: the text that describes an image holds a password that may change. A revision that describes the
// same image in another text is the image's.
func TestTextThatChanges(t *testing.T) {
	t.Parallel()
	img := newImage(t, arm64)
	same := "registry.example/my-charm/my-image@" + digestOf(t, img).String()
	text := fmt.Sprintf(`{"ImageName":%q,"Password":"p"}`, same)
	size := int64(len(text))
	listed := func(number int, size int64) charmhub.Revision {
		return charmhub.Revision{Revision: number, Type: charm.TypeImage, SHA256: fmt.Sprint(number), Size: size,
			Architectures: []string{"arm64"}}
	}
	without := func(r charmhub.Revision, change func(*charmhub.Revision)) charmhub.Revision { change(&r); return r }
	const differs = "describes the same image; only Charmhub's text about it differs"
	for name, c := range map[string]struct {
		revisions []charmhub.Revision
		names     map[int]string
		err       error
		text      string // if it isn't the one above
		dryRun    bool
		asked     []int // nil for no request at all
		want      int   // the revision; -1 for a new one
		log       []string
	}{
		"same image": {
			[]charmhub.Revision{listed(7, size+9), listed(6, size)}, map[int]string{7: "other@sha256:x", 6: same}, nil, "",
			false,
			[]int{7, 6}, 6, []string{"Revision 6 " + differs,
				"Revision 6 of resource 'my-image' for charm 'my-charm' is unchanged"},
		},
		"the newest of them": {
			[]charmhub.Revision{listed(7, size), listed(6, size)}, map[int]string{7: same, 6: same}, nil, "", false, []int{7, 6},
			7, nil,
		},
		"not all can be read": {
			[]charmhub.Revision{listed(7, size), listed(6, size)}, map[int]string{6: same}, errors.New("lost"), "", false,
			[]int{7, 6}, 6, nil,
		},
		"with other architectures": {
			[]charmhub.Revision{without(listed(7, size), func(r *charmhub.Revision) { r.Architectures = []string{"amd64"} })},
			map[int]string{7: same}, nil, "", false, []int{7}, 7, []string{"its architectures were changed"},
		},
		"in a dry run": {
			[]charmhub.Revision{listed(7, size)}, map[int]string{7: same}, nil, "", true, []int{7}, 7, []string{differs},
		},
		"other images": {
			[]charmhub.Revision{listed(7, size), listed(6, size)},
			map[int]string{7: strings.Replace(same, "sha256:", "sha256:0", 1), 6: "evil.example/" + same}, nil, "", false,
			[]int{7, 6}, -1, nil,
		},
		"private": {
			[]charmhub.Revision{listed(7, size)}, nil, errors.New("cannot read: 404; the charm may be private"), "", false,
			[]int{7}, -1, []string{"a new revision is made, since it can't be seen whether an earlier one describes this " +
				"image: cannot read: 404; the charm may be private"},
		},
		"private, in a dry run": {
			[]charmhub.Revision{listed(7, size)}, nil, errors.New("cannot read"), "", true, []int{7}, -2,
			[]string{"would create a revision"},
		},
		"five at most": {
			[]charmhub.Revision{listed(9, size), listed(8, size), listed(7, size), listed(6, size), listed(5, size),
				listed(4, size)}, nil, nil, "", false,
			[]int{9, 8, 7, 6, 5}, -1, nil,
		},
		"what can't be the text": {
			[]charmhub.Revision{
				listed(9, size+1000), listed(8, size-1000), listed(7, 0),
				without(listed(6, size), func(r *charmhub.Revision) { r.Type = charm.TypeFile }),
				without(listed(5, size), func(r *charmhub.Revision) { r.SHA256 = "" }),
			}, nil, nil, "", false, nil, -1, nil,
		},
		"a text of another kind": {[]charmhub.Revision{listed(7, 40)}, nil, nil, strings.Repeat("x", 40), false, nil, -1,
			nil},
		"a text of another image": {
			[]charmhub.Revision{listed(7, 90)}, nil, nil, `{"ImageName":"registry.example/my-charm/my-image@sha256:0"}`, false,
			nil, -1, nil,
		},
		"the same text": {
			[]charmhub.Revision{
				listed(8, size), without(listed(7, size), func(r *charmhub.Revision) {
					r.SHA256 = imageContent("", []byte(text),
						nil).sha256
				}),
			}, nil, nil, "", false, nil, 7, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			h.repository.present = true
			h.DryRun = c.dryRun
			h.store.answer = &charmhub.Revision{Revision: 20, Architectures: []string{"arm64"}} // a new one
			h.store.revisions, h.store.names, h.store.text = c.revisions, c.names, text
			if c.text != "" {
				h.store.text = c.text
			}
			if c.err != nil {
				h.store.fail["ImageNames"] = []error{c.err}
			}
			r := h.publish(t, nil, h.add(t, "./image.tar", backed(t, img)))
			if !slices.Equal(h.store.asked, c.asked) {
				t.Errorf("asked for %v, want %v", h.store.asked, c.asked)
			}
			switch {
			case c.want == -2 && r.Revision != nil, c.want == -1 && !r.Created, c.want >= 0 && (r.Created || r.Revision == nil ||
				*r.Revision != c.want):
				t.Errorf("got %+v, want revision %d:\n%s", r, c.want, h.out)
			}
			h.wantLog(t, c.log...)
		})
	}
}

// TestTextsOfWhatWasSent: no revision can describe an image that the repository didn't have, so none is read.
func TestTextsOfWhatWasSent(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	img := newImage(t, arm64)
	h.store.text = fmt.Sprintf(`{"ImageName":"registry.example/my-charm/my-image@%s"}`, digestOf(t, img))
	h.store.revisions = []charmhub.Revision{{Revision: 7, SHA256: "x", Size: int64(len(h.store.text))}}
	h.store.answer = &charmhub.Revision{Revision: 8}
	if r := h.publish(t, nil, h.add(t, "./image.tar", backed(t, img))); !r.Created || h.store.asked != nil {
		t.Errorf("got %+v after reading %v", r, h.store.asked)
	}
}

// TestReadingTextsIsStopped: a run that is stopped meanwhile makes no revision.
func TestReadingTextsIsStopped(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	img := newImage(t, arm64)
	h.repository.present = true
	h.store.text = fmt.Sprintf(`{"ImageName":"registry.example/my-charm/my-image@%s"}`, digestOf(t, img))
	h.store.revisions = []charmhub.Revision{{Revision: 7, SHA256: "x", Size: int64(len(h.store.text))}}
	h.store.fail["ImageNames"] = []error{context.Canceled}
	ctx, stop := context.WithCancel(t.Context())
	h.store.on = func(call string) {
		if call == "ImageNames" {
			stop()
		}
	}
	_, err := h.Publish(ctx, Inputs{Charm: "my-charm", Resource: "my-image",
		Images: []Part{h.add(t, "./image.tar", backed(t, img))}})
	wantError(t, err, "stopped while looking for what is there already", "no revision was created")
	if h.store.count("Upload") > 0 {
		t.Error("the text was uploaded")
	}
}

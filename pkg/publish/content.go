package publish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
	"github.com/charmhub-actions/upload-resource/pkg/image"
	"github.com/charmhub-actions/upload-resource/pkg/upload"
)

// content is the content of a revision: a file, or the text that describes an image to Juju.
type content struct {
	kind   string // charm.TypeImage or charm.TypeFile
	name   string // file name to upload it under
	size   int64
	sha256 string // hex
	// architectures are those of the image's platforms, or those given for a file. If none were given, an existing
	// revision keeps the architectures that Charmhub has recorded for it, and a new revision is created for "all".
	architectures       []string
	revisionsDescribing []int // revisions whose text differs, but names the same image
	open                func() (io.ReadCloser, error)
}

// imageContent returns the content of a revision for an image.
func imageContent(name string, text []byte, platforms []v1.Platform) content {
	digest := sha256.Sum256(text)
	return content{
		kind: charm.TypeImage, name: name, size: int64(len(text)), sha256: hex.EncodeToString(digest[:]),
		architectures: architectures(platforms),
		open:          func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

// architectures returns Charmhub's names of the Linux platforms, sorted. If Charmhub has no name for any of them, it
// returns "all".
func architectures(platforms []v1.Platform) []string {
	var all []string
	for _, p := range platforms {
		p = image.Normalize(p)
		if name, ok := charm.Architecture(p.Architecture); ok && p.OS == "linux" {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return []string{charm.AllArchitectures}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// find returns the revision that has this content or describes the same image. Charmhub refuses to store the same
// content twice, so this revision has to be used. Older servers stored it twice: find then prefers revisions whose
// architectures can stay, and of these the newest.
func (c content) find(revisions []charmhub.Revision) (found charmhub.Revision, ok bool) {
	for _, r := range revisions { // newest first
		switch {
		case r.SHA256 != c.sha256 && !slices.Contains(c.revisionsDescribing, r.Revision):
		case c.architecturesToRecord(r.Architectures) == nil:
			return r, true
		case !ok:
			found, ok = r, true
		}
	}
	return found, ok
}

// architecturesToRecord returns the architectures to record for a revision with this content, sorted. It returns nil if
// the record can stay. An image determines its own architectures. Those of a file are added to the recorded ones, so
// that jobs for one architecture each leave the same record in any order. The value "all" includes the others.
func (c content) architecturesToRecord(recorded []string) []string {
	if len(recorded) == 0 { // the store doesn't say
		return nil
	}
	want := slices.Sorted(slices.Values(c.architectures))
	if c.kind == charm.TypeFile {
		if slices.Contains(recorded, charm.AllArchitectures) {
			return nil
		}
		want = slices.Compact(slices.Sorted(slices.Values(slices.Concat(want, recorded))))
		if slices.Contains(want, charm.AllArchitectures) {
			want = []string{charm.AllArchitectures}
		}
	}
	if slices.Equal(want, slices.Sorted(slices.Values(recorded))) {
		return nil
	}
	return want
}

// verified returns a function that opens the content. Progress, if not nil, is called with the number of further bytes
// that were read.
func (c content) verified(progress func(bytes int64)) func() (io.ReadCloser, error) {
	return upload.Verified(c.open, sha256.New, c.sha256, progress)
}

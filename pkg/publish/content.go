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

// content is what a revision holds: a file, or the text that describes an
// image to Juju.
type content struct {
	kind   string // charm.TypeImage or charm.TypeFile
	name   string // file name to upload it under
	size   int64
	sha256 string // hex
	// architectures are what an image says by itself; of a file, what was asked
	// for: nil leaves the record of a revision as it is, and makes a new one
	// for "all".
	architectures []string
	describedBy   []int // the revisions that describe the image in another text
	open          func() (io.ReadCloser, error)
}

func imageContent(name string, text []byte, platforms []v1.Platform) content {
	digest := sha256.Sum256(text)
	return content{
		kind: charm.TypeImage, name: name, size: int64(len(text)), sha256: hex.EncodeToString(digest[:]),
		architectures: architectures(platforms),
		open:          func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}
}

// architectures returns Charmhub's names for those platforms that are Linux, or
// "all" if it has a name for none, which is what such an image is recorded for.
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

// find returns the revision that has this content, or describes the same image. Charmhub doesn't store the
// same content twice, so there is no other way to publish it. Where older servers
// did, it is the newest whose architectures can stay, or else the newest.
func (c content) find(revisions []charmhub.Revision) (found charmhub.Revision, ok bool) {
	for _, r := range revisions { // newest first
		switch {
		case r.SHA256 != c.sha256 && !slices.Contains(c.describedBy, r.Revision):
		case c.due(r.Architectures) == nil:
			return r, true
		case !ok:
			found, ok = r, true
		}
	}
	return found, ok
}

// due returns the architectures that a revision with this content is to be
// recorded for, sorted, or nil where its record can stay. An image says by itself
// what it is for. A file's architectures are added up, so that jobs for one each
// leave the same record in any order; "all" contains the others.
func (c content) due(recorded []string) []string {
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
	if slices.Equal(want, recorded) {
		return nil
	}
	return want
}

// verified opens the content to be sent.
func (c content) verified(progress func(bytes int64)) func() (io.ReadCloser, error) {
	return upload.Verified(c.open, sha256.New, c.sha256, progress)
}

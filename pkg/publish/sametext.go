package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

// The text that describes an image to Juju holds a password. Whether Charmhub keeps it the same for ever isn't known,
// and a client may write the text again before it uploads it. So a revision may describe an image in another text than
// today's.
const (
	textsRead     = 5                // the newest revisions whose text is read, at most
	textTolerance = 128              // bytes by which the sizes of two texts about one image may differ
	textPatience  = 30 * time.Second // for reading all of them
)

// revisionsDescribing returns the numbers of the revisions whose text names the image by the digest, although the
// text differs from today's. It only reads texts of about the same size. If the texts can't be read, as with a
// private charm, it logs the reason and that a new revision will be created.
func (p *Publisher) revisionsDescribing(
	ctx context.Context,
	t Target,
	text []byte,
	digest string,
	revisions []charmhub.Revision,
) ([]int, error) {
	image := charmhub.ImageName(text)
	candidates := similar(text, revisions)
	if len(candidates) == 0 || !strings.HasSuffix(image, "@"+digest) {
		return nil, nil
	}
	patient, cancel := context.WithTimeoutCause(ctx, textPatience, fmt.Errorf("no answer within %s", textPatience))
	defer cancel()
	images, err := p.Store.ImageNames(patient, t.Charm, t.Resource, candidates)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var same []int
	for _, revision := range candidates {
		if images[revision.Revision] == image {
			same = append(same, revision.Revision)
		}
	}
	if err != nil && len(same) == 0 {
		if errors.Is(err, context.DeadlineExceeded) {
			err = context.Cause(patient)
		}
		p.Runner.Logger().Info(
			fmt.Sprintf(
				"No revision has this text; a new revision is made, since it can't be seen whether an earlier one describes "+
					"this image: %v",
				err,
			),
		)
	}
	return same, nil
}

// similar returns the newest revisions whose content may be another text about the same image, judged by its size.
func similar(text []byte, revisions []charmhub.Revision) (found []charmhub.Revision) {
	for _, r := range revisions { // newest first
		apart := r.Size - int64(len(text))
		if r.Type != charm.TypeFile && r.SHA256 != "" && max(apart, -apart) <= textTolerance && len(found) < textsRead {
			found = append(found, r)
		}
	}
	return found
}

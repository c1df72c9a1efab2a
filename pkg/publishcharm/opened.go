package publishcharm

import (
	"context"
	"sync"

	"github.com/charmhub-actions/upload-resource/pkg/publish"
	"github.com/charmhub-actions/upload-resource/pkg/source"
)

// OpenFunc opens an image, as [source.Opener.Open] does.
type OpenFunc func(ctx context.Context, ref source.Reference) (source.Source, error)

// Opened are the images in the workspace that were opened when the inputs were read, by what they are called there: so
// a file that is no image is found before anything is sent.
type Opened map[string]source.Source

// Close closes those that nobody took.
func (o Opened) Close() {
	for _, opened := range o {
		_ = opened.Close()
	}
}

// openAll opens the images in the workspace, and complains about those that aren't any.
func (r *reader) openAll(ctx context.Context, open OpenFunc) {
	for _, item := range r.in.Items {
		for _, part := range item.Images {
			if _, known := r.in.Opened[part.Text]; known || part.Path == "" {
				continue
			}
			opened, err := open(ctx, part.Reference)
			if err != nil {
				r.Complain("input resources: %s: %w", item.Resource, err)
				continue
			}
			r.in.Opened[part.Text] = opened
		}
	}
}

// sources takes what was opened before, once.
type sources struct {
	publish.Sources
	mu     *sync.Mutex
	opened Opened
}

// Open opens an image, unless it is opened already.
func (s sources) Open(ctx context.Context, ref source.Reference) (source.Source, error) {
	s.mu.Lock()
	opened, ok := s.opened[ref.Text]
	delete(s.opened, ref.Text)
	s.mu.Unlock()
	if ok {
		return opened, nil
	}
	return s.Sources.Open(ctx, ref)
}

// Package publish has the use cases of the program: it makes an image, a file, or
// all images of a charm the content of the charm's resources on Charmhub, and
// changes nothing where they are that already.
//
// [ReadInputs] says what is to be published, [Publisher.Publish] does it and
// returns a [Result] for each resource, and [Report] turns these into the log's
// last line, the step's summary and its outputs. Nothing flows back.
package publish

import (
	"context"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// Publish does what the inputs ask for, and returns what came of each resource.
// The results of a charm's set are complete also where some failed; they are nil
// where there is nothing to report but the error.
func (p *Publisher) Publish(ctx context.Context, in Inputs) ([]Result, error) {
	var r Result
	t := Target{in.Charm, in.Resource}
	switch {
	case in.Metadata != "":
		return p.Charm(ctx, in.Metadata, in.Charm)
	case in.File != "":
		r = p.attempt(ctx, t, func() (Result, error) { return p.File(ctx, t, in.File, in.Architectures) })
	default:
		r = p.attempt(ctx, t, func() (Result, error) { return p.PublishImage(ctx, t, in.Images, in.Platform) })
	}
	if r.Err != nil {
		return nil, r.Err
	}
	return []Result{r}, nil
}

// attempt runs a use case, and completes its result, also after a panic.
func (p *Publisher) attempt(ctx context.Context, t Target, publish func() (Result, error)) (r Result) {
	start := time.Now()
	err := parallel.Guard(func() (err error) { r, err = publish(); return err })
	r.Target, r.DryRun, r.PushOnly, r.Err, r.Took = t, p.DryRun, p.PushOnly, stopped(ctx, err), time.Since(start)
	return r
}

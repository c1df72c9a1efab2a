// Package publish uploads images and files to the resources of a charm on Charmhub. If Charmhub already has the
// content, it changes nothing.
//
// [ReadInputs] says what to publish. [Publisher.Publish] publishes it and returns a [Result] for each resource.
// [Report] writes the results to the log, the step's summary and its outputs.
package publish

import (
	"context"
	"time"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// Publish publishes what the inputs name and returns a result for each resource. If a resource in a set fails, the
// results are still complete. They are nil if the one resource failed: such a step has no outputs.
func (p *Publisher) Publish(ctx context.Context, in Inputs) ([]Result, error) {
	var r Result
	t := Target{in.Charm, in.Resource}
	switch {
	case in.Metadata != "":
		return p.PublishCharm(ctx, in.Metadata, in.Charm)
	case in.File != "":
		r = p.attempt(ctx, t, func() (Result, error) { return p.PublishFile(ctx, t, in.File, in.Architectures) })
	default:
		r = p.attempt(ctx, t, func() (Result, error) { return p.PublishImage(ctx, t, in.Images, in.Platform) })
	}
	if r.Err != nil { // a failed step has no outputs
		return nil, r.Err
	}
	return []Result{r}, nil
}

// attempt calls publish and returns its result, with its error or panic in it.
func (p *Publisher) attempt(ctx context.Context, t Target, publish func() (Result, error)) (r Result) {
	start := time.Now()
	err := parallel.Guard(func() (err error) { r, err = publish(); return err })
	r.Target, r.DryRun, r.PushOnly, r.Err, r.Took = t, p.DryRun, p.PushOnly, stopped(ctx, err), time.Since(start)
	return r
}

package main

import (
	"context"
	"fmt"
)

// stage is an image that the action has brought to a Charmhub of its own.
type stage struct {
	situation string
	label     string
	hub       *hub
	source    source
}

// compareSizes measures reruns of the action with images of all sizes in
// every round.
func (b *bench) compareSizes(ctx context.Context) error {
	var stages []stage
	defer func() {
		for _, s := range stages {
			s.hub.close()
		}
	}()
	for _, size := range b.sizes {
		label := fmt.Sprintf("%d MB", size)
		image, err := b.makeImage(ctx, size)
		if err != nil {
			return err
		}
		if stages, err = b.stage(ctx, stages, unchanged, label, source{image: image}); err != nil {
			return err
		}
		rock, err := b.archive(ctx, stages[len(stages)-1].hub, fmt.Sprint(size))
		if err != nil {
			return err
		}
		if stages, err = b.stage(ctx, stages, archived, label, rock); err != nil {
			return err
		}
	}
	return b.rerun(ctx, stages)
}

// stage adds one to the stages, also when it returns an error after that.
func (b *bench) stage(ctx context.Context, to []stage, situation, label string, src source) ([]stage, error) {
	hub, err := newHub()
	if err != nil {
		return to, err
	}
	return append(to, stage{situation, label, hub, src}), b.upload(ctx, hub, src)
}

func (b *bench) rerun(ctx context.Context, stages []stage) error {
	for round := range b.rounds {
		progress("round %d of %d", round+1, b.rounds)
		for _, s := range stages {
			if err := b.measure(ctx, s.hub, b.action, s.situation, s.label, s.source); err != nil {
				return err
			}
		}
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"slices"
)

// The situations that a tool is measured in.
const (
	firstPush = "first push"
	unchanged = "unchanged"
	filled    = "unchanged, repository filled by skopeo copy"
	changed   = "last layer changed"
	archived  = "OCI archive, unchanged"
	floor     = "export alone"
)

// cycle measures a tool in all situations, on a Charmhub of its own. Each
// leaves the repository as the next one needs it.
func (b *bench) cycle(ctx context.Context, t tool, image, next *loaded) error {
	if t.name == saveName {
		return b.measure(ctx, nil, t, floor, t.name, source{image: image})
	}
	hub, err := newHub()
	if err != nil {
		return err
	}
	defer hub.close()
	steps := []func() error{
		func() error { return b.measure(ctx, hub, t, firstPush, t.name, source{image: image}) },
		func() error { return b.measure(ctx, hub, t, unchanged, t.name, source{image: image}) },
		func() error { return b.afterSkopeo(ctx, hub, t, image) },
		func() error { return b.measure(ctx, hub, t, changed, t.name, source{image: next}) },
		func() error { return b.withArchive(ctx, hub, t) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// afterSkopeo measures the action where skopeo brought the image that it is to
// bring, if both are measured at all.
func (b *bench) afterSkopeo(ctx context.Context, h *hub, t tool, image *loaded) error {
	if t.name != skopeoName || !slices.Contains(b.options.tools, actionName) {
		return nil
	}
	if err := h.publish(ctx); err != nil {
		return fmt.Errorf("publishing what skopeo copied: %w", err)
	}
	return b.measure(ctx, h, b.action, filled, actionName, source{image: image})
}

// withArchive measures the action with an OCI archive that Charmhub has.
func (b *bench) withArchive(ctx context.Context, h *hub, t tool) error {
	if t.name != actionName {
		return nil
	}
	rock, err := b.archive(ctx, h, "changed")
	if err != nil {
		return err
	}
	if err := b.upload(ctx, h, rock); err != nil {
		return err
	}
	return b.measure(ctx, h, t, archived, t.name, rock)
}

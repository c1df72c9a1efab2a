package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// The file that is uploaded.
const (
	fileName = "settings.yaml"
	settings = "log-level: info\nreplicas: 3\n"
)

// step is one run of the action, and what is to come of it.
type step struct {
	title    string
	short    string // for the table
	resource string
	input    string // what to upload, as NAME=value
	want     want
}

// tell runs the steps in their order, each on what the ones before left.
func (d *demo) tell(ctx context.Context) error {
	image, err := d.images.make(ctx, "Hello!")
	if err != nil {
		return err
	}
	changed, err := d.images.make(ctx, "Hello again!")
	if err != nil {
		return err
	}
	file := "filepath=" + fileName
	if err := os.WriteFile(filepath.Join(d.workspace, fileName), []byte(settings), 0o600); err != nil {
		return err
	}
	for _, s := range []step{
		{"An image, for the first time", "image", imageResource, image, want{revision: 1, created: true}},
		{"The same image again", "same image", imageResource, image, want{revision: 1, after: 1}},
		{"The image with another last layer", "changed image", imageResource, changed, want{revision: 2, created: true, after: 1}},
		{"A file", "file", fileResource, file, want{revision: 1, created: true}},
		{"The same file again", "same file", fileResource, file, want{revision: 1, after: 4}},
	} {
		if err := d.perform(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return d.end()
}

// perform runs the action for a step and checks what came of it.
func (d *demo) perform(ctx context.Context, s step) error {
	d.printf("\n%d. %s (%s)\n", len(d.rows)+1, s.title, shorten(s.input))
	o, err := d.runAction(ctx, s)
	if err != nil {
		return err
	}
	d.printf("   => revision=%s revision-created=%s uploaded=%s%s\n",
		o.outputs["revision"], o.outputs["revision-created"], o.outputs["uploaded"], digestOf(o))
	var before *outcome
	if s.want.after > 0 {
		before = d.rows[s.want.after-1].outcome
	}
	d.rows = append(d.rows, row{s.short, o})
	return d.check(ctx, s, o, before)
}

func digestOf(o *outcome) string {
	if digest := o.outputs["remote-digest"]; digest != "" {
		return " remote-digest=" + shorten(digest)
	}
	return ""
}

// end prints the table and what it shows.
func (d *demo) end() error {
	d.printf("\n")
	if err := writeTable(d.out, d.rows); err != nil {
		return err
	}
	d.printf("\nAll as it should be: what was there already was neither sent nor made anew.\n")
	return nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// check returns the first thing that isn't as it should be. before is the outcome
// of the step that this one is after, nil for none.
func (d *demo) check(ctx context.Context, s step, o, before *outcome) error {
	if err := s.check(o, before); err != nil {
		return err
	}
	content, err := o.revisions[s.revision-1].Content()
	switch {
	case err != nil:
		return fmt.Errorf("reading the revision: %w", err)
	case s.resource == imageResource:
		return d.checkImage(ctx, o.outputs["remote-image"], o.outputs["source-digest"], content)
	case string(content) != settings:
		return errors.New("the revision's content is not the file's")
	}
	return nil
}

// check looks at the outputs, at the number of revisions, and at what was sent.
func (s step) check(o, before *outcome) error {
	revision, created := strconv.Itoa(s.revision), strconv.FormatBool(s.created)
	want := [][2]string{
		{"revision", revision}, {"revision-created", created}, {"uploaded", created},
		{"resource-flag", s.resource + ":" + revision},
	}
	if before != nil && !s.created {
		for _, name := range []string{"remote-digest", "remote-image", "source-digest"} {
			want = append(want, [2]string{name, before.outputs[name]})
		}
	}
	for _, output := range want {
		if got := o.outputs[output[0]]; got != output[1] {
			return fmt.Errorf("the output %s is %q instead of %q", output[0], got, output[1])
		}
	}
	switch {
	case len(o.revisions) != s.revision:
		return fmt.Errorf("the store has %d revisions of %s instead of %d", len(o.revisions), s.resource, s.revision)
	case !s.created && o.sent != 0:
		return fmt.Errorf("nothing was to be sent, but %d bytes were", o.sent)
	case !o.agrees():
		return fmt.Errorf("the log says that %q was sent, but the servers received %d bytes", o.logged, o.sent)
	case s.created && o.sent == 0:
		return errors.New("a revision was created, but nothing was sent")
	case before == nil || !s.created:
		return nil
	case o.outputs["remote-digest"] == before.outputs["remote-digest"]:
		return fmt.Errorf("the changed image has the digest of the one before, %s", o.outputs["remote-digest"])
	case o.sent > before.sent/10:
		return fmt.Errorf("only a small layer changed, but %d bytes were sent, after %d the first time", o.sent, before.sent)
	}
	return nil
}

// agrees reports whether the servers received what the log says was sent, and little more: manifests, the record
// for later runs, and the form around a file. The log rounds to two digits.
func (o *outcome) agrees() bool {
	const around = 8_000
	logged, err := humanize.ParseBytes(o.logged)
	return err == nil && float64(o.sent) >= 0.94*float64(logged) && float64(o.sent) <= 1.06*float64(logged)+around
}

// checkImage pulls the image that the revision names, as a cluster would, and
// verifies every digest in it. Its ID, which engines take from the config or
// from the manifest, has to be that of the source.
func (d *demo) checkImage(ctx context.Context, reference, source string, revision []byte) error {
	if !bytes.Contains(revision, []byte(`"`+reference+`"`)) {
		return fmt.Errorf("the revision doesn't name the image %s, the output remote-image", reference)
	}
	_, username, password := d.sandbox.RegistryAuth(charm, imageResource)
	image, err := crane.Pull(reference, crane.WithContext(ctx),
		crane.WithAuth(&authn.Basic{Username: username, Password: password}))
	if err == nil {
		err = validate.Image(image)
	}
	if err != nil {
		return fmt.Errorf("pulling the image %s: %w", reference, err)
	}
	_, digest, _ := strings.Cut(reference, "@")
	config, err := image.ConfigName()
	if err == nil && source != config.String() && source != digest {
		err = fmt.Errorf("the image %s with the config %s is not %s, which was uploaded", reference, config, source)
	}
	return err
}

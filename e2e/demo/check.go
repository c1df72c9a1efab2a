package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// want is what is to come of a step.
type want struct {
	revision int
	created  bool
	after    int // the number of the step that uploaded the same, or most of it; 0 for none
}

// check fails with the first thing that isn't as it should be. before is the
// outcome of the step that the wanted one is after, if any.
func (d *demo) check(ctx context.Context, s step, o, before *outcome) error {
	if err := s.want.check(s.resource, o, before); err != nil {
		return err
	}
	for _, secret := range d.sandbox.Secrets() {
		if strings.Contains(o.log, secret) || strings.Contains(fmt.Sprint(o.outputs), secret) {
			return errors.New("a secret is in the action's log or outputs")
		}
	}
	if left, err := os.ReadDir(d.tmp()); err != nil || len(left) > 0 {
		return fmt.Errorf("the action left temporary files behind: %v %w", left, err)
	}
	content, err := o.newest().Content()
	if err != nil {
		return fmt.Errorf("reading the revision: %w", err)
	}
	if s.resource == imageResource {
		return d.checkImage(ctx, o, content)
	}
	if string(content) != settings {
		return errors.New("the revision's content is not the file's")
	}
	return nil
}

// check looks at the outputs, at how many revisions there are, and at what was
// sent.
func (w want) check(resource string, o, before *outcome) error {
	revision, created := strconv.Itoa(w.revision), strconv.FormatBool(w.created)
	for _, output := range []struct{ name, want string }{
		{"revision", revision}, {"revision-created", created}, {"uploaded", created}, {"resource-flag", resource + ":" + revision},
	} {
		if got := o.outputs[output.name]; got != output.want {
			return fmt.Errorf("the output %s is %q instead of %q", output.name, got, output.want)
		}
	}
	if len(o.revisions) != w.revision || o.newest().Number != w.revision {
		return fmt.Errorf("the store has %d revisions of %s instead of %d", len(o.revisions), resource, w.revision)
	}
	switch {
	case w.created && o.traffic.sent == 0:
		return errors.New("a revision was created, but nothing was sent")
	case before == nil:
		return nil
	case w.created:
		return checkChanged(o, before)
	default:
		return checkUnchanged(o, before)
	}
}

func checkUnchanged(o, before *outcome) error {
	if o.traffic.sent != 0 || len(o.traffic.writes) != 0 {
		return fmt.Errorf("nothing was to be sent, but %d bytes were: %s", o.traffic.sent, strings.Join(o.traffic.writes, ", "))
	}
	for _, output := range []string{"remote-digest", "remote-image", "source-digest"} {
		if was, is := before.outputs[output], o.outputs[output]; was != is {
			return fmt.Errorf("the output %s was %q and is now %q", output, was, is)
		}
	}
	return nil
}

func checkChanged(o, before *outcome) error {
	if digest := o.outputs["remote-digest"]; digest == before.outputs["remote-digest"] {
		return fmt.Errorf("the changed image has the digest of the one before, %s", digest)
	}
	if o.traffic.sent > before.traffic.sent/10 {
		return fmt.Errorf("only a small layer changed, but %d bytes were sent, after %d the first time",
			o.traffic.sent, before.traffic.sent)
	}
	return nil
}

// newest is the resource's newest revision, zero for none.
func (o *outcome) newest() server.Revision {
	if len(o.revisions) == 0 {
		return server.Revision{}
	}
	return o.revisions[len(o.revisions)-1]
}

// checkImage pulls what the revision names, as a cluster would, and verifies
// every digest in it. What it pulls has to be the image that was uploaded.
func (d *demo) checkImage(ctx context.Context, o *outcome, content []byte) error {
	reference := o.outputs["remote-image"]
	if !bytes.Contains(content, []byte(`"`+reference+`"`)) {
		return fmt.Errorf("the revision doesn't name the image %s, which the action says it does", reference)
	}
	remoteName, err := name.NewDigest(reference)
	if err != nil {
		return fmt.Errorf("the output remote-image is no reference: %w", err)
	}
	_, username, password := d.sandbox.RegistryAuth(charm, imageResource)
	img, err := remote.Image(remoteName, remote.WithContext(ctx), remote.WithAuth(&authn.Basic{Username: username, Password: password}))
	if err == nil {
		err = validate.Image(img)
	}
	if err != nil {
		return fmt.Errorf("pulling the image %s: %w", reference, err)
	}
	return sameImage(img, o.outputs["source-digest"])
}

// sameImage makes sure that an image has that ID, which engines take from the
// config or from the manifest.
func sameImage(img v1.Image, source string) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	if source != config.String() && source != digest.String() {
		return fmt.Errorf("the image %s with the config %s is not %s, which was uploaded", digest, config, source)
	}
	return nil
}

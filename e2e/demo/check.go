package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// check fails with the first thing that isn't as it should be. before is the
// outcome of the step that this one is after, nil for none.
func (d *demo) check(ctx context.Context, s step, o, before *outcome) error {
	if err := s.check(o, before); err != nil {
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
	content, err := o.revisions[s.revision-1].Content()
	if err != nil {
		return fmt.Errorf("reading the revision: %w", err)
	}
	if s.resource == imageResource {
		return d.checkImage(ctx, o.outputs["remote-image"], o.outputs["source-digest"], content)
	}
	if string(content) != settings {
		return errors.New("the revision's content is not the file's")
	}
	return nil
}

// check looks at the outputs, at how many revisions there are, and at what was
// sent.
func (s step) check(o, before *outcome) error {
	revision, created := strconv.Itoa(s.revision), strconv.FormatBool(s.created)
	for _, output := range []struct{ name, want string }{
		{"revision", revision}, {"revision-created", created}, {"uploaded", created}, {"resource-flag", s.resource + ":" + revision},
	} {
		if got := o.outputs[output.name]; got != output.want {
			return fmt.Errorf("the output %s is %q instead of %q", output.name, got, output.want)
		}
	}
	if len(o.revisions) != s.revision {
		return fmt.Errorf("the store has %d revisions of %s instead of %d", len(o.revisions), s.resource, s.revision)
	}
	sent, writes := o.sent(), o.writes()
	switch {
	case s.created && sent == 0:
		return errors.New("a revision was created, but nothing was sent")
	case before == nil:
		return nil
	case s.created && o.outputs["remote-digest"] == before.outputs["remote-digest"]:
		return fmt.Errorf("the changed image has the digest of the one before, %s", o.outputs["remote-digest"])
	case s.created && sent > before.sent()/10:
		return fmt.Errorf("only a small layer changed, but %d bytes were sent, after %d the first time", sent, before.sent())
	case s.created:
		return nil
	case sent != 0 || len(writes) != 0:
		return fmt.Errorf("nothing was to be sent, but %d bytes were: %s", sent, strings.Join(writes, ", "))
	}
	for _, output := range []string{"remote-digest", "remote-image", "source-digest"} {
		if was, is := before.outputs[output], o.outputs[output]; was != is {
			return fmt.Errorf("the output %s was %q and is now %q", output, was, is)
		}
	}
	return nil
}

// sent returns the bytes of content that the registry and the storage received.
func (o *outcome) sent() (sum int64) {
	for _, r := range o.requests {
		if r.Server == "registry" || r.Server == "storage" {
			sum += r.BodyBytes
		}
	}
	return sum
}

// writes returns the requests that change something at Charmhub, or could. The
// store has one question that is a POST: which text names an image.
func (o *outcome) writes() (writes []string) {
	for _, r := range o.requests {
		if r.Method != http.MethodGet && r.Method != http.MethodHead &&
			r.Server != "auth" && r.Server != "sso" && !strings.HasSuffix(r.Path, "/oci-image/blob") {
			writes = append(writes, r.Method+" "+r.Path)
		}
	}
	return writes
}

// checkImage pulls the image that the revision names, as a cluster would, and
// verifies every digest in it. Its ID, which engines take from the config or
// from the manifest, has to be that of the source.
func (d *demo) checkImage(ctx context.Context, reference, source string, revision []byte) error {
	if !bytes.Contains(revision, []byte(`"`+reference+`"`)) {
		return fmt.Errorf("the revision doesn't name the image %s, which the action says it does", reference)
	}
	remoteName, err := name.NewDigest(reference)
	if err != nil {
		return fmt.Errorf("the output remote-image is no reference: %w", err)
	}
	_, username, password := d.sandbox.RegistryAuth(charm, imageResource)
	image, err := remote.Image(remoteName, remote.WithContext(ctx), remote.WithAuth(&authn.Basic{Username: username, Password: password}))
	if err == nil {
		err = validate.Image(image)
	}
	if err != nil {
		return fmt.Errorf("pulling the image %s: %w", reference, err)
	}
	config, err := image.ConfigName()
	if err != nil {
		return err
	}
	if source != config.String() && source != remoteName.DigestStr() {
		return fmt.Errorf("the image %s with the config %s is not %s, which was uploaded", reference, config, source)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const (
	charmName     = "bench"
	imageResource = "image"
	fileResource  = "file"
)

// hub is a Charmhub with one empty repository, behind the link.
type hub struct {
	*server.Server
	proxies []net.Listener
}

func (b *bench) newHub() (_ *hub, err error) {
	h := &hub{}
	options := server.Options{Charms: []server.Charm{{Name: charmName, Resources: []server.Resource{
		{Name: imageResource, Type: server.TypeImage}, {Name: fileResource, Type: server.TypeFile},
	}}}}
	if b.link.rtt > 0 || b.link.rate > 0 {
		options.Behind = func(_, addr string) (string, error) {
			proxy, err := b.link.before(addr)
			if err != nil {
				return "", err
			}
			h.proxies = append(h.proxies, proxy)
			return proxy.Addr().String(), nil
		}
	}
	h.Server, err = server.Start(options)
	return h, err
}

func (h *hub) close() {
	err := h.Close()
	for _, proxy := range h.proxies {
		err = errors.Join(err, proxy.Close())
	}
	if err != nil {
		progress("closing the sandbox: %v", err)
	}
}

// repository returns the name of the charm's repository, and options to use it.
func (h *hub) repository(ctx context.Context) (repository string, options []remote.Option) {
	repository, username, password := h.RegistryAuth(charmName, imageResource)
	return repository, []remote.Option{
		remote.WithContext(ctx), remote.WithAuth(&authn.Basic{Username: username, Password: password}),
	}
}

// counts returns the requests since the last reset by what served them, and the
// bytes that came with those to the registry and the storage.
func (h *hub) counts() (requests map[string]int, sent int64) {
	requests = map[string]int{}
	for _, request := range h.Requests() {
		requests[request.Server]++
		if request.Server == "registry" || request.Server == "storage" {
			sent += request.BodyBytes
		}
	}
	return requests, sent
}

// check returns an error unless a run left the upload where its outputs say, or
// else, as other tools do, under the tag latest.
func (h *hub) check(ctx context.Context, s scenario, u upload, outputs map[string]string) error {
	if s.kind == "file" {
		revisions := h.Revisions(charmName, fileResource)
		if len(revisions) != 1 || revisions[0].SHA256 != u.sum {
			return fmt.Errorf("the store has %d revisions of the file instead of the one uploaded", len(revisions))
		}
		return nil
	}
	repository, options := h.repository(ctx)
	reference := repository + ":latest"
	if image := outputs["remote-image"]; image != "" {
		reference = image
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		return err
	}
	image, err := remote.Image(ref, options...)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", reference, err)
	}
	config, err := image.ConfigName()
	if err == nil && config.String() != u.sum {
		err = fmt.Errorf("%s has config %s instead of %s", reference, config, u.sum)
	}
	return err
}

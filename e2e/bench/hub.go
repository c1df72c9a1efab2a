package main

import (
	"context"
	"fmt"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const (
	charmName    = "bench"
	resourceName = "image"
)

// hub is a Charmhub with one empty repository. A nil hub is none: it counts
// nothing and finds nothing wrong.
type hub struct{ *server.Server }

func newHub() (*hub, error) {
	s, err := server.Start(server.Options{Charms: []server.Charm{
		{Name: charmName, Resources: []server.Resource{{Name: resourceName, Type: server.TypeImage}}},
	}})
	return &hub{s}, err
}

func (h *hub) close() {
	if err := h.Close(); err != nil {
		progress("closing the sandbox: %v", err)
	}
}

func (h *hub) reset() {
	if h != nil {
		h.ResetRequests()
	}
}

// requests are counts of requests by what served them.
type requests struct{ store, registry, auth int }

func (r requests) String() string { return fmt.Sprintf("%d + %d + %d", r.store, r.registry, r.auth) }

// counts returns the requests since the last reset, and the bytes that came
// with those to the registry.
func (h *hub) counts() (r requests, sent int64) {
	if h == nil {
		return r, 0
	}
	for _, request := range h.Requests() {
		switch request.Server {
		case "registry":
			r.registry++
			sent += request.BodyBytes
		case "auth":
			r.auth++
		default:
			r.store++
		}
	}
	return r, sent
}

// check returns an error unless a run left this image in the repository, where
// it says that it did.
func (h *hub) check(ctx context.Context, left *home, image *loaded) error {
	if h == nil {
		return nil
	}
	there, err := h.image(ctx, left.result())
	if err != nil {
		return err
	}
	config, err := there.ConfigName()
	if err == nil && config != image.config {
		err = fmt.Errorf("%s has config %s instead of %s", left.result(), config, image.config)
	}
	return err
}

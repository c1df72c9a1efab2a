package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const (
	charmName     = "bench"
	imageResource = "image"
	fileResource  = "file"
)

// hub is a Charmhub with one empty repository, behind a link.
type hub struct {
	*server.Server
	proxies    []net.Listener
	repository string           // of the charm, with the registry's host
	login      authn.AuthConfig // for that
}

// newHub starts a hub, whose registry may be slow; nil is one that isn't.
func newHub(l *link, slow *slowRegistry) (_ *hub, err error) {
	h := &hub{}
	h.Server, err = server.Start(server.Options{
		Charms: []server.Charm{{Name: charmName, Resources: []server.Resource{
			{Name: imageResource, Type: server.TypeImage}, {Name: fileResource, Type: server.TypeFile},
		}}},
		Behind: func(name, addr string) (string, error) {
			l := l
			if slow != nil && name == "registry" {
				l = slow.link
			}
			if l.String() == loopback {
				return addr, nil
			}
			proxy, err := l.before(addr)
			if err != nil {
				return "", err
			}
			h.proxies = append(h.proxies, proxy)
			return proxy.Addr().String(), nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("starting a Charmhub: %w", err)
	}
	if slow != nil {
		h.Fault(slow.delay)
	}
	h.repository, h.login.Username, h.login.Password = h.RegistryAuth(charmName, imageResource)
	return h, nil
}

// close stops the proxies and the sandbox. It returns the sandbox's error.
func (h *hub) close() error {
	for _, proxy := range h.proxies {
		_ = proxy.Close()
	}
	return h.Close()
}

// registry returns the host of the registry.
func (h *hub) registry() string {
	host, _, _ := strings.Cut(h.repository, "/")
	return host
}

// options are for use of the repository by the bench itself.
func (h *hub) options(ctx context.Context) []crane.Option {
	return []crane.Option{crane.WithContext(ctx), crane.WithAuth(authn.FromConfig(h.login))}
}

// check returns an error unless a run left the upload where the output
// remote-image says, or else, as other tools do, under the tag latest.
func (h *hub) check(ctx context.Context, kind string, u upload, remoteImage string) error {
	var got string
	if revisions := h.Revisions(charmName, fileResource); kind == "file" && len(revisions) > 0 {
		got = revisions[len(revisions)-1].SHA256
	} else {
		config, err := crane.Config(cmp.Or(remoteImage, h.repository+":latest"), h.options(ctx)...)
		if err != nil {
			return fmt.Errorf("looking for what was uploaded: %w", err)
		}
		got = fmt.Sprintf("%x", sha256.Sum256(config))
	}
	if got != u.sum {
		return fmt.Errorf("sha256:%s was to be uploaded, but sha256:%s was", u.sum, got)
	}
	return nil
}

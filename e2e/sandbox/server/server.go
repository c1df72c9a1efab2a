// Package server is a Charmhub for tests and for trying things out: the publisher's API of the store, the storage that
// takes uploads, the single sign-on, and a real OCI registry (CNCF distribution) with real token auth, each on a port
// of its own on loopback.
//
// It keeps the rules that a client can trip over: who owns a charm, what a token permits, which type a resource has,
// that a review takes time, that identical content makes no second revision, that an image is known only when its
// manifest is in the charm's repository. It records every request, and can fail in chosen ways (see [Fault]).
//
// It is not a place to keep anything: what was uploaded ends with [Server.Close].
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

// Server is a running sandbox. The URLs are those of its servers, without a trailing slash.
type Server struct {
	StoreURL    string
	StorageURL  string
	RegistryURL string
	SSOURL      string
	RealmURL    string // of the registry's token service, with its path

	options  Options
	dir      string
	token    string
	registry http.Handler
	// stopRegistry is nil until there is one.
	stopRegistry func() error
	signer       tokenSigner
	keys         macaroonKeys
	log          requestLog
	secrets      secretSet
	memory       *inmemory.Driver // the registry's data, if it is in memory
	searched     searched
	charms       map[string]*charm // the map, names and IDs never change; all else does, under mu

	servers  []*http.Server
	closing  chan struct{}
	inflight sync.WaitGroup

	mu        sync.Mutex // guards what follows
	closed    bool
	fault     func(Request) *Fault
	uploads   map[string]*upload
	reviews   map[string]*review
	passwords map[string]registryGrant
	sessions  []session      // of the tokens that were given out, oldest first
	ahead     time.Duration  // by AdvanceClock
	asked     map[string]int // requests by what they ask for, where some of them fail in passing
}

// Start returns a sandbox that is ready to be called, or an error when the options make no sense, the address isn't on
// loopback or can't be had.
func Start(options Options) (*Server, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "charmhub-sandbox-")
	if err != nil {
		return nil, fmt.Errorf("making the sandbox's folder: %w", err)
	}
	s := &Server{
		options:   options,
		dir:       dir,
		keys:      newMacaroonKeys(),
		closing:   make(chan struct{}),
		charms:    newCharms(options.Charms),
		uploads:   map[string]*upload{},
		reviews:   map[string]*review{},
		passwords: map[string]registryGrant{},
		asked:     map[string]int{},
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.token = s.Mint(Grant{Outdated: options.OutdatedToken})
	return s, nil
}

// start listens, and starts each server of the sandbox.
func (s *Server) start() error {
	if err := os.Mkdir(filepath.Join(s.dir, "uploads"), 0o700); err != nil {
		return fmt.Errorf("making the sandbox's folder: %w", err)
	}
	names := []string{"store", "storage", "registry", "sso"}
	if s.options.SeparateTokenService {
		names = append(names, "auth")
	}
	listeners, err := listen(s.options.Addr, len(names))
	if err != nil {
		return err
	}
	urls, err := s.urls(names, listeners)
	if err != nil {
		closeAll(listeners)
		return err
	}
	s.StoreURL, s.StorageURL, s.RegistryURL, s.SSOURL = urls["store"], urls["storage"], urls["registry"], urls["sso"]
	// Clients such as go-containerregistry refuse a realm whose host is the literal address of a loopback other than the
	// registry's own host and port, so it goes by name.
	if s.options.SeparateTokenService {
		s.RealmURL = byName(urls["auth"]) + separateRealmPath
	} else {
		s.StoreURL = byName(s.StoreURL)
		s.RealmURL = s.StoreURL + realmPath
	}
	if err := s.openRegistry(); err != nil {
		closeAll(listeners)
		return err
	}
	handlers := map[string]http.Handler{
		"store": s.storeHandler(), "storage": s.storageHandler(), "registry": s.registry, "sso": s.ssoHandler(),
		"auth": s.realmHandler(),
	}
	for i, name := range names {
		s.serve(listeners[i], name, handlers[name])
	}
	return nil
}

// byName returns the URL with the name localhost in the place of 127.0.0.1.
func byName(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }

// urls returns the URL by which clients find each server.
func (s *Server) urls(names []string, listeners []net.Listener) (map[string]string, error) {
	urls := map[string]string{}
	for i, name := range names {
		addr := listeners[i].Addr().String()
		if s.options.Behind != nil {
			var err error
			if addr, err = s.options.Behind(name, addr); err != nil {
				return nil, fmt.Errorf("putting the %s behind something: %w", name, err)
			}
		}
		if urls[name] = addr; !strings.Contains(addr, "://") {
			urls[name] = "http://" + addr
		}
	}
	return urls, nil
}

// AdvanceClock puts the clock of Options.TextPeriod and Options.Lag forward.
func (s *Server) AdvanceClock(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += by
}

// now is the time by the sandbox's clock. It must be called under the lock.
func (s *Server) now() time.Time { return time.Now().Add(s.ahead) }

// Env returns the variables that lead charmcraft and the action to the sandbox, one NAME=value each; among them the
// token, which is a secret.
func (s *Server) Env() []string {
	return []string{
		"CHARMCRAFT_AUTH=" + s.token,
		"CHARMCRAFT_STORE_API_URL=" + s.StoreURL,
		"CHARMCRAFT_UPLOAD_URL=" + s.StorageURL,
		"CHARMCRAFT_REGISTRY_URL=" + s.RegistryURL,
		"CHARMCRAFT_STORE_SSO_URL=" + s.SSOURL,
	}
}

// Close ends every connection, waits for what was being handled, and removes everything that was uploaded. It may be
// called twice.
func (s *Server) Close() error {
	s.mu.Lock()
	already := s.closed
	s.closed = true
	s.mu.Unlock()
	if already {
		return nil
	}
	close(s.closing)
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	s.inflight.Wait()
	if s.stopRegistry != nil {
		errs = append(errs, s.stopRegistry())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// wait returns after d, or earlier when the client has gone or the sandbox closes.
func (s *Server) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-s.closing:
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/token" // the registry's "token" auth
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // its storage in files
	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
)

// openRegistry makes the registry, which trusts the tokens of the realm alone.
func (s *Server) openRegistry() (err error) {
	// distribution logs every request through the process-wide logger.
	logrus.SetLevel(logrus.PanicLevel)
	service := s.RegistryURL + "/"
	if s.options.SeparateTokenService {
		service = strings.TrimPrefix(s.RegistryURL, "http://")
	}
	if s.signer, err = newTokenSigner(service, s.options.TokenLife); err != nil {
		return err
	}
	keys, certificate := filepath.Join(s.dir, "jwks.json"), filepath.Join(s.dir, "certificate.pem")
	err = errors.Join(os.WriteFile(keys, s.signer.publicKeys(), 0o600),
		os.WriteFile(certificate, s.signer.certificate, 0o600))
	if err != nil {
		return fmt.Errorf("writing the registry's keys: %w", err)
	}
	if s.options.Registry != "" {
		s.registry, s.stopRegistry, err = s.startRegistry(keys, certificate)
		return err
	}
	defer func() {
		if failure := recover(); failure != nil { // how NewApp tells that a configuration is wrong
			err = fmt.Errorf("starting the registry: %v", failure)
		}
	}()
	app := handlers.NewApp(context.Background(), s.registryConfiguration(keys))
	s.registry, s.stopRegistry = app, app.Shutdown
	return nil
}

// registryConfiguration returns the registry's configuration. Keys is the path of the token service's certificate.
func (s *Server) registryConfiguration(keys string) *configuration.Configuration {
	config := &configuration.Configuration{}
	config.HTTP.Secret = randomText()
	config.HTTP.RelativeURLs = true
	config.Storage = configuration.Storage{
		"filesystem": {"rootdirectory": filepath.Join(s.dir, "registry")},
		// The purger of old uploads is a goroutine that nothing stops.
		"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
	}
	if s.options.InMemory {
		delete(config.Storage, "filesystem")
		s.memory = inmemory.New()
		config.Storage[shared] = configuration.Parameters{"driver": s.memory}
	}
	config.Auth = configuration.Auth{"token": {
		"realm":   s.RealmURL,
		"service": s.signer.service,
		"issuer":  tokenIssuer,
		"jwks":    keys,
	}}
	// Foreign layers stay where their URLs say.
	config.Validation.Manifests.URLs.Allow = []string{"^https?://"}
	return config
}

// hasManifest asks the registry itself, past the request log.
func (s *Server) hasManifest(ctx context.Context, repository string, manifest digest.Digest) bool {
	request := httptest.NewRequestWithContext(ctx, http.MethodHead, "/v2/"+repository+"/manifests/"+manifest.String(), nil)
	for _, accepted := range []string{
		"application/vnd.oci.image.index.v1+json",
		"application/vnd.oci.image.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.list.v2+json",
		"application/vnd.docker.distribution.manifest.v2+json",
	} {
		request.Header.Add("Accept", accepted)
	}
	bearer, err := s.signer.sign("sandbox", []access{{Type: "repository", Name: repository, Actions: []string{"pull"}}})
	if err != nil {
		return false
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	for range 10 {
		answer := httptest.NewRecorder()
		s.registry.ServeHTTP(answer, request)
		// Distribution 2 fails while it writes what is there already once more.
		if answer.Code < http.StatusInternalServerError {
			return answer.Code == http.StatusOK
		}
		s.wait(ctx, 100*time.Millisecond)
	}
	return false
}

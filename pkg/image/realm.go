package image

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// checkRealm refuses a registry that would have its credentials sent to a token
// service over plain HTTP, which the library that reads from it would do. What
// else is wrong with the registry is for that library to say.
func checkRealm(ctx context.Context, registry string) error {
	reg, err := name.NewRegistry(registry)
	if err != nil {
		return err
	}
	challenge, err := transport.Ping(ctx, reg, http.DefaultTransport)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	realm, err := url.Parse(challenge.Parameters["realm"])
	if err != nil {
		return fmt.Errorf("registry %s names a token service that is no address: %w", registry, err)
	}
	if realm.Scheme == "http" && !loopback(realm.Host) {
		return fmt.Errorf("registry %s wants credentials sent to %s without TLS, which is refused", registry, realm.Host)
	}
	return nil
}

package harness

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/faultproxy"
)

// Proxies are the proxies in front of a sandbox's servers, by the names that server.Request gives to the servers.
type Proxies map[string]*faultproxy.Proxy

// StartBehindProxies starts a sandbox each of whose servers is found at a proxy
// alone.
func StartBehindProxies(t *testing.T, options server.Options) (*server.Server, Proxies) {
	t.Helper()
	all := Proxies{}
	options.SeparateTokenService = true // so that what befalls it doesn't befall the store
	options.Behind = func(name, addr string) (string, error) {
		proxy, err := faultproxy.Start(addr)
		if err != nil {
			return "", err
		}
		t.Cleanup(proxy.Close)
		all[name] = proxy
		return proxy.Addr(), nil
	}
	return StartSandbox(t, options), all
}

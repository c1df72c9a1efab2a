package e2e

import (
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/faultproxy"
)

// proxies are what stands before the servers of a sandbox, by their names in
// server.Request.
type proxies map[string]*faultproxy.Proxy

// startBehindProxies starts a sandbox each of whose servers is found at a proxy
// alone.
func startBehindProxies(t *testing.T, options server.Options) (*server.Server, proxies) {
	t.Helper()
	all := proxies{}
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
	return startSandbox(t, options), all
}

package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// proxies are what stands before the servers of a sandbox, by their names in
// server.Request.
type proxies map[string]*toxiproxy.Proxy

// startBehindProxies starts a sandbox each of whose servers is found at a proxy
// alone.
func startBehindProxies(t *testing.T, options server.Options) (*server.Server, proxies) {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log by themselves
	all := proxies{}
	control := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	options.SeparateTokenService = true // so that what befalls it doesn't befall the store
	options.Behind = func(name, addr string) (string, error) {
		proxy := toxiproxy.NewProxy(control, name, "127.0.0.1:0", addr)
		if err := proxy.Start(); err != nil {
			return "", err
		}
		t.Cleanup(proxy.Stop)
		all[name] = proxy
		return proxy.Listen, nil
	}
	return startSandbox(t, options), all
}

// toxic is something that goes wrong with the connections of a proxy, those
// that are open as well. See toxiproxy for types and attributes.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream: towards the sandbox, or downstream
	Attributes map[string]int `json:"attributes,omitempty"`
}

// poison adds a toxic to a server's proxy and returns what removes it, which
// may be called twice.
func (p proxies) poison(t *testing.T, name string, what toxic) (heal func()) {
	t.Helper()
	if what.Name == "" {
		what.Name = what.Type
	}
	text, err := json.Marshal(what)
	if err == nil {
		_, err = p[name].Toxics.AddToxicJson(strings.NewReader(string(text)))
	}
	if err != nil {
		t.Errorf("toxic %s for the %s: %v", text, name, err)
	}
	return func() { _ = p[name].Toxics.RemoveToxic(context.Background(), what.Name) }
}

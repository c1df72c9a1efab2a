package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// startRegistry runs the distribution binary of the options. It returns what passes requests on to it, and what ends
// it. The binary listens on a socket in the sandbox's folder, so that no other process can take its place.
func (s *Server) startRegistry(keys, certificate string) (http.Handler, func() error, error) {
	configuration := filepath.Join(s.dir, "registry.yml")
	socket := filepath.Join(s.dir, "registry.socket")
	if err := os.WriteFile(configuration, []byte(s.childConfiguration(keys, certificate, socket)), 0o600); err != nil {
		return nil, nil, fmt.Errorf("writing the registry's configuration: %w", err)
	}

	// read once the process has ended
	var printed bytes.Buffer
	//nolint:gosec // the caller names the program
	child := exec.CommandContext(context.Background(), s.options.Registry, "serve", configuration)
	// REGISTRY_… would change the configuration
	child.Env = []string{}
	child.Stdout, child.Stderr = &printed, &printed
	if err := child.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting the registry: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = child.Wait() // what it printed says more
		close(ended)
	}()
	stop := func() error {
		_ = child.Process.Kill() // or it has ended by itself
		<-ended
		return nil
	}
	if err := waitForSocket(socket, ended); err != nil {
		_ = stop()
		return nil, nil, fmt.Errorf("starting the registry %s: %w: %s", s.options.Registry, err, printed.Bytes())
	}
	return passTo(socket), stop, nil
}

// childConfiguration is the same as registryConfiguration, as a file; JSON is YAML. Distribution 2 reads the
// certificate, distribution 3 the keys.
func (s *Server) childConfiguration(keys, certificate, socket string) string {
	type fields = map[string]any
	return toJSON(fields{
		"version": "0.1",
		"log":     fields{"level": "error", "accesslog": fields{"disabled": true}},
		"storage": fields{
			"filesystem":  fields{"rootdirectory": filepath.Join(s.dir, "registry")},
			"maintenance": fields{"uploadpurging": fields{"enabled": false}},
		},
		"http": fields{"net": "unix", "addr": socket, "secret": randomText(), "relativeurls": true},
		"auth": fields{"token": fields{
			"realm": s.RealmURL, "service": s.signer.service, "issuer": tokenIssuer,
			"rootcertbundle": certificate, "jwks": keys,
		}},
		"validation": fields{"manifests": fields{"urls": fields{"allow": []string{"^https?://"}}}},
	})
}

// waitForSocket returns when the socket takes connections, or an error when what was to open it has ended, or takes
// half a minute.
func waitForSocket(socket string, ended <-chan struct{}) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for {
		select {
		case <-ended:
			return errors.New("it ended at once")
		case <-late:
			return errors.New("it doesn't answer")
		case <-tick.C:
			if conn, err := new(net.Dialer).DialContext(context.Background(), "unix", socket); err == nil {
				return conn.Close()
			}
		}
	}
}

// passTo passes each request on to who listens on a socket, and its answer back, as they come. What breaks on one side
// breaks on the other, and a client that asks before it sends a body is answered by whom it asks.
func passTo(socket string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "registry"
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
			DisableCompression:    true,
			MaxIdleConnsPerHost:   16,
			ExpectContinueTimeout: time.Second, // distribution 2 may refuse only after the body
		},
		FlushInterval: -1,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:      log.New(io.Discard, "", 0),
	}
}

package uploads

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// serveTLS serves a handler with the certificate in a folder, and returns the host.
func serveTLS(t *testing.T, dir string, handler http.Handler) string {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestUnknownCA: a server with a certificate of a CA of its own is trusted if SSL_CERT_FILE names the CA's certificate.
// Else the error says so at once, and nothing is sent without TLS.
func TestUnknownCA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificate(t, dir)
	front := func(t *testing.T, to string) string {
		t.Helper()
		u, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		return serveTLS(t, dir, httputil.NewSingleHostReverseProxy(u))
	}
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	plain := harness.HostOf(harness.Serve(t, holder))
	digest := harness.Push(t, plain+"/image", harness.PlatformImage(t, "linux/amd64"))
	sandboxOf := func(t *testing.T) *server.Server {
		t.Helper()
		return harness.StartSandbox(t, server.Options{InMemory: true})
	}
	for name, inputs := range map[string]func(t *testing.T, sandbox *server.Server) (host string, inputs []string){
		"source": func(t *testing.T, _ *server.Server) (string, []string) {
			t.Helper()
			host := serveTLS(t, dir, holder)
			return host, []string{"image=" + host + "/image@" + digest}
		},
		"store": func(t *testing.T, sandbox *server.Server) (string, []string) {
			t.Helper()
			host := front(t, sandbox.StoreURL)
			return host, []string{"image=" + plain + "/image@" + digest, "store-url=https://" + host}
		},
		"storage": func(t *testing.T, sandbox *server.Server) (string, []string) {
			t.Helper()
			host := front(t, sandbox.StorageURL)
			file := filepath.Join(t.TempDir(), "file")
			harness.WriteFile(t, file, "content")
			return host, []string{"resource=" + harness.FileResource, "filepath=" + file, "storage-url=https://" + host}
		},
		"registry": func(t *testing.T, sandbox *server.Server) (string, []string) {
			t.Helper()
			host := front(t, sandbox.RegistryURL)
			return host, []string{"image=" + plain + "/image@" + digest, "registry-url=https://" + host}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := sandboxOf(t)
			host, given := inputs(t, sandbox)
			given = append([]string{"resource=" + harness.ImageResource}, given...)
			began := time.Now()
			r := harness.Upload(t, sandbox, given...)
			r.Failed(t, sandbox, "the certificate of "+host+" can't be trusted", "x509: certificate signed by unknown authority",
				"set the variable SSL_CERT_FILE", "workspace")
			text := harness.AnnotationOf(r, "error")
			if strings.Count(text, "x509") != 1 || strings.Contains(text, "http://") || time.Since(began) > 10*time.Second {
				t.Errorf("after %s: %s", time.Since(began), text)
			}
			if name != "registry" { // whose tokens are had without TLS
				harness.Upload(t, sandbox, append(given, "SSL_CERT_FILE="+filepath.Join(dir, "certificate.pem"))...).Succeeded(t)
			}
		})
	}
}

// TestHTTPSAskedFor: a registry on this machine that is given with https:// is never asked without TLS.
func TestHTTPSAskedFor(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	u, err := url.Parse(sandbox.RegistryURL)
	if err != nil {
		t.Fatal(err)
	}
	var seen harness.Witness
	seen.Answer = httputil.NewSingleHostReverseProxy(u)
	host := harness.HostOf(harness.Serve(t, &seen))
	image, _ := writeOneLayer(t, 1<<10)
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image, "registry-url=https://"+host)
	r.Failed(t, sandbox, host, "give http:// if it has no TLS")
	if requests := seen.All(); len(requests) > 0 {
		t.Errorf("it was asked %v", requests)
	}
}

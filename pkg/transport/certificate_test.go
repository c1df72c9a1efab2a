package transport

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestUnknownCertificate: a server whose CA is unknown is asked once, and never without TLS.
func TestUnknownCertificate(t *testing.T) {
	t.Parallel()
	var plain atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain.Add(1) }))
	server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	server.StartTLS()
	t.Cleanup(server.Close)
	carrier := New(ignore, zap.NewNop())
	began := time.Now()
	for _, scheme := range []string{"https", "http"} {
		//nolint:bodyclose // there is none
		_, err := carrier.RoundTrip(request(t, http.MethodGet, scheme+"://"+server.Listener.Addr().String(), nil))
		var untrusted *CertificateError
		if !errors.As(err, &untrusted) || !strings.Contains(err.Error(), "SSL_CERT_FILE") ||
			!strings.Contains(err.Error(), "workspace") {
			t.Errorf("%s: error %v, want one that names SSL_CERT_FILE", scheme, err)
		}
	}
	if plain.Load() > 0 || time.Since(began) > 5*time.Second {
		t.Errorf("asked %d times, for %s", plain.Load(), time.Since(began))
	}
}

// TestCertificateAdvice isn't parallel to others, whose environment it changes.
func TestCertificateAdvice(t *testing.T) {
	present := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(present, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err        error
		file, want string
		names      bool // SSL_CERT_FILE
	}{
		{x509.UnknownAuthorityError{}, "", "must lie in the workspace", true},
		{x509.UnknownAuthorityError{}, present, "must lie in the workspace", true},
		{x509.UnknownAuthorityError{}, "/tmp/no/ca.pem", "now it is set, but open /tmp/no/ca.pem: no such file", true},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "", "the clock of this machine", false},
	} {
		t.Setenv("SSL_CERT_FILE", test.file)
		text := (&CertificateError{"example.com", test.err}).Error()
		if !strings.Contains(text, test.want) || strings.Contains(text, "SSL_CERT_FILE") != test.names ||
			test.file == present && strings.Contains(text, "now it is set") {
			t.Errorf("%v with %q: %s", test.err, test.file, text)
		}
	}
}

// TestRequireHTTPS: a server on this machine that is given with https:// isn't asked without TLS.
func TestRequireHTTPS(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	carrier := New(ignore, zap.NewNop())
	carrier.RequireHTTPS(u.Host)
	_, err = carrier.RoundTrip(request(t, http.MethodGet, server.URL, nil)) //nolint:bodyclose // there is none
	if !errors.Is(err, errRefused) || asked.Load() > 0 {
		t.Errorf("asked %d times, error %v", asked.Load(), err)
	}
}

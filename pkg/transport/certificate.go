package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
)

// CertificateError says that a server's certificate can't be verified.
type CertificateError struct {
	Host string
	Err  error
}

// Error says what is wrong with the certificate, and how to trust a CA of one's own.
func (e *CertificateError) Error() string {
	advice := "check its address and its certificate, and the clock of this machine"
	if _, ok := errors.AsType[x509.UnknownAuthorityError](e.Err); ok {
		advice = "if the server has a certificate of your own CA, or a proxy replaces certificates, set the variable " +
			"SSL_CERT_FILE to a PEM file with the CA's certificate, which must lie in the workspace"
		if file := os.Getenv("SSL_CERT_FILE"); file != "" {
			if _, err := os.ReadFile(file); err != nil {
				advice += fmt.Sprintf("; now it is set, but %v", err)
			}
		}
	}
	return fmt.Sprintf("the certificate of %s can't be trusted: %v; %s", e.Host, e.Err, advice)
}

// Unwrap returns the failed verification.
func (e *CertificateError) Unwrap() error { return e.Err }

// certificates explains errors about certificates, and keeps plain HTTP from a server that has TLS: some clients try it
// after https failed, for whatever reason.
type certificates struct {
	base  http.RoundTripper
	hosts *sync.Map // by host and port: why it isn't asked without TLS
}

// RoundTrip fails with a [*CertificateError] for an untrusted certificate, and for plain HTTP to such a host.
func (c certificates) RoundTrip(req *http.Request) (*http.Response, error) {
	if why, ok := c.hosts.Load(req.URL.Host); ok && req.URL.Scheme == "http" {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, why.(error) //nolint:forcetypeassert // only errors are stored
	}
	res, err := c.base.RoundTrip(req)
	if invalid, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		err = &CertificateError{req.URL.Host, invalid.Err}
		c.hosts.Store(req.URL.Host, err)
	}
	return res, err
}

// RequireHTTPS makes requests without TLS to a host fail. The host has a port if the URL has one.
func (t *Transport) RequireHTTPS(host string) {
	t.hosts.Store(host, fmt.Errorf("%w to http://%s, which is given with https://; give http:// if it has no TLS",
		errRefused, host))
}

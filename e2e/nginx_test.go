package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// nginxConfiguration is for an ordinary user's process, which keeps all of its
// files in one folder. Its values: the folder, the address, whether it takes a
// request in whole before it passes it on, and to where.
const nginxConfiguration = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events {}
http {
	log_format protocol "$server_protocol $request_method $status";
	access_log %[1]s/access.log protocol;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s ssl http2;
		ssl_certificate %[1]s/certificate.pem;
		ssl_certificate_key %[1]s/key.pem;
		client_max_body_size 0;
		location / {
			proxy_pass %[4]s;
			proxy_http_version 1.1;
			proxy_request_buffering %[3]s;
			proxy_set_header Host $http_host;
		}
	}
}
`

// startNginx puts nginx before a server, with TLS and HTTP/2. The folder has a
// certificate, and gets the log of requests. It returns the URL.
func startNginx(t *testing.T, dir, to, buffering string) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	configuration := filepath.Join(dir, "nginx.conf")
	writeFile(t, configuration, fmt.Sprintf(nginxConfiguration, dir, address, buffering, to))
	nginx := exec.CommandContext(t.Context(), "nginx", "-c", configuration, "-e", filepath.Join(dir, "error.log"))
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nginx.Process.Kill()
		_ = nginx.Wait()
	})
	up := waitFor(t.Context(), func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if !up {
		t.Fatal("nginx doesn't answer")
	}
	return "https://" + address
}

// writeCertificate writes a certificate for this machine that is its own
// authority, and its key.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"certificate.pem": {Type: "CERTIFICATE", Bytes: certificate}, "key.pem": {Type: "PRIVATE KEY", Bytes: private},
	} {
		writeFile(t, filepath.Join(dir, file), string(pem.EncodeToMemory(block)))
	}
}

// TestBehindNginx: the registry as it is met in production, behind a front that
// ends TLS and speaks HTTP/2.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	image, _ := writeOneLayer(t, 9<<20)
	eachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		for _, buffering := range []string{"on", "off"} {
			t.Run("buffering "+buffering, func(t *testing.T) {
				t.Parallel()
				need(t, "nginx", "crane")
				dir, realm := t.TempDir(), t.TempDir()
				writeCertificate(t, dir)
				for _, file := range []string{"certificate.pem", "key.pem"} {
					writeFile(t, filepath.Join(realm, file), readFile(t, filepath.Join(dir, file)))
				}
				options.Behind = func(name, addr string) (string, error) {
					if name == "auth" { // who asks a registry with TLS gives no realm a password without
						addr = startNginx(t, realm, "http://"+addr, buffering)
					}
					return addr, nil
				}
				sandbox := startSandbox(t, options)
				trust := "SSL_CERT_FILE=" + filepath.Join(dir, "certificate.pem")
				inputs := []string{"image=" + image, "registry-url=" + startNginx(t, dir, sandbox.RegistryURL, buffering), trust}
				first := action(t, sandbox, append(inputs, "resource="+imageResource)...)
				first.succeeded(t)
				rerun(t, sandbox, first, inputs...)
				login, _ := registryLogin(t, sandbox, imageResource)
				run(t, "env", trust, "DOCKER_CONFIG="+login, "crane", "pull", "--format", "oci", first.outputs["remote-image"], t.TempDir())
				if requests := readFile(t, filepath.Join(dir, "access.log")); !strings.Contains(requests, "HTTP/2.0 PATCH 202") {
					t.Errorf("no chunk came by HTTP/2:\n%s", requests)
				}
			})
		}
	})
}

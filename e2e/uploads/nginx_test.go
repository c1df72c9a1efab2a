package uploads

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

// nginxConfiguration is for an ordinary user's process, which keeps all of its
// files in one folder. Its values: the folder, the address, whether it takes a
// request in whole before it passes it on, to where, the size of the largest
// body that it takes, and what it speaks beside plain HTTP/1.1.
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
		listen %[2]s reuseport %[6]s;
		ssl_certificate %[1]s/certificate.pem;
		ssl_certificate_key %[1]s/key.pem;
		client_max_body_size %[5]s;
		location / {
			proxy_pass %[4]s;
			proxy_http_version 1.1;
			proxy_request_buffering %[3]s;
			proxy_set_header Host $http_host;
		}
	}
}
`

// front is how an nginx is configured.
type front struct {
	buffering string // on or off
	largest   string // body
	plain     bool   // without TLS and HTTP/2
}

// startNginx puts nginx before a server. The folder has a
// certificate, and gets the log of requests. It returns the URL.
func startNginx(t *testing.T, dir, to string, f front) string {
	t.Helper()
	scheme, protocols := "https", "ssl http2"
	if f.plain {
		scheme, protocols = "http", ""
	}
	address := testkit.ReservePort(t)
	configuration := filepath.Join(dir, "nginx.conf")
	harness.WriteFile(t, configuration, fmt.Sprintf(nginxConfiguration, dir, address, f.buffering, to, f.largest,
		protocols))
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
	return scheme + "://" + address
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
		SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"localhost"},
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
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
		harness.WriteFile(t, filepath.Join(dir, file), string(pem.EncodeToMemory(block)))
	}
}

// startBehindNginx starts a sandbox whose registry has an nginx in front. It
// returns what makes the action use that, and nginx's folder.
func startBehindNginx(
	t *testing.T, options server.Options, f front,
) (sandbox *server.Server, inputs []string, dir string) {
	t.Helper()
	harness.Need(t, "nginx", "crane")
	dir, realm := t.TempDir(), t.TempDir()
	writeCertificate(t, dir)
	for _, file := range []string{"certificate.pem", "key.pem"} {
		harness.WriteFile(t, filepath.Join(realm, file), harness.ReadFile(t, filepath.Join(dir, file)))
	}
	options.SeparateTokenService = true
	options.Behind = func(name, addr string) (string, error) {
		if name == "auth" && !f.plain { // who asks a registry with TLS gives no realm a password without
			addr = startNginx(t, realm, "http://"+addr, front{buffering: "on", largest: "1m"})
		}
		return addr, nil
	}
	sandbox = harness.StartSandbox(t, options)
	url := startNginx(t, dir, sandbox.RegistryURL, f)
	return sandbox, []string{"registry-url=" + url, "SSL_CERT_FILE=" + filepath.Join(dir, "certificate.pem")}, dir
}

// pullsBehindNginx fails the test unless crane pulls what a run published.
func pullsBehindNginx(t *testing.T, sandbox *server.Server, inputs []string, r harness.Result) {
	t.Helper()
	login, _ := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	harness.Tool(t, "env", inputs[1], "DOCKER_CONFIG="+login, "crane", "pull", "--format", "oci",
		r.Outputs["remote-image"], t.TempDir())
}

// TestBehindNginx: the registry as it is met in production, behind a front that
// ends TLS and speaks HTTP/2.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	image, _ := writeOneLayer(t, 9<<20)
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		for _, buffering := range []string{"on", "off"} {
			t.Run("buffering "+buffering, func(t *testing.T) {
				t.Parallel()
				sandbox, inputs, dir := startBehindNginx(t, options, front{buffering: buffering, largest: "0"})
				inputs = append(inputs, "image="+image)
				first := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
				first.Succeeded(t)
				harness.Rerun(t, sandbox, first, inputs...)
				pullsBehindNginx(t, sandbox, inputs, first)
				if requests := harness.ReadFile(t, filepath.Join(dir, "access.log")); !strings.Contains(requests,
					"HTTP/2.0 PATCH 202") {
					t.Errorf("no blob came by HTTP/2:\n%s", requests)
				}
			})
		}
	})
}

// countBytes passes connections on to what an input with a URL names, and counts
// the bytes that are sent there. It returns the input that leads through it.
func countBytes(t *testing.T, input string) (through string, sent *atomic.Int64) {
	t.Helper()
	scheme, to, _ := strings.Cut(input, "://")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	sent = new(atomic.Int64)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() {
				n, _ := io.Copy(server, client)
				sent.Add(n)
				_ = server.Close()
			}()
			go func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			}()
		}
	}()
	return scheme + "://" + listener.Addr().String(), sent
}

// TestBodiesAreLimited: a front that refuses large bodies gets smaller ones. No
// byte of a blob is sent twice but those of the first request that it refuses.
func TestBodiesAreLimited(t *testing.T) {
	t.Parallel()
	image, bytes := writeOneLayer(t, 40<<20)
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		for name, f := range map[string]front{
			"1m":        {"off", "1m", false},
			"1m, plain": {"off", "1m", true},
			"16m":       {"on", "16m", true},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				sandbox, inputs, dir := startBehindNginx(t, options, f)
				front, sent := countBytes(t, inputs[0])
				inputs[0] = front
				r := harness.Upload(t, sandbox, append(inputs, "image="+image, "resource="+harness.ImageResource)...)
				r.Succeeded(t)
				r.HasOutputs(t, map[string]string{"revision": "1", "uploaded": "true"})
				const record = 1000 // bytes, at most, of the locations record's blobs
				if sent := sentOfBlobs(sandbox); sent < bytes || sent > bytes+record {
					t.Errorf("the registry got %d bytes of blobs with %d", sent, bytes)
				}
				refused := strings.Count(harness.ReadFile(t, filepath.Join(dir, "access.log")), " 413\n")
				over := sent.Load() - bytes
				t.Logf("%d requests were refused; %d bytes were sent beyond the blobs", refused, over)
				if refused == 0 || over > bytes/4 {
					t.Errorf("%d bytes were sent beyond the blobs with %d, with %d refused requests", over, bytes, refused)
				}
				pullsBehindNginx(t, sandbox, inputs, r)
			})
		}
	})
}

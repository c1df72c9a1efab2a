package hostile

import (
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// TestSecretsAreOnTheWire: the check of every run has something to check. What
// each server is sent holds what is for it.
func TestSecretsAreOnTheWire(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	token := "store-token=" + sandbox.Mint(server.Grant{Format: server.FormatSSO, DischargeLife: -1})
	r := harness.Upload(t, sandbox, token, "resource="+harness.ImageResource,
		"image="+harness.WriteImageArchive(t, 1000, 1))
	r.Succeeded(t)
	seen := map[string]bool{}
	for _, request := range sandbox.Requests() {
		for secret, owners := range sandbox.SecretOwners() {
			if slices.Contains(owners, request.Server) && strings.Contains(harness.ContentOf(request), secret) {
				seen[request.Server] = true
			}
		}
	}
	for _, name := range []string{"store", "storage", "auth", "registry", "sso"} {
		if !seen[name] {
			t.Errorf("the %s was sent no secret that is for it", name)
		}
	}
}

// TestRedirectsAreNotFollowed: no server can send a request, with what is in
// it, on to another host.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	// One of each kind of call; status 302 makes a GET of a POST, 307 repeats
	// it, body and all.
	redirects := map[string]func(server.Request) bool{
		"store":              func(r server.Request) bool { return r.Server == "store" && r.Method == http.MethodGet },
		"image text":         func(r server.Request) bool { return strings.HasSuffix(r.Path, "/oci-image/blob") },
		"exchange":           func(r server.Request) bool { return strings.HasSuffix(r.Path, "/usso/exchange") },
		"storage":            func(r server.Request) bool { return r.Server == "storage" },
		"single sign-on":     func(r server.Request) bool { return r.Server == "sso" },
		"token realm":        func(r server.Request) bool { return r.Server == "auth" },
		"registry's ping":    func(r server.Request) bool { return r.Server == "registry" && r.Path == "/v2/" },
		"upload's beginning": func(r server.Request) bool { return r.Server == "registry" && r.Method == http.MethodPost },
		"upload's end":       func(r server.Request) bool { return r.Server == "registry" && r.Method == http.MethodPut },
	}
	for name, which := range redirects {
		for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				elsewhere := &harness.Witness{}
				url := harness.Serve(t, elsewhere)
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				token := sandbox.Mint(server.Grant{Format: server.FormatSSO, DischargeLife: -1})
				sandbox.Fault(func(r server.Request) *server.Fault {
					if !which(r) {
						return nil
					}
					return &server.Fault{Status: status, Header: http.Header{"Location": {url + r.Path}}}
				})
				r := harness.Upload(t, sandbox, "store-token="+token, "resource="+harness.ImageResource, "image="+archive)
				r.Failed(t, sandbox)
				if heard := elsewhere.All(); len(heard) > 0 {
					t.Errorf("the redirect was followed: %q", heard)
				}
			})
		}
	}
}

// TestRegistryReadsElsewhere: registries keep content at other hosts and send
// readers there. Those get to see no credentials.
func TestRegistryReadsElsewhere(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	inputs := []string{"resource=" + harness.ImageResource, "image=" + harness.WriteImageArchive(t, 1000, 1)}
	harness.Upload(t, sandbox, inputs...).Succeeded(t)
	elsewhere := &harness.Witness{Answer: http.NotFoundHandler()}
	url := harness.Serve(t, elsewhere)
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Server != "registry" || r.Method != http.MethodGet || r.Path == "/v2/" {
			return nil
		}
		return &server.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {url + r.Path}}}
	})
	harness.Upload(t, sandbox, inputs...) // ends either way: what is there can't be read
	elsewhere.HeardNone(t, "another host", append(sandbox.Secrets(), "Bearer "))
}

// TestSourceRegistrysSecrets: credentials for the registry that an image comes
// from stay with it and its realm, and it sees none but these.
func TestSourceRegistrysSecrets(t *testing.T) {
	t.Parallel()
	const username, password, bearer = "reader", "correct-horse", "battery-staple"
	basic := base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))

	realm := &harness.Witness{Answer: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"token":%q}`, bearer)
	})}
	challenges := map[string]string{
		"Basic " + basic: `Basic realm="source"`,
		"Bearer " + bearer: fmt.Sprintf("Bearer realm=%q,service=\"source\"",
			strings.Replace(harness.Serve(t, realm), "127.0.0.1", "localhost", 1)),
	}
	repository := harness.Push(t, strings.TrimPrefix(harness.Serve(t, holder), "http://")+"/source/image",
		harness.PlatformImage(t, "linux/amd64"))
	for want, challenge := range challenges {
		source := &harness.Witness{Answer: harness.Guarded(want, challenge, holder)}
		host := strings.TrimPrefix(harness.Serve(t, source), "http://")
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+host+"/source/image@"+repository,
			"source-username="+username, "source-password="+password)
		r.Succeeded(t)
		for _, request := range sandbox.Requests() {
			for _, secret := range []string{username, password, basic, bearer} {
				if strings.Contains(harness.ContentOf(request), secret) {
					t.Errorf("the source's secret %s went astray: %s", secret, request)
				}
			}
		}
		for _, leak := range harness.Leaks(t, []string{password, basic, bearer}, r) {
			t.Error(leak)
		}
		_, authorization, _ := strings.Cut(want, " ")
		for _, secret := range []string{password, basic, authorization} {
			if !strings.Contains(r.Log, harness.MaskCommand+secret+"\n") {
				t.Errorf("the runner was not asked to hide %s", secret)
			}
		}
		source.HeardNone(t, "the source registry", sandbox.Secrets())
		realm.HeardNone(t, "the source's realm", append(sandbox.Secrets(), bearer))
		if strings.HasPrefix(want, "Bearer") {
			source.HeardNone(t, "the source registry, which asks for a bearer token,", []string{password, basic})
		}
	}
}

// TestMaskedBeforeUse: by the time that a server is sent a secret, the runner
// has been asked to hide it, and before that it was printed nowhere.
func TestMaskedBeforeUse(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 1000, 1)
	for _, format := range []server.Format{server.FormatTyped, server.FormatSSO, server.FormatJSON} {
		t.Run(fmt.Sprintf("format %d", format), func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			token := sandbox.Mint(server.Grant{Format: format, DischargeLife: -1})
			// A file has what was printed before a request was sent; a pipe
			// may not yet.
			printed, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = printed.Close() }()
			sandbox.Fault(func(r server.Request) *server.Fault {
				hidden, content := harness.ReadFile(t, printed.Name()), harness.ContentOf(r)
				for secret := range sandbox.SecretOwners() {
					if strings.Contains(content, secret) && !strings.Contains(hidden, harness.MaskCommand+secret+"\n") {
						t.Errorf("the secret %s… was sent before the runner was asked to hide it: %s", secret[:6], r)
					}
				}
				return nil
			})
			command := exec.CommandContext(t.Context(), harness.Program)
			command.Stdout, command.Stderr = printed, printed
			r := harness.Execute(t, command, sandbox, "store-token="+token, "resource="+harness.ImageResource, "image="+archive)
			r.Log = harness.ReadFile(t, printed.Name())
			r.Succeeded(t)
			harness.CheckSecrets(t, sandbox, r) // without a mask before it, or behind it
			encoded := base64.StdEncoding.EncodeToString([]byte(token))
			if !strings.Contains(r.Log, harness.MaskCommand+encoded+"\n") {
				t.Error("the token's base64 isn't hidden")
			}
		})
	}
}

// TestLeastPermissions: the permissions that SECURITY.md tells people to give
// are enough, for one charm.
func TestLeastPermissions(t *testing.T) {
	t.Parallel()
	var permissions []string
	for _, found := range regexp.MustCompile(`--permission=(\S+)`).FindAllStringSubmatch(
		harness.ReadFile(t, harness.Root+"/SECURITY.md"), -1) {
		permissions = append(permissions, found[1])
	}
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	token := "store-token=" + sandbox.Mint(server.Grant{Permissions: permissions, Charms: []string{harness.Charm}})
	file := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, file, "content")
	for _, inputs := range [][]string{
		{"resource=" + harness.ImageResource, "image=" + harness.WriteImageArchive(t, 1000, 1)},
		{"resource=" + harness.FileResource, "filepath=" + file},
		{"resource=" + harness.FileResource, "filepath=" + file, "architectures=arm64"},
	} {
		harness.Upload(t, sandbox, append(inputs, token)...).Succeeded(t)
	}
}

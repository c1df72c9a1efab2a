package e2e

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
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// checkWire fails the test if a server of the sandbox was sent a secret that
// isn't for it. Every run of these tests is checked so.
func checkWire(t *testing.T, sandbox *server.Server) {
	t.Helper()
	if sandbox == nil {
		return
	}
	for _, stray := range strays(sandbox.SecretOwners(), sandbox.Requests()) {
		t.Error(stray)
	}
}

// strays looks for each secret in every part of every request. In a URL, which
// servers write into their logs, it is astray wherever it goes.
func strays(owners map[string]server.Owners, requests []server.Request) (found []string) {
	for _, r := range requests {
		url, content := r.Path+"?"+r.Query.Encode(), contentOf(r)
		for secret, may := range owners {
			switch {
			case strings.Contains(url, secret):
				found = append(found, fmt.Sprintf("the secret %s… is in a URL: %s", secret[:6], r))
			case !slices.Contains(may, r.Server) && strings.Contains(content, secret):
				found = append(found, fmt.Sprintf("the secret %s… is for %q alone: %s", secret[:6], may, r))
			}
		}
	}
	return found
}

// contentOf is a request's header and the beginning of its body.
func contentOf(r server.Request) string {
	var b strings.Builder
	for name, values := range r.Header {
		fmt.Fprintln(&b, name, strings.Join(values, "\n"))
	}
	b.Write(r.Body)
	return b.String()
}

func TestStraysAreFound(t *testing.T) {
	t.Parallel()
	owners := map[string]server.Owners{"correct horse": {"store"}, "battery staple": nil}
	in := func(where, header, body, query string) server.Request {
		return server.Request{
			Server: where, Header: http.Header{"Authorization": {header}}, Body: []byte(body),
			Query: map[string][]string{"q": {query}},
		}
	}
	for want, requests := range [][]server.Request{
		{in("store", "Macaroon correct horse", "", ""), in("sso", "", "nothing", "else")},
		{in("registry", "Bearer correct horse", "", "")},
		{in("store", "", "battery staple", ""), in("storage", "", "a correct horse", "")},
	} {
		if found := strays(owners, requests); len(found) != want {
			t.Errorf("%d strays were found, want %d: %v", len(found), want, found)
		}
	}
	owners = map[string]server.Owners{"correcthorse": {"store"}}
	if found := strays(owners, []server.Request{in("store", "", "", "correcthorse")}); len(found) != 1 {
		t.Error("a secret in a URL isn't found")
	}
}

// TestSecretsAreOnTheWire: the check of every run has something to check. What
// each server is sent holds what is for it.
func TestSecretsAreOnTheWire(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{InMemory: true})
	token := "store-token=" + sandbox.Mint(server.Grant{Format: server.FormatSSO, DischargeLife: -1})
	r := action(t, sandbox, token, "resource="+imageResource, "image="+writeArchive(t, 1000, 1))
	r.succeeded(t)
	seen := map[string]bool{}
	for _, request := range sandbox.Requests() {
		for secret, owners := range sandbox.SecretOwners() {
			if slices.Contains(owners, request.Server) && strings.Contains(contentOf(request), secret) {
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

// witness is a server with a given answer that records every request.
type witness struct {
	answer http.Handler

	mu    sync.Mutex
	heard []string
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	w.mu.Lock()
	w.heard = append(w.heard, fmt.Sprint(r.Method, " ", r.URL, " ", r.Header, " ", string(body)))
	w.mu.Unlock()
	if w.answer != nil {
		w.answer.ServeHTTP(rw, r)
	}
}

func (w *witness) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.heard)
}

// heardNone fails the test if the witness was sent one of the secrets.
func (w *witness) heardNone(t *testing.T, who string, secrets []string) {
	t.Helper()
	for _, request := range w.all() {
		for _, secret := range secrets {
			if strings.Contains(request, secret) {
				t.Errorf("%s was sent the secret %s…", who, secret[:6])
			}
		}
	}
}

// TestRedirectsAreNotFollowed: no server can send a request, with what is in
// it, on to another host.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
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
				elsewhere := &witness{}
				url := serveHTTP(t, elsewhere)
				sandbox := startSandbox(t, server.Options{InMemory: true})
				token := sandbox.Mint(server.Grant{Format: server.FormatSSO, DischargeLife: -1})
				sandbox.Fault(func(r server.Request) *server.Fault {
					if !which(r) {
						return nil
					}
					return &server.Fault{Status: status, Header: http.Header{"Location": {url + r.Path}}}
				})
				r := action(t, sandbox, "store-token="+token, "resource="+imageResource, "image="+archive)
				r.failed(t, sandbox)
				if heard := elsewhere.all(); len(heard) > 0 {
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
	sandbox := startSandbox(t, server.Options{InMemory: true})
	inputs := []string{"resource=" + imageResource, "image=" + writeArchive(t, 1000, 1)}
	action(t, sandbox, inputs...).succeeded(t)
	elsewhere := &witness{answer: http.NotFoundHandler()}
	url := serveHTTP(t, elsewhere)
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Server != "registry" || r.Method != http.MethodGet || r.Path == "/v2/" {
			return nil
		}
		return &server.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {url + r.Path}}}
	})
	action(t, sandbox, inputs...) // ends either way: what is there can't be read
	elsewhere.heardNone(t, "another host", append(sandbox.Secrets(), "Bearer "))
}

// TestSourceRegistrysSecrets: credentials for the registry that an image comes
// from stay with it and its realm, and it sees none but these.
func TestSourceRegistrysSecrets(t *testing.T) {
	t.Parallel()
	const username, password, bearer = "reader", "correct-horse", "battery-staple"
	basic := base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	holder := registry.New(registry.Logger(log.New(io.Discard, "", 0)))

	realm := &witness{answer: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"token":%q}`, bearer)
	})}
	challenges := map[string]string{
		"Basic " + basic: `Basic realm="source"`,
		"Bearer " + bearer: fmt.Sprintf("Bearer realm=%q,service=\"source\"",
			strings.Replace(serveHTTP(t, realm), "127.0.0.1", "localhost", 1)),
	}
	repository := push(t, strings.TrimPrefix(serveHTTP(t, holder), "http://")+"/source/image", platformImage(t, "linux/amd64"))
	for want, challenge := range challenges {
		source := &witness{answer: guarded(want, challenge, holder)}
		host := strings.TrimPrefix(serveHTTP(t, source), "http://")
		sandbox := startSandbox(t, server.Options{InMemory: true})
		r := action(t, sandbox, "resource="+imageResource, "image="+host+"/source/image@"+repository,
			"source-username="+username, "source-password="+password)
		r.succeeded(t)
		for _, request := range sandbox.Requests() {
			for _, secret := range []string{username, password, basic, bearer} {
				if strings.Contains(contentOf(request), secret) {
					t.Errorf("the source's secret %s went astray: %s", secret, request)
				}
			}
		}
		for _, leak := range leaks(t, []string{password, basic, bearer}, r) {
			t.Error(leak)
		}
		_, authorization, _ := strings.Cut(want, " ")
		for _, secret := range []string{password, basic, authorization} {
			if !strings.Contains(r.log, maskCommand+secret+"\n") {
				t.Errorf("the runner was not asked to hide %s", secret)
			}
		}
		source.heardNone(t, "the source registry", sandbox.Secrets())
		realm.heardNone(t, "the source's realm", append(sandbox.Secrets(), bearer))
		if strings.HasPrefix(want, "Bearer") {
			source.heardNone(t, "the source registry, which asks for a bearer token,", []string{password, basic})
		}
	}
}

// guarded lets those through who send the authorization that is wanted.
func guarded(want, challenge string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// TestMaskedBeforeUse: by the time that a server is sent a secret, the runner
// has been asked to hide it, and before that it was printed nowhere.
func TestMaskedBeforeUse(t *testing.T) {
	t.Parallel()
	archive := writeArchive(t, 1000, 1)
	for _, format := range []server.Format{server.FormatTyped, server.FormatSSO, server.FormatJSON} {
		t.Run(fmt.Sprintf("format %d", format), func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			token := sandbox.Mint(server.Grant{Format: format, DischargeLife: -1})
			// A file has what was printed before a request was sent; a pipe
			// may not yet.
			printed, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = printed.Close() }()
			sandbox.Fault(func(r server.Request) *server.Fault {
				hidden, content := readFile(t, printed.Name()), contentOf(r)
				for secret := range sandbox.SecretOwners() {
					if strings.Contains(content, secret) && !strings.Contains(hidden, maskCommand+secret+"\n") {
						t.Errorf("the secret %s… was sent before the runner was asked to hide it: %s", secret[:6], r)
					}
				}
				return nil
			})
			command := exec.CommandContext(t.Context(), program)
			command.Stdout, command.Stderr = printed, printed
			r := execute(t, command, sandbox, "store-token="+token, "resource="+imageResource, "image="+archive)
			r.log = readFile(t, printed.Name())
			r.succeeded(t)
			checkSecrets(t, sandbox, r) // without a mask before it, or behind it
			encoded := base64.StdEncoding.EncodeToString([]byte(token))
			if !strings.Contains(r.log, maskCommand+encoded+"\n") {
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
	for _, found := range regexp.MustCompile(`--permission=(\S+)`).FindAllStringSubmatch(readFile(t, "../SECURITY.md"), -1) {
		permissions = append(permissions, found[1])
	}
	sandbox := startSandbox(t, server.Options{InMemory: true})
	token := "store-token=" + sandbox.Mint(server.Grant{Permissions: permissions, Charms: []string{charm}})
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "content")
	for _, inputs := range [][]string{
		{"resource=" + imageResource, "image=" + writeArchive(t, 1000, 1)},
		{"resource=" + fileResource, "filepath=" + file},
		{"resource=" + fileResource, "filepath=" + file, "architectures=arm64"},
	} {
		action(t, sandbox, append(inputs, token)...).succeeded(t)
	}
}

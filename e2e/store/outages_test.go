package store

import (
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/testkit"
)

const signInPage = "<!DOCTYPE html><html><head><title>Sign in to the network</title></head><body>Accept our " +
	"terms.</body></html>"

// outage is a server that fails, and what the error of the run has to say.
type outage struct {
	on     string // server that fails
	method string // of the requests that fail; empty for all
	path   string // part of their paths
	fault  server.Fault
	file   bool // is uploaded instead of an image
	want   []string
}

// TestOutages: an error is short, names one cause, no URL and no state of an upload, and says what to do next.
func TestOutages(t *testing.T) {
	t.Parallel()
	archive := harness.WriteImageArchive(t, 3<<20, 2)
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "content")
	portal := server.Fault{Status: http.StatusOK, Body: signInPage,
		Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}}
	soon := http.Header{"Retry-After": {"0"}} // which is heeded with 503
	gateway := server.Fault{Status: http.StatusServiceUnavailable, Body: harness.GatewayPage, Header: soon}
	drop := server.Fault{Drop: true}
	const (
		page = ` answered with a web page, "Sign in to the network", as a proxy or the sign-in page of a network does; ` +
			`check `
		blob    = "image.tar: sending the blob sha256:"
		rest    = "; blobs that arrived are kept: run this again later, which sends the rest"
		perhaps = "; the revision may exist all the same; run this again, which uses the revision then"
	)
	outages := map[string]outage{
		"store, sign-in page": {"store", "", "", portal, false,
			[]string{"cannot list the resources of charm 'my-charm': localhost:", page}},
		"storage, sign-in page":  {"storage", "", "", portal, true, []string{"cannot upload 'file': 127.0.0.1:", page}},
		"registry, sign-in page": {"registry", "", "", portal, false, []string{page}},
		"tokens, sign-in page": {"auth", "", "", portal, false,
			[]string{"opening 127.0.0.1:", "/my-image: localhost:", page}},
		"creation, sign-in page": {"store", "POST", "/revisions", portal, true, []string{page, perhaps}},
		"store, gateway": {"store", "", "", gateway, false,
			[]string{"a gateway in front of localhost:", "answered 503 Service Unavailable; run this again later"}},
		"store, gateway's 403": {"store", "", "", server.Fault{Status: 403, Body: signInPage}, false,
			[]string{"something in front of localhost:", "answered 403 Forbidden; check its address, and that this machine " +
				"may reach it"}},
		"store, own failure": {"store", "", "",
			server.Fault{Status: 503, Header: soon, Body: `{"error-list":[{"code":"api-error","message":"Oops."}]}`}, false,
			[]string{"answered 503 Service Unavailable (api-error): Oops; the server has a failure of its own; run this again " +
				"later"}},
		"store, too many": {"store", "", "", server.Fault{Status: 429, Header: http.Header{"Retry-After": {"3600"}}},
			false, []string{"answered 429 Too Many Requests; run this again in 1h0m0s, as it asks"}},
		"storage, gateway": {"storage", "", "", gateway, true,
			[]string{"a gateway in front of 127.0.0.1:", "answered 503 Service Unavailable; run this again later"}},
		"storage, broken": {"storage", "", "", drop, true,
			[]string{"cannot upload 'file': the connection to 127.0.0.1:", "broke off; run this again later"}},
		"creation, gateway": {"store", "POST", "/revisions", gateway, true,
			[]string{"answered 503 Service Unavailable" + perhaps}},
		"creation, broken": {"store", "POST", "/revisions", drop, true,
			[]string{"the store gave no clear answer: the connection to localhost:", "broke off" + perhaps}},
		"review, gateway": {"store", "", "/review", gateway, true,
			[]string{"cannot ask for the review of the upload: ", "answered 503 Service Unavailable" + perhaps}},
		"registry, chunk": {"registry", "PATCH", "", gateway, false,
			[]string{blob, "given up after", " answered 503 Service Unavailable" + rest}},
		"registry, broken chunk": {"registry", "PATCH", "", drop, false,
			[]string{blob, "given up after", "the connection to 127.0.0.1:", "broke off" + rest}},
		"registry, start of blob": {"registry", "POST", "", gateway, false,
			[]string{blob, " answered 503 Service Unavailable" + rest}},
		"registry, end of blob": {"registry", "PUT", "/blobs/", gateway, false,
			[]string{blob, " answered 503 Service Unavailable" + rest}},
		"registry, too large": {"registry", "PATCH", "", server.Fault{Status: 413, Body: harness.GatewayPage}, false,
			[]string{blob, " answered 413 Request Entity Too Large; raise the limit of the registry's front"}},
		"registry, manifest": {"registry", "PUT", "/manifests/", gateway, false,
			[]string{"sending the manifest sha256:", " answered 503 Service Unavailable" + rest}},
		"registry, refused chunk": {"registry", "PATCH", "",
			server.Fault{Status: 403, Body: `{"errors":[{"code":"DENIED","message":"no"}]}`}, false,
			[]string{blob, "the registry refused the credentials that Charmhub gave",
				" answered 403 Forbidden: DENIED: no; check that"}},
		"image, then storage": {"storage", "", "", gateway, false,
			[]string{"making the revision of the image, which the registry has now: cannot upload 'my-image.json': a gateway " +
				"in front of 127.0.0.1:"}},
		"registry, broken": {"registry", "", "", drop, false,
			[]string{"opening 127.0.0.1:", "the connection to 127.0.0.1:", "broke off; check that this machine reaches it"}},
		"registry, own failure": {"registry", "", "",
			server.Fault{Status: 503, Header: soon, Body: `{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}`}, false,
			[]string{"opening 127.0.0.1:", " answered 503 Service Unavailable: UNKNOWN: unknown error; run this again later"}},
		"tokens, own failure": {"auth", "", "", server.Fault{Status: 503, Header: soon, Body: "down"}, false,
			[]string{"opening 127.0.0.1:", "localhost:", " answered 503 Service Unavailable; run this again later"}},
		"tokens, broken": {"auth", "", "", drop, false,
			[]string{"opening 127.0.0.1:", "the connection to localhost:", "broke off; check that this machine reaches it"}},
	}
	names := slices.Sorted(maps.Keys(outages))
	harness.AllAtOnce(t, len(names)+1, func(t *testing.T, n int) { // they wait more than they work
		t.Helper()
		if n == len(names) {
			t.Run("registry is down", func(t *testing.T) { registryIsDown(t, archive) })
			return
		}
		t.Run(names[n], func(t *testing.T) {
			test := outages[names[n]]
			sandbox := harness.StartSandbox(t, server.Options{})
			sandbox.Fault(func(r server.Request) *server.Fault {
				if r.Server == test.on && (test.method == "" || r.Method == test.method) && strings.Contains(r.Path, test.path) {
					return &test.fault
				}
				return nil
			})
			inputs := []string{"resource=" + harness.ImageResource, "image=" + archive}
			if test.file {
				inputs = []string{"resource=" + harness.FileResource, "filepath=" + path}
			}
			r := harness.Upload(t, sandbox, inputs...)
			if r.Exit != 1 {
				t.Fatalf("exit %d", r.Exit)
			}
			isShort(t, r, test.want...)
		})
	})
}

// TestWrongScopePasses: a registry that refuses each request three times, as if the token were for something else, gets
// the image all the same, and the log says what is waited for.
func TestWrongScopePasses(t *testing.T) {
	t.Parallel()
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	wrong := server.Fault{
		Status: http.StatusUnauthorized,
		Header: http.Header{"Www-Authenticate": {`Bearer realm="` + sandbox.RealmURL + `",error="insufficient_scope"`}},
		Body:   `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`,
	}
	var mu sync.Mutex
	asked := map[string]int{}
	sandbox.Fault(func(r server.Request) *server.Fault {
		mu.Lock()
		defer mu.Unlock()
		what := r.Method + " " + r.Path
		if asked[what]++; r.Server == "registry" && r.Path != "/v2/" && asked[what] <= 3 {
			return &wrong
		}
		return nil
	})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteImageArchive(t, 2<<20, 1))
	r.Succeeded(t)
	r.HasOutputs(t, map[string]string{"revision": "1", "revision-created": "true", "uploaded": "true"})
	if !strings.Contains(r.Log, "answered 401 insufficient_scope, although the token was asked for with the scope") {
		t.Error("the log doesn't say why it takes longer")
	}
}

// registryIsDown: before anything is sent to it.
func registryIsDown(t *testing.T, archive string) {
	t.Helper()
	closed := testkit.ReservePort(t)
	sandbox := harness.StartSandbox(t, server.Options{Behind: func(name, addr string) (string, error) {
		if name == "registry" {
			return closed, nil
		}
		return addr, nil
	}})
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	r.Failed(t, sandbox)
	isShort(t, r, "opening "+closed, "connection refused; check that this machine reaches it, by the proxy of "+
		"HTTPS_PROXY if there is one, or run this again later")
}

var address = regexp.MustCompile(`https?://|_state|[A-Z]{3,} /|invalid character|<html`)

// isShort fails the test unless the error of a run has the fragments, each once, and nothing of an address.
func isShort(t *testing.T, r harness.Result, want ...string) {
	t.Helper()
	text := strings.TrimPrefix(harness.ErrorText(r), " title=upload-resource::")
	for _, fragment := range want {
		if strings.Count(text, fragment) != 1 {
			t.Errorf("the error doesn't say %q, or more than once", fragment)
		}
	}
	if found := address.FindString(text); found != "" {
		t.Errorf("%q is in the error", found)
	}
	if len(text) > 500 || strings.Count(text, "run this again") > 1 {
		t.Errorf("the error is long, or repeats itself")
	}
	if t.Failed() {
		t.Log(text)
	}
}

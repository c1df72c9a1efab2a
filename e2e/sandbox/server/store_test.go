package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestTokensDecideWhoMayCall(t *testing.T) {
	s := start(t, server.Options{})
	path := filePath + "/revisions"
	for _, test := range []struct {
		name   string
		grant  server.Grant
		method string
		status int
		code   string
	}{
		{"publisher", server.Grant{}, "GET", 200, ""},
		{"view only", server.Grant{Permissions: []string{"package-view"}}, "GET", 200, ""},
		{"this charm only", server.Grant{Charms: []string{"my-charm"}}, "GET", 200, ""},
		{"other account", server.Grant{Account: "somebody"}, "GET", 403, "permission-required"},
		{"expired", server.Grant{Life: -time.Second}, "GET", 401, "macaroon-needs-refresh"},
		{"forged", server.Grant{Forged: true}, "GET", 401, "macaroon-authorization-required"},
		{"other charm only", server.Grant{Charms: []string{"other-charm"}}, "GET", 403, "macaroon-permission-required"},
		{"view only, creating", server.Grant{Permissions: []string{"package-view"}}, "POST", 403, "permission-required"},
		{"manage only, listing", server.Grant{Permissions: []string{"package-manage-revisions"}}, "GET", 403,
			"permission-required"},
		{"all to manage, listing", server.Grant{Permissions: []string{"package-manage"}}, "GET", 403, "permission-required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := do(t, test.method, s.StoreURL+path, "{}", "Authorization", authorization(t, s.Mint(test.grant)))
			expect(t, got, test.status, test.code)
		})
	}
	t.Run("none", func(t *testing.T) {
		expect(t, do(t, "GET", s.StoreURL+path, ""), 401, "macaroon-authorization-required")
	})
	t.Run("garbage", func(t *testing.T) {
		expect(t, do(t, "GET", s.StoreURL+path, "", "Authorization", "Macaroon *"), 401, "macaroon-authorization-required")
	})
	t.Run("no user agent", func(t *testing.T) {
		got := do(t, "GET", s.StoreURL+path, "", "Authorization", authorization(t, s.Token()), "User-Agent", "")
		expect(t, got, 400, "user-agent-required")
	})
}

func TestStoreRefuses(t *testing.T) {
	s := start(t, server.Options{})
	const bases = `"bases":[{"name":"all","channel":"all","architectures":["amd64"]}]`
	used := send(t, s, "used")
	review := submit(t, s, used)
	pollReview(t, s, review)
	pollReview(t, s, review)
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"unknown charm", "GET", "/v1/charm/nothing/resources", "", 404, "resource-not-found"},
		{"unknown resource", "GET", resources + "/nothing/revisions", "", 404, "resource-not-found"},
		{"unknown call", "GET", "/v2/charm", "", 404, "api-error"},
		{"credentials for a file", "GET", filePath + "/oci-image/upload-credentials", "", 400, "invalid-resource-type"},
		{"blob for a file", "POST", filePath + "/oci-image/blob", "{}", 400, "invalid-resource-type"},
		{"blob of no digest", "POST", imagePath + "/oci-image/blob", `{"image-digest":"latest"}`, 400, "api-error"},
		{"blob of an absent image", "POST", imagePath + "/oci-image/blob",
			`{"image-digest":"sha256:` + strings.Repeat("0", 64) + `"}`, 400, "image-not-found"},
		{"not JSON", "POST", filePath + "/revisions", "<", 400, "api-error"},
		{"wrong type", "POST", filePath + "/revisions", `{"upload-id":"x","type":"oci-image",` + bases + `}`, 400,
			"invalid-resource-type"},
		{"no bases for a revision", "PATCH", filePath + "/revisions",
			`{"resource-revision-updates":[{"revision":1,"bases":[]}]}`, 400, "api-error"},
		{"an architecture twice", "POST", filePath + "/revisions",
			strings.Replace(`{"type":"file",`+bases+`}`, `"amd64"`, `"amd64","amd64"`, 1), 400, "api-error"},
		{"no architecture of Debian's", "POST", filePath + "/revisions",
			strings.Replace(`{"type":"file",`+bases+`}`, "amd64", "ppc64le", 1), 400, "api-error"},
		{"unknown upload", "POST", filePath + "/revisions", `{"upload-id":"x","type":"file",` + bases + `}`, 400,
			"upload-not-found"},
		{"used upload", "POST", filePath + "/revisions", `{"upload-id":"` + used + `","type":"file",` + bases + `}`, 409,
			"upload-already-used"},
		{"unknown review", "GET", "/v1/charm/my-charm/revisions/review?upload-id=x", "", 404, "resource-not-found"},
		{"review of another charm", "GET", "/v1/charm/other-charm/revisions/review?upload-id=" + used, "", 404,
			"resource-not-found"},
		{"unknown revision", "PATCH", filePath + "/revisions", `{"resource-revision-updates":[{"revision":9,` + bases + `}]}`,
			404, "resource-not-found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			expect(t, publisher(t, s, test.method, test.path, test.body), test.status, test.code)
		})
	}
}

// expect ends the test unless the reply has the status, and fails it unless the first error has the code. An empty
// code matches any.
func expect(t *testing.T, got reply, status int, code string) {
	t.Helper()
	if got.status != status {
		t.Fatalf("status %d, want %d: %s", got.status, status, got.text)
	}
	if code != "" && got.field(t, "error-list", "code") != code {
		t.Errorf("want code %s: %s", code, got.text)
	}
}

func TestResourcesAndWhoami(t *testing.T) {
	s := start(t, server.Options{})
	listed := publisher(t, s, http.MethodGet, resources, "")
	if listed.field(t, "resources", "name") != "my-image" || listed.field(t, "resources", "type") != "oci-image" {
		t.Errorf("resources: %+v", listed)
	}
	if who := publisher(t, s, http.MethodGet, "/v1/tokens/whoami", ""); who.field(t, "account",
		"username") != server.Publisher {
		t.Errorf("whoami: %+v", who)
	}
}

// TestMissingPermissionIsNamed: by the words of the real store, and also where a review is asked for, as
// canonical/charmcraft#930 has it.
func TestMissingPermissionIsNamed(t *testing.T) {
	s := start(t, server.Options{})
	review := submit(t, s, send(t, s, "content"))
	header := authorization(t, s.Mint(server.Grant{Permissions: []string{"package-manage-revisions"}}))
	got := do(t, http.MethodGet, s.StoreURL+review, "", "Authorization", header)
	expect(t, got, 403, "permission-required")
	if message := got.field(t, "error-list", "message"); message != "Missing required permission: package-view-revisions" {
		t.Errorf("message %q", message)
	}
}

// TestDeclarations: each revision of a charm that declares a name is listed, and the newest decides on the type.
func TestDeclarations(t *testing.T) {
	s, err := server.Start(server.Options{Charms: []server.Charm{{Name: "my-charm", Resources: []server.Resource{
		{Name: "my-file", Type: server.TypeFile, CharmRevision: 7, Optional: true},
		{Name: "my-file", Type: server.TypeImage, CharmRevision: 3},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	listed := publisher(t, s, http.MethodGet, resources, "").text
	const want = `{"resources":[{"name":"my-file","optional":false,"revision":3,"type":"oci-image"},` +
		`{"name":"my-file","optional":true,"revision":7,"type":"file"}]}`
	if strings.TrimSpace(listed) != want {
		t.Errorf("listed %s, want %s", listed, want)
	}
	submit(t, s, send(t, s, "content"))
}

func TestStartRefuses(t *testing.T) {
	for name, options := range map[string]server.Options{
		"an address that isn't loopback": {Addr: "0.0.0.0:0"},
		"an address without a port":      {Addr: "127.0.0.1"},
		"a type that isn't one": {Charms: []server.Charm{
			{Name: "c", Resources: []server.Resource{{Name: "r", Type: "image"}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := server.Start(options); err == nil {
				_ = s.Close()
				t.Error("it started")
			}
		})
	}
}

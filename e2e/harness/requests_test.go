package harness

import (
	"net/http"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

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

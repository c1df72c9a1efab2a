package charmhub

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/macaroon.v2"
)

func TestWhoami(t *testing.T) {
	cases := map[string]struct {
		body string
		want Token
	}{
		"restricted": {whoami, Token{Account: "jane", Charms: []string{"mine", "abc123"},
			Permissions: []string{"package-view-metadata"}}},
		"free": {`{"account":{"username":"joe"},"packages":null,"channels":["edge"]}`,
			Token{Account: "joe", Channels: []string{"edge"}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, answer(200, c.body))
			got, err := client.whoami(t.Context())
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// macaroonWith returns a macaroon with the caveats in it, in the form of charmcraft's export.
func macaroonWith(t *testing.T, id string, caveats ...string) string {
	t.Helper()
	m, err := macaroon.New([]byte("key"), []byte(id), "store", macaroon.V1)
	for _, caveat := range caveats {
		if err == nil {
			err = m.AddFirstPartyCaveat([]byte(caveat))
		}
	}
	if err == nil { // what others have to discharge says nothing
		err = m.AddThirdPartyCaveat([]byte("key"), []byte("expires 2001-01-01T00:00:00Z"), "sso")
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return paste(base64.RawURLEncoding.EncodeToString(raw))
}

// TestTokenExpires: the token's own caveats say when it ends, else the store's answers do. Every request reads.
func TestTokenExpires(t *testing.T) {
	const who = `{"account":{"username":"jane"}}`
	const list = `{"macaroons":[{"session-id":null},{"session-id":"","valid-until":"2001-01-01T00:00:00Z"},
		{"session-id":"id-of-another","valid-until":"2002-01-01T00:00:00Z"},{"session-id":"id-of-this-one",
		 "valid-until":"2031-01-01T00:00:00.000Z"}]}`
	at := parseTime
	tests := map[string]struct {
		caveats    []string
		whoami     string
		list       string
		listStatus int
		want       time.Time
		asked      string
	}{
		"sandbox": {[]string{"account jane", "expires 2030-02-03T04:05:06.789Z"}, who, list, 200,
			at("2030-02-03T04:05:06.789Z"), "GET /v1/tokens/whoami"},
		"macaroon bakery": {[]string{"time-before 2030-02-03T04:05:06Z"}, who, list, 200, at("2030-02-03T04:05:06Z"),
			"GET /v1/tokens/whoami"},
		"snap store": {[]string{"dashboard.snapcraft.io|expires|2030-02-03T04:05:06.123456"}, who, list, 200,
			at("2030-02-03T04:05:06.123456Z"), "GET /v1/tokens/whoami"},
		"JSON": {[]string{`{"permissions": ["a"], "valid_until": "2030-02-03T06:05:06+02:00"}`}, who, list, 200,
			at("2030-02-03T04:05:06Z"), "GET /v1/tokens/whoami"},
		"the earliest": {[]string{"expires 2031-01-01T00:00:00Z", "time-before 2030-02-03T04:05:06Z"}, who, list, 200,
			at("2030-02-03T04:05:06Z"), "GET /v1/tokens/whoami"},
		"whoami": {nil, `{"account":{"username":"jane"},"expires":"2030-02-03T04:05:06.000Z"}`, list, 200,
			at("2030-02-03T04:05:06Z"), "GET /v1/tokens/whoami"},
		"the list": {[]string{"session id-of-this-one"}, who, list, 200, at("2031-01-01T00:00:00Z"),
			"GET /v1/tokens/whoami\nGET /v1/tokens"},
		"others are listed": {nil, who, list, 200, time.Time{}, "GET /v1/tokens/whoami\nGET /v1/tokens"},
		"no list": {[]string{"valid-since 2020-01-01T00:00:00Z"}, who, "", 404, time.Time{},
			"GET /v1/tokens/whoami\nGET /v1/tokens"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/tokens" {
					answer(test.listStatus, test.list)(w, r)
					return
				}
				answer(200, test.whoami)(w, r)
			})
			client.config.Credentials = mustParse(t, macaroonWith(t, "some id", test.caveats...))
			got, err := client.Token(t.Context())
			if diff := cmp.Diff(Token{Account: "jane", Expires: test.want}, got); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
			if rec.log() != test.asked {
				t.Errorf("asked\n%s\nwant\n%s", rec.log(), test.asked)
			}
		})
	}
}

// TestTokenExpiresByItsID: the list may name a session by the ID of its macaroon.
func TestTokenExpiresByItsID(t *testing.T) {
	client,
		_ := serve(t, answer(200, `{"macaroons":[{"session-id":"id-of-this-one","valid-until":"2031-01-01T00:00:00Z"}]}`))
	client.config.Credentials = mustParse(t, macaroonWith(t, "id-of-this-one"))
	got, err := client.Token(t.Context())
	if err != nil || !got.Expires.Equal(parseTime("2031-01-01T00:00:00Z")) {
		t.Errorf("%v %v", got.Expires, err)
	}
}

// TestTokenOfAPairIsNotExchanged: what only reads makes no token.
func TestTokenOfAPairIsNotExchanged(t *testing.T) {
	client, rec := serve(t, answer(200, `{"account":{"username":"jane"},"expires":"2030-02-03T04:05:06Z"}`))
	client.config.AsGiven = true
	client.config.Credentials = mustParse(t, paste(vectors(t)[0].pairText()))
	client.session.pair, client.session.header = client.config.Credentials.pair, ""
	if _, err := client.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec.log() != "GET /v1/tokens/whoami" {
		t.Errorf("asked %s", rec.log())
	}
}

func TestLacks(t *testing.T) {
	upload, release := Permissions(false), Permissions(true)
	for name, test := range map[string]struct {
		has, needs, want []string
	}{
		"no restriction":       {nil, release, nil},
		"exactly":              {release, release, nil},
		"an upload's":          {upload, release, []string{"package-manage-releases", "package-view-releases"}},
		"charmcraft's default": {[]string{"account-view-packages", "package-manage", "package-view"}, release, nil},
		"to view all":          {[]string{"package-view"}, upload, []string{"package-manage-revisions"}},
		"none":                 {[]string{}, upload, upload},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Token{Permissions: test.has}).Lacks(test.needs); !slices.Equal(got, test.want) {
				t.Errorf("lacks %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzExpires: caveats come from outside.
func FuzzExpires(f *testing.F) {
	f.Add("time-before 2030-02-03T04:05:06Z")
	f.Add("a|expires|2030-02-03T04:05:06.123456")
	f.Add(`{"valid-until": "2030-02-03 04:05:06"}`)
	f.Fuzz(func(t *testing.T, caveat string) {
		m, err := macaroon.New([]byte("key"), []byte("id"), "store", macaroon.V2)
		if err == nil {
			err = m.AddFirstPartyCaveat([]byte(caveat))
		}
		if err != nil {
			return
		}
		raw, err := m.MarshalBinary()
		if err != nil {
			return
		}
		end := (&Credentials{token: base64.RawURLEncoding.EncodeToString(raw)}).expires()
		if !end.IsZero() && !strings.Contains(caveat, "-") {
			t.Errorf("%q ends at %s", caveat, end)
		}
	})
}

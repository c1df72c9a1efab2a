package server_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// pair is a token of FormatSSOPair.
type pair struct {
	Root      string `json:"r"`
	Discharge string `json:"d"`
}

// mintPair mints a token of FormatSSOPair with the grant, and returns its two macaroons.
func mintPair(t *testing.T, s *server.Server, grant server.Grant) (p pair) {
	t.Helper()
	grant.Format = server.FormatSSOPair
	decoded, err := base64.StdEncoding.DecodeString(s.Mint(grant))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(decoded, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// parse decodes a macaroon from base64.
func parse(t *testing.T, text string) *macaroon.Macaroon {
	t.Helper()
	binary, err := macaroon.Base64Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m := &macaroon.Macaroon{}
	if err := m.UnmarshalBinary(binary); err != nil {
		t.Fatal(err)
	}
	return m
}

// header is the authorization that a pair gives, bound to a root.
func (p pair) header(t *testing.T, root string) string {
	t.Helper()
	discharge := parse(t, p.Discharge)
	discharge.Bind(parse(t, root).Signature())
	binary, err := discharge.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return "Macaroon root=" + p.Root + ", discharge=" + base64.RawURLEncoding.EncodeToString(binary)
}

func TestDischargeMustBeBound(t *testing.T) {
	s := start(t, server.Options{})
	p, other := mintPair(t, s, server.Grant{}), mintPair(t, s, server.Grant{})
	for _, test := range []struct {
		name, header string
		status       int
	}{
		{"bound", p.header(t, p.Root), 200},
		{"bound, in quotes", strings.NewReplacer("root=", `root="`, ", ", `", `, "discharge=",
			`discharge="`).Replace(p.header(t, p.Root)) + `"`, 200},
		{"not bound", "Macaroon root=" + p.Root + ", discharge=" + p.Discharge, 401},
		{"bound to another root", p.header(t, other.Root), 401},
		{"another root's discharge", pair{p.Root, other.Discharge}.header(t, p.Root), 401},
		{"root alone", "Macaroon " + p.Root, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := do(t, http.MethodGet, s.StoreURL+resources, "", "Authorization", test.header)
			if got.status != test.status {
				t.Errorf("status %d, want %d: %s", got.status, test.status, got.text)
			}
		})
	}
	if bound := p.header(t, p.Root); !slices.Contains(s.Secrets(), bound[strings.LastIndex(bound, "=")+1:]) {
		t.Error("the bound discharge isn't among the secrets")
	}
}

func TestDischargeIsRefreshed(t *testing.T) {
	s := start(t, server.Options{})
	p := mintPair(t, s, server.Grant{DischargeLife: -time.Second})
	old := do(t, http.MethodGet, s.StoreURL+resources, "", "Authorization", p.header(t, p.Root))
	expect(t, old, 401, "macaroon-needs-refresh")

	refreshURL := s.SSOURL + "/api/v2/tokens/refresh"
	renewed := do(t, http.MethodPost, refreshURL, `{"discharge_macaroon":"`+p.Discharge+`"}`)
	p.Discharge, _ = renewed.field(t, "discharge_macaroon").(string)
	if got := do(t, http.MethodGet, s.StoreURL+resources, "", "Authorization", p.header(t, p.Root)); got.status != 200 {
		t.Errorf("after the refresh: %+v", got)
	}
	forged := mintPair(t, s, server.Grant{Forged: true})
	if got := do(t, http.MethodPost, refreshURL, `{"discharge_macaroon":"`+forged.Discharge+`"}`); got.status != 401 {
		t.Errorf("forged: %+v", got)
	}
}

func TestPairIsExchanged(t *testing.T) {
	s := start(t, server.Options{})
	const description = `{"client-description":"a test"}`
	p := mintPair(t, s, server.Grant{Charms: []string{"my-charm"}})
	exchanged := do(t, http.MethodPost, s.StoreURL+"/v1/tokens/usso/exchange", description, "Authorization",
		p.header(t, p.Root))
	token, _ := exchanged.field(t, "macaroon").(string)
	if got := do(t, http.MethodGet, s.StoreURL+resources, "", "Authorization", "Macaroon "+token); got.status != 200 {
		t.Errorf("own charm: %+v", got)
	}
	got := do(t, http.MethodGet, s.StoreURL+"/v1/charm/other-charm/resources", "", "Authorization", "Macaroon "+token)
	expect(t, got, 403, "macaroon-permission-required")
	expect(t, publisher(t, s, http.MethodPost, "/v1/tokens/usso/exchange", description), 400, "api-error")
}

func TestEachFormatWorks(t *testing.T) {
	s := start(t, server.Options{})
	for name, test := range map[string]struct {
		format server.Format
		read   func(decoded []byte) string
	}{
		"bare":  {server.FormatBare, func(b []byte) string { return string(b) }},
		"JSON":  {server.FormatJSON, func(b []byte) string { return string(b) }},
		"typed": {server.FormatTyped, func(b []byte) string { return reply{text: string(b)}.field(t, "v").(string) }},
		"developer": {server.FormatDeveloper,
			func(b []byte) string { return reply{text: string(b)}.field(t, "macaroon").(string) }},
		"sso": {server.FormatSSO, func(b []byte) string {
			object := reply{text: string(b)}
			p := pair{object.field(t, "v", "r").(string), object.field(t, "v", "d").(string)}
			return strings.TrimPrefix(p.header(t, p.Root), "Macaroon ")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			exported := s.Mint(server.Grant{Format: test.format})
			decoded, err := base64.StdEncoding.DecodeString(exported)
			if err != nil {
				t.Fatal(err)
			}
			got := do(t, http.MethodGet, s.StoreURL+resources, "", "Authorization", "Macaroon "+test.read(decoded))
			if got.status != 200 {
				t.Errorf("%+v", got)
			}
			for _, secret := range []string{exported, string(decoded)} {
				if !slices.Contains(s.Secrets(), secret) {
					t.Errorf("%q isn't among the secrets", secret)
				}
			}
		})
	}
}

// A token that doesn't say when it ends is in the list, which does, and ends then.
func TestTokensAreListed(t *testing.T) {
	s := start(t, server.Options{})
	exported := s.Mint(server.Grant{Unstated: true, Life: time.Hour})
	token, err := base64.StdEncoding.DecodeString(exported)
	if err != nil {
		t.Fatal(err)
	}
	listed := do(t, http.MethodGet, s.StoreURL+"/v1/tokens", "", "Authorization", "Macaroon "+string(token))
	id := string(parse(t, string(token)).Id())
	var answer struct {
		Macaroons []struct {
			ID    string    `json:"session-id"`
			Until time.Time `json:"valid-until"`
		}
	}
	if err := json.Unmarshal([]byte(listed.text), &answer); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, one := range answer.Macaroons {
		left := time.Until(one.Until)
		found = found || one.ID == id && left > 50*time.Minute && left < 70*time.Minute
	}
	if !found {
		t.Errorf("the token isn't listed with its end: %s", listed.text)
	}
	over, err := base64.StdEncoding.DecodeString(s.Mint(server.Grant{Unstated: true, Life: -time.Hour}))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, do(t, http.MethodGet, s.StoreURL+resources, "", "Authorization", "Macaroon "+string(over)), 401,
		"macaroon-needs-refresh")
}

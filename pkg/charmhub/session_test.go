package charmhub

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.uber.org/zap"
	"gopkg.in/macaroon.v2"
)

const refreshPlease = `{"error-list":[{"code":"macaroon-needs-refresh","message":"refresh"}]}`

// sso is a store and its single sign-on that check what they are sent.
type sso struct {
	t *testing.T
	v vector

	exchange   bool // offers the exchange
	stale      bool // the first discharge needs a refresh
	snap       bool // says so in the snap side's dialect
	staleStore bool // what the stale discharge was exchanged for needs one too
	refuse     bool // single sign-on refuses to refresh

	rec   *recorder
	fresh string
	store *httptest.Server
	login *httptest.Server
}

// start starts both servers, and returns a client that has the first pair of the test's vector.
func (s *sso) start() *Client {
	s.rec = &recorder{}
	s.fresh = freshDischarge(s.t)
	s.store = httptest.NewServer(http.HandlerFunc(s.serveStore))
	s.login = httptest.NewServer(http.HandlerFunc(s.serveLogin))
	s.t.Cleanup(s.store.Close)
	s.t.Cleanup(s.login.Close)
	c, err := ParseCredentials(paste(s.v.pairText()))
	if err != nil {
		s.t.Fatal(err)
	}
	return New(Config{
		StoreURL: s.store.URL + "/", StorageURL: s.store.URL, SSOURL: s.login.URL,
		Credentials: c, Logger: zap.NewNop(), Mask: s.rec.mask, UserAgent: "tester/1",
	})
}

// freshDischarge returns another discharge for the root of the vectors.
func freshDischarge(t *testing.T) string {
	t.Helper()
	d, err := macaroon.New([]byte("key shared with single sign-on"), []byte("who is it?"), "login.ubuntu.com", macaroon.V1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AddFirstPartyCaveat([]byte("expires 2040-01-01")); err != nil {
		t.Fatal(err)
	}
	raw, err := d.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// boundFresh returns the Authorization header for the root with the refreshed discharge.
func (s *sso) boundFresh() string {
	p, err := newPair(s.v.Root, s.fresh)
	if err != nil {
		s.t.Fatal(err)
	}
	return p.authorization()
}

// serveStore answers as the store. It refuses what needs a refresh, and fails the test for an unexpected login.
func (s *sso) serveStore(w http.ResponseWriter, r *http.Request) {
	s.rec.note(r.Method + " " + r.URL.Path)
	old := "Macaroon root=" + s.v.Root + ", discharge=" + s.v.Bound
	switch got := r.Header.Get("Authorization"); {
	case r.URL.Path == "/v1/tokens/usso/exchange":
		s.serveExchange(w, r, got == old, got == s.boundFresh())
	case got == "Macaroon exchanged-stale" && s.staleStore, got == old && !s.exchange && s.stale:
		s.needsRefresh(w)
	case got == "Macaroon exchanged-stale", got == "Macaroon exchanged-fresh",
		!s.exchange && (got == old || got == s.boundFresh()):
		answer(200, `{"resources":[]}`)(w, r)
	default:
		s.t.Errorf("%s with %q", r.URL.Path, got)
		answer(401, `{}`)(w, r)
	}
}

// serveExchange answers the exchange of a pair for a token. old and fresh tell which pair the request has.
func (s *sso) serveExchange(w http.ResponseWriter, r *http.Request, old, fresh bool) {
	var body map[string]string
	if json.NewDecoder(r.Body).Decode(&body) != nil || body["client-description"] != "tester/1" ||
		r.Method != http.MethodPost {
		s.t.Errorf("exchange asked with %v", body)
	}
	switch {
	case !s.exchange:
		answer(404, `{"error-list":[{"code":"not-found","message":"no such call"}]}`)(w, r)
	case old && s.stale:
		s.needsRefresh(w)
	case old:
		answer(200, `{"macaroon":"exchanged-stale"}`)(w, r)
	case fresh:
		answer(200, `{"macaroon":"exchanged-fresh"}`)(w, r)
	default:
		s.t.Error("exchange with an unknown pair")
	}
}

// needsRefresh answers that the discharge needs a refresh, in the dialect of the store.
func (s *sso) needsRefresh(w http.ResponseWriter) {
	if s.snap {
		w.Header().Set("WWW-Authenticate", "Macaroon needs_refresh=1")
		answer(401, `{"error_list":[{"code":"macaroon-permission-required","message":"Authorization Required"}]}`)(w, nil)
		return
	}
	answer(401, refreshPlease)(w, nil)
}

// serveLogin answers as single sign-on. It fails the test for a request with more than the discharge in it.
func (s *sso) serveLogin(w http.ResponseWriter, r *http.Request) {
	s.rec.note("sso " + r.Method + " " + r.URL.Path)
	if r.Header.Get("Authorization") != "" {
		s.t.Error("the Authorization header is none of single sign-on's business")
	}
	var body map[string]string
	if json.NewDecoder(r.Body).Decode(&body) != nil || body["discharge_macaroon"] != s.v.Discharge || len(body) != 1 {
		s.t.Error("refresh asked with something else than the discharge")
	}
	if s.refuse {
		answer(401, `{"code":"INVALID_CREDENTIALS","message":"Provided email/password is not correct.","extra":{}}`)(w, r)
		return
	}
	text, _ := json.Marshal(map[string]string{"discharge_macaroon": s.fresh})
	answer(200, string(text))(w, r)
}

func TestExchangeAndRefresh(t *testing.T) {
	const (
		exchange = "POST /v1/tokens/usso/exchange"
		refresh  = "sso POST /api/v2/tokens/refresh"
		call     = "GET /v1/charm/c/resources"
	)
	cases := map[string]struct {
		s    sso
		want []string
	}{
		"exchanged once":        {sso{exchange: true}, []string{exchange, call, call}},
		"not offered: as it is": {sso{}, []string{exchange, call, call}},
		"stale before the exchange": {sso{exchange: true, stale: true},
			[]string{exchange, refresh, exchange, call, call}},
		"stale in the snap dialect": {sso{exchange: true, stale: true, snap: true},
			[]string{exchange, refresh, exchange, call, call}},
		"stale after the exchange": {sso{exchange: true, staleStore: true},
			[]string{exchange, call, refresh, exchange, call, call}},
		"stale and exchange not offered": {sso{stale: true}, []string{exchange, call, refresh, exchange, call, call}},
		"stale, not offered, snap's word": {sso{stale: true, snap: true},
			[]string{exchange, call, refresh, exchange, call, call}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := c.s
			s.t, s.v = t, vectors(t)[0]
			client := s.start()
			for range 2 {
				if _, err := client.Resources(t.Context(), "c"); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := s.rec.log(), join(c.want); got != want {
				t.Errorf("requests:\n%s\nwant:\n%s", got, want)
			}
			s.wantMasked()
		})
	}
}

// wantMasked checks that every secret that an answer held was reported.
func (s *sso) wantMasked() {
	s.t.Helper()
	var want []string
	if s.exchange {
		want = append(want, "exchanged-stale")
	}
	if s.stale || s.staleStore {
		p, _ := newPair(s.v.Root, s.fresh)
		want = append(want, s.fresh, paste(s.fresh), p.bound)
		if s.exchange {
			want = append(want, "exchanged-fresh", paste("exchanged-fresh"))
		}
	}
	if s.exchange && s.stale {
		want = want[1:] // a stale discharge was never exchanged
	}
	for _, secret := range want {
		if !s.rec.masked[secret] {
			s.t.Errorf("never masked: %s", secret)
		}
	}
}

// join returns the lines as recorder.log joins its requests.
func join(lines []string) string {
	r := recorder{requests: lines}
	return r.log()
}

func TestCallersAtOnceShareOneExchangeAndOneRefresh(t *testing.T) {
	s := sso{t: t, v: vectors(t)[0], exchange: true, staleStore: true}
	client := s.start()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if _, err := client.Resources(context.Background(), "c"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	count := map[string]int{}
	for _, r := range s.rec.requests {
		count[r]++
	}
	if n := count["sso POST /api/v2/tokens/refresh"]; n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	if n := count["POST /v1/tokens/usso/exchange"]; n != 2 {
		t.Errorf("%d exchanges, want 2: the first and that of the refreshed pair", n)
	}
}

func TestRefreshRefusedSaysWhatToDo(t *testing.T) {
	s := sso{t: t, v: vectors(t)[0], exchange: true, stale: true, refuse: true}
	client := s.start()
	_, err := client.Resources(t.Context(), "c")
	if err == nil {
		t.Fatal("no error")
	}
	wantIn(t, err.Error(), "cannot refresh the store token", "INVALID_CREDENTIALS", "charmcraft login --export")
	wantNotIn(t, err.Error(), s.v.Discharge, s.v.Root, s.v.Bound)
}

func TestAStoreThatAlwaysWantsARefreshIsNotAskedForever(t *testing.T) {
	s := sso{t: t, v: vectors(t)[0], exchange: true}
	client := s.start()
	calls := 0
	client.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/v1/charm/c/resources" {
			calls++
			return reply(r, 401, refreshPlease), nil
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	_, err := client.Resources(t.Context(), "c")
	if err == nil || calls != 2 {
		t.Fatalf("%d calls and error %v, want 2 and one", calls, err)
	}
	wantIn(t, err.Error(), "expired")
}

func TestAPlainTokenIsNeverRefreshed(t *testing.T) {
	client, rec := serve(t, answer(401, refreshPlease))
	_, err := client.Resources(t.Context(), "c")
	if err == nil {
		t.Fatal("no error")
	}
	wantIn(t, err.Error(), "expired", "charmcraft login --export=token.txt --charm=c ")
	if got := rec.log(); got != "GET /v1/charm/c/resources" {
		t.Errorf("requests: %s", got)
	}
}

func TestUselessAnswersOfExchangeAndRefresh(t *testing.T) {
	cases := map[string]struct{ exchange, refresh, want string }{
		"exchange without macaroon":   {`{}`, ``, "holds no macaroon"},
		"exchange with a line break":  {`{"macaroon":"a\nb"}`, ``, "holds no macaroon"},
		"exchange not JSON":           {`<p>hello`, ``, "not the JSON"},
		"refresh without a discharge": {``, `{}`, "discharge is not a macaroon"},
		"refresh not JSON":            {``, `oops`, "not the JSON"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := sso{t: t, v: vectors(t)[0]}
			client := s.start()
			client.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				switch {
				case r.URL.Path == "/api/v2/tokens/refresh":
					return reply(r, 200, c.refresh), nil
				case c.exchange == "":
					return reply(r, 401, refreshPlease), nil
				}
				return reply(r, 200, c.exchange), nil
			})
			_, err := client.Resources(t.Context(), "c")
			if err == nil {
				t.Fatal("no error")
			}
			wantIn(t, err.Error(), c.want)
		})
	}
}

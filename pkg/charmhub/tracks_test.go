package charmhub

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTracks(t *testing.T) {
	for body, want := range map[string]Tracks{
		`{"metadata":{"name":"c","default-track":"2","tracks":[{"name":"latest","created-at":"2020-01-02T03:04:05Z",
		  "version-pattern":null,
		  "automatic-phasing-percentage":null},{"name":"2"}],"track-guardrails":[{"pattern":"[0-9]+",
		  "created-at":"2020-01-02T03:04:05Z"}]}}`: {
			Default: "2", Names: []string{"latest", "2"}, Guardrails: []string{"[0-9]+"},
		},
		`{"metadata":{"name":"c","default-track":null,"tracks":null,
		  "track-guardrails":[{"pattern":null},{"pattern":"a\nb"}]}}`: {Default: "latest", Guardrails: []string{"a b"}},
		`{"metadata":{"name":"c"}}`: {Default: "latest"},
	} {
		client, rec := serve(t, answer(200, body))
		got, err := client.Tracks(t.Context(), "c")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: error %v (-want +got)\n%s", body, err, diff)
		}
		if rec.log() != "GET /v1/charm/c" {
			t.Error(rec.log())
		}
	}
	client, _ := serve(t, answer(403, `{"error-list":[{"code":"permission-required","message":"Missing required `+
		`permission: package-view-metadata"}]}`))
	_, err := client.Tracks(t.Context(), "c")
	if err == nil {
		t.Fatal("no error")
	}
	wantIn(t, err.Error(), "ask for the tracks of charm 'c'", "lacks the permission package-view-metadata; make one with "+
		"`charmcraft login --export=token.txt --charm=c --permission=package-manage --permission=package-view --ttl=7776000`")
}

// Guardrails are regular expressions for the whole name. The store decides about one that isn't known here.
func TestGuardrails(t *testing.T) {
	for name, test := range map[string]struct {
		guardrails []string
		allowed    bool
	}{
		"2.0":     {[]string{`[a-z]+`, `[0-9]+\.[0-9]+`}, true},
		"2.0-rc":  {[]string{`[0-9]+\.[0-9]+`}, false},
		"v2.0":    {[]string{`[0-9]+\.[0-9]+`}, false},
		"12":      {[]string{`^1|2$`}, false},
		"v1":      {[]string{`(?!latest).*`}, true},
		"nothing": {nil, false},
	} {
		if got := (Tracks{Guardrails: test.guardrails}).Allow(name); got != test.allowed {
			t.Errorf("%s by %q: %t", name, test.guardrails, got)
		}
	}
}

func TestTrackNames(t *testing.T) {
	for _, name := range []string{"latest", "2", "2.0-lts_x", strings.Repeat("a", 28)} {
		if err := CheckTrackName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "2.", ".2", "a..b", "a b", "ä", strings.Repeat("a", 29)} {
		if err := CheckTrackName(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestCreateTracks(t *testing.T) {
	var sent string
	client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		sent = r.Header.Get("Content-Type") + " " + string(all)
		answer(201, `{"num-tracks-created":2}`)(w, r)
	})
	if err := client.CreateTracks(t.Context(), "c", []string{"2.0", "3.0"}); err != nil {
		t.Error(err)
	}
	if rec.log() != "POST /v1/charm/c/tracks" || sent != `application/json [{"name":"2.0"},{"name":"3.0"}]` {
		t.Errorf("%s: %s", rec.log(), sent)
	}
	for _, test := range []struct {
		status  int
		body    string
		unclear bool
		want    []string
	}{
		{403, `{"error-list":[{"code":"permission-required","message":"Missing required permission: package-manage"}]}`,
			false, []string{
				"cannot create the tracks 2.0, 3.0 of charm 'c': ", "the store token lacks the permission package-manage; make " +
					"one with `charmcraft login --export=token.txt --charm=c " +
					"--permission=package-manage --permission=package-view --ttl=7776000`",
			}},
		{400, `{"error-list":[{"code":null,"message":"no guardrail"}]}`, false,
			[]string{"no guardrail; " + WhoCreatesTracks}},
		{503, ``, true, []string{"503"}},
	} {
		client, _ := serve(t, answer(test.status, test.body))
		err := client.CreateTracks(t.Context(), "c", []string{"2.0", "3.0"})
		if err == nil || errors.Is(err, ErrUnclear) != test.unclear {
			t.Fatalf("error %v", err)
		}
		wantIn(t, err.Error(), test.want...)
	}
}

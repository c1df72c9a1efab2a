package charmhub

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

var (
	jammy = charm.Base{Name: "ubuntu", Channel: "22.04", Architecture: "amd64"}
	noble = charm.Base{Name: "ubuntu", Channel: "24.04", Architecture: "amd64"}
	edge  = Channel{Track: "latest", Risk: "edge"}
	sum   = strings.Repeat("ab", 48)
)

func TestReleases(t *testing.T) {
	cases := map[string]struct {
		body string
		want Releases
	}{
		"a charm's": {
			`{"channel-map":[
			  {"base":{"name":"ubuntu","channel":"24.04","architecture":"amd64"},"channel":"latest/edge","expiration-date":null,
			   "progressive":{"paused":null,"percentage":null},"revision":12,"when":"2020-01-02T03:04:05Z",
			   "resources":[{"name":"a","revision":3,"type":"oci-image"},{"name":"b","revision":null,"type":"file"},
			    {"name":"c","revision":0,"type":"file"}]},
			  {"base":null,"channel":"latest/edge/pr-12","expiration-date":"2020-08-16T18:46:02Z","revision":11,
			   "resources":null},
			  {"base":{"name":"ubuntu","channel":"22.04","architecture":"amd64"},"channel":"latest/edge","revision":11,
			   "resources":[]},
			  {"base":null,"channel":"latest/beta","revision":null,"resources":[]},
			  {"base":null,"channel":"edge/fix--1","revision":10,"resources":[]},
			  {"base":null,"channel":"what is this","revision":4,"resources":[]}],
			 "package":{"channels":[{"name":"latest/stable","track":"latest","risk":"stable","branch":null,"fallback":null},
			  {"name":"latest/edge","track":"latest","risk":"edge"},{"name":"2/edge","track":"2","risk":"edge"},{}]},
			 "revisions":[{"revision":11,"status":"released","sha3-384":"` + sum +
				`","bases":[{"name":"ubuntu","channel":"22.04","architecture":"amd64"},null]},
			  {"revision":12,"status":"released","sha3-384":"x","bases":null}]}`,
			Releases{
				Map: []Release{
					{Channel: edge, Base: jammy, Revision: 11, Resources: map[string]int{}},
					{Channel: edge, Base: noble, Revision: 12, Resources: map[string]int{"a": 3, "b": NoRevision, "c": 0}},
					{Channel: Channel{"latest", "edge", "fix--1"}, Revision: 10, Resources: map[string]int{}},
					{Channel: Channel{"latest", "edge", "pr-12"}, Revision: 11, Resources: map[string]int{}},
				},
				Tracks:    []string{"latest", "2"},
				Revisions: []CharmRevision{{Revision: 12}, {Revision: 11, SHA3: sum, Bases: []charm.Base{jammy, {}}}},
			},
		},
		"a new charm's": {`{"channel-map":[],"package":{"channels":[]},"revisions":[]}`, Releases{}},
		"nothing":       {`{}`, Releases{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client, rec := serve(t, answer(200, c.body))
			got, err := client.Releases(t.Context(), "c")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("releases (-want +got):\n%s", diff)
			}
			if rec.log() != "GET /v1/charm/c/releases" {
				t.Error(rec.log())
			}
		})
	}
}

// TestRelease compares the request with testdata/release.json.
func TestRelease(t *testing.T) {
	var sent string
	client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		sent = string(all)
		answer(200,
			`{"released":[{"channel":"edge","revision":12,"resources":[{"name":"a","revision":3},{"name":"b","revision":null}]},
			{"channel":"latest/edge/pr-1","revision":13,"resources":null},{"channel":"latest/edge","revision":14,
			 "resources":[]}]}`)(w, r)
	})
	err := client.Release(t.Context(), "c", []Release{
		{Channel: edge, Revision: 12, Resources: map[string]int{"b": NoRevision, "a": 3, "zero": 0}},
		{Channel: Channel{"latest", "edge", "pr-1"}, Revision: 13},
		{Channel: edge, Base: noble, Revision: 14, Resources: map[string]int{"a": 4}},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(filepath.Join("testdata", "release.json"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(golden)), sent); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if rec.log() != "POST /v1/charm/c/releases" {
		t.Error(rec.log())
	}
}

func TestReleaseIsUnclearOrRefused(t *testing.T) {
	cases := map[string]struct {
		status  int
		body    string
		unclear bool
		want    []string
	}{
		"lost in a gateway": {502, `<html>`, true, []string{"cannot release charm 'c'", "502"}},
		"no JSON":           {200, `<html>`, true, []string{"not the JSON"}},
		"no such track": {400, `{"error-list":[{"code":null,"message":"Invalid track: 3"}]}`, false,
			[]string{"Invalid track: 3"}},
		"no permission": {403, `{"error-list":[{"code":"permission-required","message":"Missing required ` +
			`permission: package-manage-releases"}]}`, false, []string{"lacks the permission package-manage-releases",
			"--permission=package-manage-releases --permission=package-view-releases"}},
		"not for this channel": {403, `{"error-list":[{"code":"macaroon-permission-required","message":"Macaroon is not ` +
			`valid for channel latest/edge"}]}`, false,
			[]string{"or is for other charms or channels", "on the channels latest/beta"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/tokens/whoami" {
					answer(200, `{"account":{"username":"u"},"packages":null,"permissions":null,"channels":["latest/beta"]}`)(w, r)
					return
				}
				answer(c.status, c.body)(w, r)
			})
			client.config.Releases = true
			err := client.Release(t.Context(), "c", []Release{{Channel: edge, Revision: 1}})
			if err == nil || errors.Is(err, ErrUnclear) != c.unclear {
				t.Fatal(err)
			}
			wantIn(t, err.Error(), c.want...)
		})
	}
}

func TestCharmRevisions(t *testing.T) {
	client, rec := serve(t, answer(200, `{"revisions":[
		{"revision":1,"version":"1","created-at":"x","status":"approved","size":5,"sha3-384":"`+strings.ToUpper(sum)+
		`","errors":null,
		 "bases":[{"name":"ubuntu","channel":"22.04","architecture":"amd64"},{"name":"ubuntu","channel":"24.04",
		  "architecture":"amd64"}]},
		{"revision":3,"status":"released","sha3-384":"no hash","bases":[null]},
		{"revision":4,"status":"rejected","sha3-384":"`+sum+`","bases":[],"errors":[{"code":"review-error","message":"no"}]},
		{"revision":null,"status":"approved"},{"revision":5,"status":"new"}]}`))
	got, err := client.CharmRevisions(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	want := []CharmRevision{{Revision: 3, Bases: []charm.Base{{}}},
		{Revision: 1, SHA3: sum, Bases: []charm.Base{jammy, noble}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("revisions (-want +got):\n%s", diff)
	}
	if rec.log() != "GET /v1/charm/c/revisions" {
		t.Error(rec.log())
	}
}

func TestCreateCharmRevision(t *testing.T) {
	var sent string
	client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		sent = string(all)
		answer(200, `{"status-url":"/v1/charm/c/revisions/review?upload-id=u"}`)(w, r)
	})
	got, err := client.CreateCharmRevision(t.Context(), "c", "u")
	if err != nil || got != "/v1/charm/c/revisions/review?upload-id=u" || sent != `{"upload-id":"u"}` {
		t.Errorf("got %s, %v for %s", got, err, sent)
	}
	if rec.log() != "POST /v1/charm/c/revisions" {
		t.Error(rec.log())
	}
	client, _ = serve(t, answer(200, `{}`))
	if _, err := client.CreateCharmRevision(t.Context(), "c", "u"); !errors.Is(err, ErrUnclear) {
		t.Error(err)
	}
}

// FuzzReleases: whatever the store answers is read or refused, and what is read can be named.
func FuzzReleases(f *testing.F) {
	f.Add(`{"channel-map":[{"base":null,"channel":"latest/edge","revision":1,"resources":[{"name":"a",` +
		`"revision":null}]}]}`)
	f.Add(`{"package":{"channels":[{"track":"latest"}]},"revisions":[{"revision":1,"status":"released","sha3-384":"` +
		sum + `","bases":[null]}]}`)
	f.Add(`{"released":[{"channel":"edge","revision":1,"resources":null}],"revisions":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		client := New(Config{
			StoreURL: "https://store.test", Credentials: &Credentials{token: "token"}, Logger: zap.NewNop(),
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return reply(r, http.StatusOK, body), nil }),
		})
		releases, _ := client.Releases(t.Context(), "charm")
		_ = client.Release(t.Context(), "charm", releases.Map)
		for _, r := range releases.Map {
			if channel, err := ParseChannel(r.Channel.String()); err != nil || channel != r.Channel {
				t.Errorf("channel %+v", r.Channel)
			}
		}
		_, _ = client.CharmRevisions(t.Context(), "charm")
	})
}

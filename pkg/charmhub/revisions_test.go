package charmhub

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

var hash = strings.Repeat("0a", 32)

func TestRevisions(t *testing.T) {
	cases := map[string]struct {
		body string
		want []Revision
	}{
		"publisher API": {`{"revisions":[
			{"revision":1,"created-at":"2020-01-02T03:04:05","size":12,"sha256":"` + hash +
			`","sha384":"x","sha512":"x","sha3-384":"x","type":"file","name":"r",
			 "bases":[{"name":"all","channel":"all","architectures":["arm64","amd64"]}],"updated-at":null,"updated-by":null},
			{"revision":10,"size":13,"sha256":"` + strings.ToUpper(hash) +
			`","bases":[null,{"architectures":["amd64"]},{"architectures":["amd64","all"]}]},
			{"revision":9,"bases":[]}]}`,
			[]Revision{
				{Revision: 10, SHA256: hash, Size: 13, Architectures: []string{"all", "amd64"}},
				{Revision: 9},
				{Revision: 1, Type: "file", SHA256: hash, Size: 12, Architectures: []string{"amd64", "arm64"}},
			}},
		"Juju's API": {`{"revisions":[{"revision":2,"download":{"url":"u","size":5,"hash-sha-256":"` + hash + `"}}]}`,
			[]Revision{{Revision: 2, SHA256: hash, Size: 5}}},
		"hashes that are none": {`{"revisions":[{"revision":2,"sha256":"abc"},{"revision":1,"sha256":"` +
			strings.Repeat("zz", 32) + `"}]}`,
			[]Revision{{Revision: 2}, {Revision: 1}}},
		"the number 0, and none": {`{"revisions":[{"revision":0},{"revision":null},{}]}`, []Revision{{Revision: 0}}},
		"none":                   {`{"revisions":[]}`, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client, rec := serve(t, answer(200, c.body))
			got, err := client.Revisions(t.Context(), "c", "r")
			if err != nil {
				t.Fatal(err)
			}
			for n := range got {
				got[n].Age = 0 // which depends on when this is run
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if rec.log() != "GET /v1/charm/c/resources/r/revisions" {
				t.Error(rec.log())
			}
		})
	}
	client, _ := serve(t, answer(200, `{"revisions":7}`))
	if _, err := client.Revisions(t.Context(), "c", "r"); err == nil {
		t.Error("a number is a list")
	}
}

func TestAgeOfRevisions(t *testing.T) {
	for created, want := range map[string]time.Duration{
		`"2026-01-02T03:04:05Z"`: time.Minute, `"2026-01-02T03:04:05.250"`: time.Minute - time.Second/4,
		`"2026-01-02T04:04:05+01:00"`: time.Minute,
		`"2026-01-02T03:05:06Z"`:      0, `"yesterday"`: 0, `null`: 0, `7`: 0,
	} {
		client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", "Fri, 02 Jan 2026 03:05:05 GMT")
			answer(200, `{"revisions":[{"revision":1,"created-at":`+created+`}]}`)(w, r)
		})
		got, err := client.Revisions(t.Context(), "c", "r")
		if err != nil || len(got) != 1 || got[0].Age != want {
			t.Errorf("created at %s: got %+v, error %v, want an age of %s", created, got, err, want)
		}
	}
}

func TestCreateRevision(t *testing.T) {
	cases := map[string]struct {
		architectures []string
		want          string
	}{
		"default":   {nil, `["all"]`},
		"two kinds": {[]string{"amd64", "riscv64"}, `["amd64","riscv64"]`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var sent string
			client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
				all, _ := io.ReadAll(r.Body)
				sent = string(all)
				answer(200, `{"status-url":"/v1/charm/c/revisions/review?upload-id=u"}`)(w, r)
			})
			got, err := client.CreateRevision(t.Context(), "c", "r", NewRevision{"u", charm.TypeFile, c.architectures})
			if err != nil || got != "/v1/charm/c/revisions/review?upload-id=u" {
				t.Errorf("got %s, %v", got, err)
			}
			want := `{"bases":[{"name":"all","channel":"all","architectures":` + c.want + `}],"type":"file","upload-id":"u"}`
			if sent != want {
				t.Errorf("sent %s, want %s", sent, want)
			}
			if rec.log() != "POST /v1/charm/c/resources/r/revisions" {
				t.Error(rec.log())
			}
		})
	}
}

func TestSetArchitectures(t *testing.T) {
	var sent string
	body := `{"num-resource-revisions-updated":1}`
	client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		sent = string(all)
		answer(200, body)(w, r)
	})
	if err := client.SetArchitectures(t.Context(), "c", "r", 4, []string{"amd64"}); err != nil {
		t.Fatal(err)
	}
	want := `{"resource-revision-updates":[{"bases":[{"name":"all","channel":"all","architectures":["amd64"]}],` +
		`"revision":4}]}`
	if sent != want {
		t.Errorf("sent %s, want %s", sent, want)
	}
	if rec.log() != "PATCH /v1/charm/c/resources/r/revisions" {
		t.Error(rec.log())
	}
	body = `{"num-resource-revisions-updated":0}`
	if client.SetArchitectures(t.Context(), "c", "r", 4, []string{"amd64"}) == nil {
		t.Error("nothing was changed, and nobody said so")
	}
}

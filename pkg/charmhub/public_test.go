package charmhub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestImageName(t *testing.T) {
	for text, want := range map[string]string{
		`{"ImageName":"a/b@sha256:c","Username":"u","Password":"p"}`:    "a/b@sha256:c",
		"{\n  \"Password\": \"p\",\n  \"ImageName\": \"a/b@sha256:c\"}": "a/b@sha256:c",
		`{"ImageName":7}`: "", `registrypath: a/b`: "", "": "", "null": "",
	} {
		if got := ImageName([]byte(text)); got != want {
			t.Errorf("%s: got %q", text, got)
		}
	}
}

// juju is the public side of a store, and the host that its downloads lead to.
type juju struct {
	client  *Client
	rec     *recorder
	content string // of the other host

	mu   sync.Mutex
	seen []string // requests to either host, with what they give away
}

const publicText = `{"ImageName":"a/b@sha256:c","Username":"u","Password":"correct horse"}`

// newJuju serves a list, in which {store} and {content} are the hosts, and at each download the same answer.
func newJuju(t *testing.T, list string, download http.HandlerFunc) *juju {
	t.Helper()
	j := &juju{}
	see := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			j.mu.Lock()
			j.seen = append(j.seen, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Authorization")+r.Header.Get("Referer")))
			j.mu.Unlock()
			next(w, r)
		}
	}
	content := httptest.NewServer(see(download))
	t.Cleanup(content.Close)
	j.content = content.URL
	j.client, j.rec = serve(t, see(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/v1/resources/download/"):
			w.Header().Set("Location", content.URL+"/signed?with=secret")
			w.WriteHeader(http.StatusFound)
		case strings.HasPrefix(list, "{"):
			answer(200, strings.NewReplacer("{store}", "http://"+r.Host, "{content}", content.URL).Replace(list))(w, r)
		default:
			answer(404, `{"error-list":[{"code":"resource-not-found","message":"No such charm"}]}`)(w, r)
		}
	}))
	return j
}

// revisionOf returns a revision as the store would list it if its content were text.
func revisionOf(number int, text string) Revision {
	digest := sha256.Sum256([]byte(text))
	return Revision{Revision: number, Size: int64(len(text)), SHA256: hex.EncodeToString(digest[:])}
}

// listOf returns the store's public list of revisions, with one that can be downloaded from url.
func listOf(url string) string {
	return `{"revisions":[{"revision":null},{"revision":3,"download":{"url":"` + url + `","size":1,"hash-sha-256":"x"}}]}`
}

func TestImageNames(t *testing.T) {
	wanted := []Revision{revisionOf(3, publicText)}
	moved := listOf("{store}/api/v1/resources/download/charm_id.r_3")
	cases := map[string]struct {
		list     string
		download http.HandlerFunc
		of       []Revision
		want     map[int]string
		err      []string
	}{
		"on another host": {moved, answer(200, publicText), wanted, map[int]string{3: "a/b@sha256:c"}, nil},
		"on the other at once": {listOf("{content}/x"), answer(200, publicText), wanted,
			map[int]string{3: "a/b@sha256:c"}, nil},
		"by a path": {listOf("/api/v1/resources/download/x"), answer(200, publicText), wanted,
			map[int]string{3: "a/b@sha256:c"}, nil},
		"private": {"404", nil, wanted, nil, []string{"cannot read the public revisions of resource 'r' of charm 'c'", "404",
			"No such charm; the charm may be private"}},
		"not listed": {moved, answer(200, publicText), append([]Revision{revisionOf(2, publicText)}, wanted...),
			map[int]string{3: "a/b@sha256:c"},
			[]string{"cannot read the text of revision 2 of resource 'r' of charm 'c': the public list lacks it"}},
		"without a URL": {listOf(""), nil, wanted, map[int]string{}, []string{"lacks it"}},
		"refused": {moved, answer(403, "<Error/>"), wanted, map[int]string{},
			[]string{"revision 3", "403", "the charm may be private"}},
		"another text": {moved, answer(200, strings.Replace(publicText, "c", "d", 1)), wanted, map[int]string{},
			[]string{"another SHA-256 than Charmhub lists"}},
		"a shorter text":    {moved, answer(200, publicText[1:]), wanted, map[int]string{}, []string{"another SHA-256"}},
		"a longer text":     {moved, answer(200, publicText+" "), wanted, map[int]string{}, []string{"longer than"}},
		"not a description": {moved, answer(200, "text"), []Revision{revisionOf(3, "text")}, map[int]string{3: ""}, nil},
		"no address":        {listOf("mailto:a@b"), nil, wanted, map[int]string{}, []string{"not an address"}},
		"with a password":   {listOf("http://a:b@127.0.0.1/"), nil, wanted, map[int]string{}, []string{"not an address"}},
		"in circles": {moved, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/on", http.StatusFound) },
			wanted, map[int]string{}, []string{"redirects too often"}},
		"not JSON": {"{", nil, wanted, nil, []string{"not the JSON"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJuju(t, c.list, c.download)
			got, err := j.client.ImageNames(t.Context(), "c", "r", c.of)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (c.err == nil) {
				t.Errorf("error %v", err)
			}
			if err != nil {
				wantIn(t, err.Error(), c.err...)
				wantNotIn(t, err.Error(), "correct horse", "with=secret", "charmcraft")
			}
			for _, request := range j.seen {
				if strings.Contains(request, " ") {
					t.Errorf("a request gives away %q", request)
				}
			}
			if len(c.want) > 0 && c.want[3] != "" && !j.rec.masked["correct horse"] {
				t.Error("the password isn't masked")
			}
			if !slices.Contains(j.seen, "/v2/charms/resources/c/r/revisions") {
				t.Errorf("asked %q", j.seen)
			}
		})
	}
}

// Names are escaped, and stay where they belong in the path.
func TestImageNamesOfOddNames(t *testing.T) {
	j := newJuju(t, `{"revisions":[]}`, nil)
	if _, err := j.client.ImageNames(t.Context(), "../x", "a/b", nil); err != nil {
		t.Fatal(err)
	}
	if want := "GET /v2/charms/resources/..%2Fx/a%2Fb/revisions"; j.rec.log() != want {
		t.Error(fmt.Sprint(j.rec.log()))
	}
}

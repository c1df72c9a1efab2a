package charmhub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const statusURL = "/v1/charm/c/revisions/review?upload-id=u"

// item returns the store's answer about one upload that has the status. rest holds further members in JSON.
func item(status, rest string) string {
	return `{"revisions":[{"upload-id":"u","status":"` + status + `",` + rest + `}]}`
}

// polled is a client whose store answers one body after another, the last one for ever. It works in a bubble, where
// time is free.
func polled(t *testing.T, bodies ...string) (*Client, *[]time.Time, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	var polls []time.Time
	client := New(Config{
		StoreURL: "https://store.test/base/", Credentials: mustParse(t, paste("x")), Logger: zap.New(core),
		Mask: func(string) {},
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			if got := r.URL.String(); got != "https://store.test/base"+statusURL {
				t.Errorf("polled %s", got)
			}
			body := bodies[min(len(polls), len(bodies)-1)]
			polls = append(polls, time.Now())
			return reply(r, 200, body), nil
		}),
	})
	return client, &polls, logs
}

func TestAwait(t *testing.T) {
	approved := item("approved", `"revision":7,"errors":null`)
	cases := map[string]struct {
		bodies   []string
		revision int
		polls    int
		want     string
	}{
		"at once": {[]string{approved}, 7, 1, ""},
		"on the way": {[]string{item("new", `"revision":null,"errors":null`),
			item("scanned", `"revision":null,"errors":[]`), approved}, 7, 3, ""},
		"number before":  {[]string{item("scanned", `"revision":7,"errors":null`), approved}, 7, 2, ""},
		"not listed yet": {[]string{`{"revisions":[]}`, approved}, 7, 2, ""},
		"others beside": {[]string{`{"revisions":[{"upload-id":"x","status":"approved","revision":3},` +
			`{"upload-id":"u","status":"approved","revision":4}]}`}, 4, 1, ""},
		"without ID": {[]string{`{"revisions":[{"status":"approved","revision":4}]}`}, 4, 1, ""},
		"only another": {[]string{`{"revisions":[{"upload-id":"x","status":"approved","revision":3}]}`, approved}, 7,
			2, ""},
		"only others": {[]string{`{"revisions":[{"upload-id":"x","status":"approved","revision":3},` +
			`{"upload-id":"y","status":"rejected"}]}`, approved}, 7, 2, ""},
		"the number 0": {[]string{item("new", `"revision":0`), item("approved", `"revision":0,"errors":null`)}, 0, 2,
			""},
		"rejected": {[]string{item("new", `"errors":null`),
			item("rejected", `"revision":7,"errors":[{"code":"bad","message":"too\u001b[1m big"},{"code":null,`+
				`"message":"ugly"}]`)}, 0, 2, "rejected the upload: too [1m big; ugly (bad); correct what it names, and run this " +
			"again"},
		"rejected silently": {[]string{item("rejected", `"revision":null,"errors":null`)}, 0, 1,
			"gave no reason; run this again, and if it is rejected again, ask Charmhub's team about the upload 'u'"},
		"rejected by code": {[]string{item("rejected", `"errors":[{"code":"bad"}]`)}, 0, 1,
			"rejected the upload: bad; correct what it names"},
		"there already": {[]string{item("new", `"errors":null`),
			item("rejected", `"revision":null,"errors":[{"code":"review-error","message":"Cannot insert package. An upload `+
				`with that digest (SHA3-384: 'abc') already exists in the database. Revision of the existing package is: 425"}]`)},
			425, 2, ""},
		"there, and worse": {[]string{item("rejected", `"errors":[{"code":"review-error","message":"Revision of the `+
			`existing package is: 425"},{"code":"bad","message":"too big"}]`)}, 0, 1, "too big"},
		"there, they say": {[]string{item("rejected",
			`"errors":[{"code":"bad","message":"Revision of the existing package is: 425"}]`)}, 0, 1, "rejected the upload"},
		"there, but where": {[]string{item("rejected", `"errors":[{"code":"review-error","message":"Revision of the `+
			`existing package is: 425 or so"}]`)}, 0, 1, "rejected the upload"},
		"there, but not where": {
			[]string{item("rejected", `"errors":[{"code":"review-error","message":"An upload with that digest already exists `+
				`in the database."}]`)}, 0, 1, "already exists in the database (review-error); find the revision that has it " +
				"with `charmcraft resource-revisions` or `charmcraft revisions`"},
		"no number": {[]string{item("approved", `"revision":null`)}, 0, 1,
			"no revision number; run this again, which looks for the revision"},
		"not JSON": {[]string{"oops"}, 0, 1, "not the JSON"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, polls, _ := polled(t, c.bodies...)
				got, err := client.Await(t.Context(), statusURL)
				if got.Revision != c.revision || got.Existed != (name == "there already") || (err == nil) != (c.want == "") {
					t.Fatalf("got %+v, %v", got, err)
				}
				if err != nil {
					wantIn(t, err.Error(), c.want)
				}
				if _, exists := errors.AsType[*ExistsError](err); exists != (name == "there, but not where") {
					t.Errorf("%v is about content that exists: %t", err, exists)
				}
				if len(*polls) != c.polls {
					t.Errorf("%d polls, want %d", len(*polls), c.polls)
				}
			})
		})
	}
}

func TestAwaitIsPatientButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		client, polls, logs := polled(t, item("scanned", `"revision":7`))
		_, err := client.Await(t.Context(), statusURL)
		if err == nil {
			t.Fatal("no error")
		}
		wantIn(t, err.Error(), "status 'scanned'", "within 30m0s", "run this again later, which picks up the revision",
			"ask Charmhub's team about the upload 'u'")
		if waited := time.Since(start); waited != 30*time.Minute {
			t.Errorf("gave up after %s", waited)
		}
		first, last := (*polls)[1].Sub((*polls)[0]), (*polls)[100].Sub((*polls)[99])
		if first != 100*time.Millisecond || last != 10*time.Second {
			t.Errorf("pauses go from %s to %s", first, last)
		}
		if n := logs.Len(); n < 28 || n > 30 {
			t.Errorf("%d lines in the log, want one a minute", n)
		}
		entry := logs.All()[0]
		wantIn(t, fmt.Sprint(entry.Message, entry.ContextMap()), "still reviewing the upload", "status:scanned", "after:1m",
			"limit:30m0s")
	})
}

func TestAwaitEndsAtAStatusThatOnlyAPersonCanChange(t *testing.T) {
	for name, c := range map[string]struct {
		bodies []string
		want   []string
		after  time.Duration // the least and, but for one pause, the most that it takes; 0 for a review that ends well
	}{
		"with a revision": {
			[]string{item("new", `"revision":null`), item("needs_review", `"revision":7`)},
			[]string{"waiting for the store's review of the upload: it stays at the status 'needs_review'",
				"somebody at Charmhub must decide on revision 7",
				"ask Charmhub's team about the upload 'u'", "run this again when it is approved, which picks up the revision"},
			10 * time.Second,
		},
		"without": {[]string{item("needs_review", `"revision":null`)},
			[]string{"somebody at Charmhub must decide on it: ask"}, 10 * time.Second},
		"odd": {[]string{item("on\\u001b[1m hold", `"revision":null`)}, []string{"status 'on [1m hold'"},
			10 * time.Second},
		"two of them": {[]string{item("a", `"revision":1`), item("b", `"revision":1`)}, []string{"status 'b'"},
			10 * time.Second},
		"passing": {[]string{item("queued", `"revision":null`), item("new", `"revision":null`),
			item("approved", `"revision":7`)}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				client, _, _ := polled(t, c.bodies...)
				reviewed, err := client.Await(t.Context(), statusURL)
				took := time.Since(start)
				if c.after == 0 {
					if err != nil || reviewed.Revision != 7 || took > time.Second {
						t.Errorf("got %+v, %v after %s", reviewed, err, took)
					}
					return
				}
				if err == nil || took < c.after || took > 2*c.after {
					t.Fatalf("after %s: %+v, %v", took, reviewed, err)
				}
				wantIn(t, err.Error(), c.want...)
			})
		})
	}
}

func TestAwaitStopsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _, _ := polled(t, item("new", `"revision":null`))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(90*time.Second, cancel)
		start := time.Now()
		_, err := client.Await(ctx, statusURL)
		if !errors.Is(err, context.Canceled) || time.Since(start) != 90*time.Second {
			t.Errorf("stopped after %s with %v", time.Since(start), err)
		}
	})
}

func TestAwaitFollowsNoAddressOfAnotherHost(t *testing.T) {
	client, rec := serve(t, answer(200, item("approved", `"revision":7`)))
	for _, elsewhere := range []string{
		"https://evil.test/x", "//evil.test/x", "https://user@evil.test/", "mailto:a@b", "http:evil", "\x00",
		strings.Replace(client.config.StoreURL, "http:", "https:", 1) + "/x",
		"//user@" + strings.TrimPrefix(client.config.StoreURL, "http://"),
	} {
		if _, err := client.Await(t.Context(), elsewhere); err == nil || !strings.Contains(err.Error(), "status-url") {
			t.Errorf("%q gives %v", elsewhere, err)
		}
	}
	if rec.log() != "" {
		t.Errorf("asked %s", rec.log())
	}
	for _, home := range []string{statusURL, client.config.StoreURL + statusURL, "@evil.test/x", "v1/../x"} {
		if got, err := client.Await(t.Context(), home); err != nil || got.Revision != 7 {
			t.Errorf("%q gives %+v, %v", home, got, err)
		}
	}
}

package charmhub

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.uber.org/zap"
)

// FuzzParseCredentials: whatever is pasted, the result can stand in a header, no error shows a piece of it, and nothing
// printed does.
func FuzzParseCredentials(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(paste(v.pairText()))
		f.Add(v.Root)
	}
	f.Add(paste(`{"t":"macaroon","v":"abc"}`))
	f.Add(paste(`{"macaroon":"abc"}`))
	f.Add("'" + paste("bare") + "'\n")
	_, failure := ParseCredentials("")
	fixed := failure.Error()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCredentials(text)
		if err != nil {
			if len(err.Error()) > len(fixed)+100 {
				t.Errorf("an error that is longer than its own words: %q", err)
			}
			return
		}
		if !sendable(header(c)) {
			t.Errorf("header %q", header(c))
		}
		if fmt.Sprintf("%+v", c) != "[store credentials]" {
			t.Error("it prints")
		}
		for _, secret := range c.Secrets() {
			if secret == "" {
				t.Error("nothing is no secret")
			}
		}
	})
}

// FuzzErrorList: whatever the store answers, the error is short and one line.
func FuzzErrorList(f *testing.F) {
	for _, body := range []string{
		`{"error-list":[{"code":"a","message":"b"}]}`, `{"error_list":[{"code":null,"message":"b"}]}`,
		`{"code":"a","message":"b"}`, `<html>`, "{\"error-list\":[{\"message\":\"\\u001b[0m\\u202e\"}]}",
	} {
		f.Add(404, body)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://store.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response := reply(request, status, body)
		defer response.Body.Close()
		text := readError(response).Error()
		if strings.ContainsFunc(text, unicode.IsControl) || len(text) > 25_000 {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	})
}

// FuzzRevisions: whatever the store lists comes newest first, with hashes that are hashes.
func FuzzRevisions(f *testing.F) {
	f.Add([]byte(`{"revisions":[{"revision":1,"size":12,"sha256":"` + hash +
		`","bases":[null,{"architectures":["b","a"]}]}]}`))
	f.Add([]byte(`{"revisions":[{"revision":1,"download":{"size":1,"hash-sha-256":"` + hash + `"}},{"revision":2}]}`))
	f.Add([]byte(`{"revisions":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var answer struct{ Revisions []listedRevision }
		err := request{}.decode(body, &answer)
		list := revisions(answer.Revisions, time.Now())
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%q", err)
		}
		for i, r := range list {
			if i > 0 && list[i-1].Revision < r.Revision {
				t.Error("not newest first")
			}
			if r.Age < 0 {
				t.Errorf("age %s", r.Age)
			}
			if r.SHA256 != "" && (len(r.SHA256) != 64 || r.SHA256 != strings.ToLower(r.SHA256)) {
				t.Errorf("hash %q", r.SHA256)
			}
		}
	})
}

// FuzzReview: whatever the store says of an upload, its reasons are short and on one line.
func FuzzReview(f *testing.F) {
	f.Add([]byte(`{"revisions":[{"upload-id":"a","status":"approved","revision":7,"errors":null}]}`))
	f.Add([]byte(`{"revisions":[{"upload-id":"a","status":"rejected","errors":[{"code":null,"message":"no"}]}]}`))
	f.Add([]byte(`{"revisions":[{"upload-id":1,"status":null,"revision":null},null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var answer struct{ Revisions []review }
		if err := (request{}).decode(body, &answer); err != nil {
			return
		}
		picked := pick(answer.Revisions, "a")
		_, _, err := picked.outcome("u")
		for _, text := range []string{fmt.Sprint(err), picked.status()} {
			if strings.ContainsFunc(text, unicode.IsControl) || len(text) > 25_000 {
				t.Errorf("%d bytes: %q", len(text), text)
			}
		}
	})
}

// FuzzStatusURL: wherever the store says that a review can be asked for, the credentials go to the store.
func FuzzStatusURL(f *testing.F) {
	const store = "https://store.test"
	for _, status := range []string{
		"/v1/charm/a/revisions/review?upload-id=b", "//evil.test/x", "https://store.test@evil.test/", "https:evil.test",
		"\\\\evil.test", "@evil.test/", ":443/", "http://store.test/", "/../..//evil.test",
	} {
		f.Add(status)
	}
	client := New(Config{StoreURL: store, Credentials: &Credentials{token: "t"}})
	f.Fuzz(func(t *testing.T, status string) {
		r, _, err := client.reviewRequest(status)
		if err != nil {
			return
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.address(store), nil)
		if err == nil && (request.URL.Host != "store.test" || request.URL.Scheme != "https" || request.URL.User != nil) {
			t.Errorf("%q leads to %s", status, request.URL)
		}
	})
}

// FuzzAnswers: whatever else the store answers is read or refused, and the secrets in it are masked.
func FuzzAnswers(f *testing.F) {
	f.Add(`{"ImageName":"a@sha256:b","Username":"c","Password":"d"}`)
	f.Add(`{"image-name":"a/b/c","username":"d","password":"e"}`)
	f.Add(`{"account":{"username":"a"},"packages":[{"name":null,"id":"b"}],"permissions":null}`)
	f.Add(`{"resources":[{"name":"a","type":"file","revision":null}]}`)
	f.Add(`{"metadata":{"default-track":null,"tracks":[{"name":"2"}],"track-guardrails":[{"pattern":"[0-9]{1,1000}"}]}}`)
	f.Add(`{"revisions":[{"revision":1,"download":{"url":"//a/b","size":2,"hash-sha-256":null}}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		masked := map[string]bool{}
		client := New(Config{
			StoreURL: "https://store.test", Credentials: &Credentials{token: "token"}, Logger: zap.NewNop(),
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return reply(r, http.StatusOK, body), nil }),
			Mask:      func(secret string) { masked[secret] = true },
		})
		login, err := client.UploadCredentials(t.Context(), "charm", "resource")
		if err == nil && !masked[login.Password] {
			t.Errorf("the password in %q isn't masked", body)
		}
		_, _ = client.whoami(t.Context())
		_, _ = client.Resources(t.Context(), "charm")
		if tracks, err := client.Tracks(t.Context(), "charm"); err == nil {
			_ = tracks.Allow("2.0")
		}
		_, _ = client.ImageBlob(t.Context(), "charm", "resource", "sha256:")
		_, _ = client.ImageNames(t.Context(), "charm", "resource", []Revision{{Revision: 1, Size: 1}})
	})
}

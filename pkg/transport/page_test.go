package transport

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"
)

func TestPages(t *testing.T) {
	t.Parallel()
	const page = "\n<!DOCTYPE html>\n<html><head><title>\n Sign in &amp; pay </title></head></html>"
	tests := map[string]struct {
		method, path, contentType, body string
		status                          int
		title                           string // of the page; "-" for none that is an error
	}{
		"page":               {"GET", "/", "text/html; charset=utf-8", page, 200, "Sign in & pay"},
		"answer to a POST":   {"POST", "/", "text/html", page, 201, "Sign in & pay"},
		"without a title":    {"GET", "/", "text/html", "<HTML>", 200, ""},
		"data called a page": {"GET", "/", "text/html", `{"a":1}`, 200, "-"},
		"data":               {"GET", "/", "application/json", page, 200, "-"},
		"failure":            {"GET", "/", "text/html", page, 502, "-"},
		"head":               {"HEAD", "/", "text/html", "", 200, "-"},
		"blob":               {"GET", "/v2/a/blobs/sha256:00", "text/html", page, 200, "-"},
		"empty":              {"GET", "/", "text/html", "", 200, "-"},
		"large":              {"GET", "/", "text/html", "{" + strings.Repeat("x", 2*pageStart), 200, "-"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := pages{roundTripper(func(req *http.Request) (*http.Response, error) {
				res := answer(req, test.status)
				res.Header = http.Header{"Content-Type": {test.contentType}}
				res.Body = io.NopCloser(strings.NewReader(test.body))
				return res, nil
			})}.RoundTrip(request(t, test.method, "https://example.com"+test.path, nil))
			if test.title != "-" {
				found, ok := errors.AsType[*PageError](err)
				if !ok || found.Host != "example.com" || found.Title != test.title {
					t.Errorf("got %v, want a page with the title %q", err, test.title)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(res.Body); string(got) != test.body || err != nil {
				t.Errorf("the answer has changed: %q, %v", got, err)
			}
			_ = res.Body.Close()
		})
	}
}

// FuzzTitle: a title from outside is one short line.
func FuzzTitle(f *testing.F) {
	f.Add([]byte("<title>a\n&#10;b\x1b[31m\u202e</title>"))
	f.Add([]byte("<title><title>x</title>"))
	f.Fuzz(func(t *testing.T, page []byte) {
		title := titleOf(page)
		if len(title) > 400 || strings.ContainsFunc(title, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%q", title)
		}
	})
}

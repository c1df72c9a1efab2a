package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func good(revision string, created bool, sent int64, digest string) *outcome {
	yes := map[bool]string{true: "true", false: "false"}[created]
	o := &outcome{
		traffic: traffic{sent: sent}, revisions: []server.Revision{{Number: 1}},
		outputs: map[string]string{
			"revision": revision, "revision-created": yes, "uploaded": yes,
			"resource-flag": imageResource + ":" + revision, "remote-digest": digest,
		},
	}
	if revision == "2" {
		o.revisions = append(o.revisions, server.Revision{Number: 2})
	}
	return o
}

func TestCheck(t *testing.T) {
	first := good("1", true, 1000, "sha256:a")
	created, unchanged, changed := want{revision: 1, created: true}, want{revision: 1, after: 1}, want{revision: 2, created: true, after: 1}
	tests := []struct {
		name   string
		want   want
		before *outcome
		base   *outcome
		spoil  func(*outcome)
		err    string
	}{
		{"first", created, nil, first, nil, ""},
		{"unchanged", unchanged, first, good("1", false, 0, "sha256:a"), nil, ""},
		{"changed", changed, first, good("2", true, 100, "sha256:b"), nil, ""},
		{"wrong output", created, nil, good("1", false, 10, "sha256:a"), nil, `the output revision-created is "false" instead of "true"`},
		{"another revision", unchanged, first, good("1", false, 0, "sha256:a"),
			func(o *outcome) { o.revisions = append(o.revisions, server.Revision{Number: 2}) }, "the store has 2 revisions"},
		{"nothing sent", created, nil, good("1", true, 0, "sha256:a"), nil, "but nothing was sent"},
		{"sent again", unchanged, first, good("1", false, 7, "sha256:a"), nil, "but 7 bytes were"},
		{"written again", unchanged, first, good("1", false, 0, "sha256:a"),
			func(o *outcome) { o.traffic.writes = []string{"PUT /v2/x"} }, "PUT /v2/x"},
		{"another digest", unchanged, first, good("1", false, 0, "sha256:b"), nil, "the output remote-digest was"},
		{"same digest", changed, first, good("2", true, 100, "sha256:a"), nil, "has the digest of the one before"},
		{"all sent", changed, first, good("2", true, 101, "sha256:b"), nil, "only a small layer changed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.spoil != nil {
				test.spoil(test.base)
			}
			err := test.want.check(imageResource, test.base, test.before)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
		})
	}
}

func TestCount(t *testing.T) {
	got := count([]server.Request{
		{Server: "auth", Method: http.MethodPost, Path: "/token"},
		{Server: "store", Method: http.MethodGet, Path: "/v1/charm/c/resources"},
		{Server: "store", Method: http.MethodPost, Path: "/v1/charm/c/resources/r/oci-image/blob", BodyBytes: 90},
		{Server: "store", Method: http.MethodPost, Path: "/v1/charm/c/resources/r/revisions", BodyBytes: 50},
		{Server: "storage", Method: http.MethodPost, Path: "/unscanned-upload/", BodyBytes: 300},
		{Server: "registry", Method: http.MethodHead, Path: "/v2/r/manifests/latest"},
		{Server: "registry", Method: http.MethodPut, Path: "/v2/r/manifests/latest", BodyBytes: 4},
	})
	want := traffic{requests: 7, sent: 304, writes: []string{
		"POST /v1/charm/c/resources/r/revisions", "POST /unscanned-upload/", "PUT /v2/r/manifests/latest",
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(traffic{})); diff != "" {
		t.Error(diff)
	}
}

func TestParseOutputs(t *testing.T) {
	got, err := parseOutputs("a<<E\n1\nE\nb<<E\n\nE\n")
	if diff := cmp.Diff(map[string]string{"a": "1", "b": ""}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, damaged := range []string{"a=1\n", "a<<E\n1\nF\n", "a<<E\n1\nE\nb<<E\n"} {
		if got, err := parseOutputs(damaged); err == nil {
			t.Errorf("%q was read as %v", damaged, got)
		}
	}
}

func TestLogWriter(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	var out bytes.Buffer
	log := &logWriter{out: &out}
	for _, part := range []string{"New ", digest + "\nnext", "\n"} {
		if _, err := log.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "   | New sha256:0123456789ab…\n   | next\n"; out.String() != want {
		t.Errorf("printed %q", out.String())
	}
	if want := "New " + digest + "\nnext\n"; log.all.String() != want {
		t.Errorf("kept %q", log.all.String())
	}
}

func TestBuiltID(t *testing.T) {
	id, err := builtID(strings.NewReader(`{"stream":"Step 1"}{"aux":{"ID":"sha256:a"}}{"stream":"done"}`))
	if err != nil || id != "sha256:a" {
		t.Errorf("got %q, %v", id, err)
	}
	for _, messages := range []string{``, `{"stream":"Step 1"}`, `{"aux":{"ID":"sha256:a"}}{"error":"no space"}`, `<html>`} {
		if id, err := builtID(strings.NewReader(messages)); err == nil {
			t.Errorf("%s gave %q", messages, id)
		}
	}
}

package main

import (
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/pkg/action"
)

// good returns the outcome of a run whose outputs, log and sent bytes agree, as the demo expects.
func good(revision string, created bool, sent int64, digest string) *outcome {
	yes := map[bool]string{true: "true", false: "false"}[created]
	o := &outcome{
		sent:      sent,
		logged:    action.Size(sent),
		revisions: []server.Revision{{Number: 1}},
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
	created, unchanged, changed := step{revision: 1, created: true}, step{revision: 1}, step{revision: 2, created: true}
	tests := []struct {
		name   string
		want   step
		before *outcome
		base   *outcome
		spoil  func(*outcome)
		err    string
	}{
		{"first", created, nil, first, nil, ""},
		{"unchanged", unchanged, first, good("1", false, 0, "sha256:a"), nil, ""},
		{"changed", changed, first, good("2", true, 100, "sha256:b"), nil, ""},
		{"wrong output", created, nil, good("1", false, 10, "sha256:a"), nil,
			`the output revision-created is "false" instead of "true"`},
		{"another revision", unchanged, first, good("1", false, 0, "sha256:a"),
			func(o *outcome) { o.revisions = append(o.revisions, server.Revision{Number: 2}) }, "the store has 2 revisions"},
		{"nothing sent", created, nil, good("1", true, 0, "sha256:a"), nil, "but nothing was sent"},
		{"another amount in the log", created, nil, good("1", true, 100_000, "sha256:a"),
			func(o *outcome) { o.logged = "3.4 kB" },
			`the log says that "3.4 kB" was sent, but the servers received 100000 bytes`},
		{"sent again", unchanged, first, good("1", false, 7, "sha256:a"), nil, "but 7 bytes were"},
		{"another digest", unchanged, first, good("1", false, 0, "sha256:b"), nil, `the output remote-digest is "sha256:b"`},
		{"same digest", changed, first, good("2", true, 100, "sha256:a"), nil, "has the digest of the one before"},
		{"all sent", changed, first, good("2", true, 101, "sha256:b"), nil, "only a small layer changed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.spoil != nil {
				test.spoil(test.base)
			}
			test.want.resource = imageResource
			err := test.want.check(test.base, test.before)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
		})
	}
}

func TestShorten(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	if got := shorten("New " + digest + ", next"); got != "New sha256:0123456789ab…, next" {
		t.Error(got)
	}
}

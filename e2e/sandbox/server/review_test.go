package server_test

import (
	"crypto/sha3"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// pollReview polls a review once and returns its status and revision.
func pollReview(t *testing.T, s *server.Server, review string) (status, revision any) {
	t.Helper()
	got := publisher(t, s, http.MethodGet, review, "")
	return got.field(t, "revisions", "status"), got.field(t, "revisions", "revision")
}

func TestReviewTakesItsTime(t *testing.T) {
	s := start(t, server.Options{ReviewDelay: 2})
	review := submit(t, s, send(t, s, "content"))
	for i, want := range [][2]any{{"new", nil}, {"scanned", 1.0}, {"approved", 1.0}, {"approved", 1.0}} {
		if status, revision := pollReview(t, s, review); status != want[0] || revision != want[1] {
			t.Errorf("look %d: %v %v, want %v", i+1, status, revision, want)
		}
	}
	revisions := s.Revisions("my-charm", "my-file")
	if len(revisions) != 1 || revisions[0].Number != 1 || revisions[0].Architectures()[0] != "amd64" {
		t.Fatalf("revisions: %+v", revisions)
	}
	if content, err := revisions[0].Content(); err != nil || string(content) != "content" {
		t.Errorf("content %q, %v", content, err)
	}
}

func TestReviewEndsWhileOnlyTheListIsRead(t *testing.T) {
	s := start(t, server.Options{})
	submit(t, s, send(t, s, "content"))
	publisher(t, s, http.MethodGet, filePath+"/revisions", "")
	if listed := publisher(t, s, http.MethodGet, filePath+"/revisions", ""); listed.field(t, "revisions",
		"revision") != 1.0 {
		t.Errorf("second list: %+v", listed)
	}
}

func TestReviewRejects(t *testing.T) {
	s := start(t, server.Options{RejectReason: "too big"})
	review := submit(t, s, send(t, s, "content"))
	pollReview(t, s, review)
	got := publisher(t, s, http.MethodGet, review, "")
	if got.field(t, "revisions", "status") != "rejected" || got.field(t, "revisions", "errors", "message") != "too big" {
		t.Errorf("review: %+v", got)
	}
	if revisions := s.Revisions("my-charm", "my-file"); len(revisions) != 0 {
		t.Errorf("revisions: %+v", revisions)
	}
}

func TestReviewNeverEnds(t *testing.T) {
	s := start(t, server.Options{NeverReview: true})
	review := submit(t, s, send(t, s, "content"))
	for range 5 {
		if status, _ := pollReview(t, s, review); status == "approved" {
			t.Fatal("approved")
		}
	}
}

func TestIdenticalContentIsOneRevision(t *testing.T) {
	s := start(t, server.Options{})
	first := submit(t, s, send(t, s, "same"))
	second := submit(t, s, send(t, s, "same")) // while the first is reviewed
	for _, review := range []string{first, second} {
		pollReview(t, s, review)
		if status, revision := pollReview(t, s, review); status != "approved" || revision != 1.0 {
			t.Errorf("%v %v, want approved 1", status, revision)
		}
	}
	third := submit(t, s, send(t, s, "different"))
	pollReview(t, s, third)
	if _, revision := pollReview(t, s, third); revision != 2.0 {
		t.Errorf("different content: revision %v, want 2", revision)
	}
	if n := len(s.Revisions("my-charm", "my-file")); n != 2 {
		t.Errorf("%d revisions, want 2", n)
	}
}

func TestDuplicatesAreRejected(t *testing.T) {
	s := start(t, server.Options{RejectDuplicates: true})
	first := submit(t, s, send(t, s, "content"))
	pollReview(t, s, first)
	pollReview(t, s, first)
	again := submit(t, s, send(t, s, "content"))
	pollReview(t, s, again)
	pollReview(t, s, again)
	ended := publisher(t, s, http.MethodGet, again, "")
	if message, _ := ended.field(t, "revisions", "errors", "message").(string); !strings.HasSuffix(message,
		"Revision of the existing package is: 1") {
		t.Errorf("the review ended as %s", ended.text)
	}
	if n := len(s.Revisions("my-charm", "my-file")); n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

func TestListLags(t *testing.T) {
	s := start(t, server.Options{ListLag: 2, NestedHashes: true})
	review := submit(t, s, send(t, s, "content"))
	pollReview(t, s, review)
	pollReview(t, s, review)
	for i, want := range []any{nil, nil, 1.0} {
		if listed := publisher(t, s, http.MethodGet, filePath+"/revisions", ""); listed.field(t, "revisions",
			"revision") != want {
			t.Errorf("list %d: %+v, want %v", i+1, listed, want)
		}
	}
	listed := publisher(t, s, http.MethodGet, filePath+"/revisions", "")
	sum := sha3.Sum384([]byte("content"))
	if got := listed.field(t, "revisions", "download", "hash-sha3-384"); got != hex.EncodeToString(sum[:]) {
		t.Errorf("sha3-384 %v in %s", got, listed.text)
	}
}

// TestBasesOfARequest: what craft-store's and charmcraft's requests leave out is "all", and two bases of one name and
// channel are one.
func TestBasesOfARequest(t *testing.T) {
	all := []server.Base{{Name: "all", Channel: "all", Architectures: []string{"all"}}}
	for name, test := range map[string]struct {
		bases string
		want  []server.Base
	}{
		"none":               {``, all},
		"null":               {`,"bases":null`, all},
		"an empty list":      {`,"bases":[]`, all},
		"architectures only": {`,"bases":[{"architectures":["all"]}]`, all},
		"several": {
			`,"bases":[{"architectures":["arm64"]},{"name":"ubuntu","channel":"24.04"},{"name":"all","channel":"all",` +
				`"architectures":["amd64","arm64"]}]`,
			[]server.Base{
				{Name: "all", Channel: "all", Architectures: []string{"arm64", "amd64"}}, // as they come
				{Name: "ubuntu", Channel: "24.04", Architectures: []string{"all"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, server.Options{FromZero: true})
			body := `{"upload-id":"` + send(t, s, "content") + `","type":"file"` + test.bases + `}`
			created := publisher(t, s, http.MethodPost, filePath+"/revisions", body)
			review, _ := created.field(t, "status-url").(string)
			pollReview(t, s, review)
			if status, revision := pollReview(t, s, review); status != "approved" || revision != 0.0 {
				t.Fatalf("%v %v, want approved 0: %s", status, revision, created.text)
			}
			if diff := cmp.Diff(test.want, s.Revisions("my-charm", "my-file")[0].Bases); diff != "" {
				t.Errorf("bases (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBasesCanBeCorrected(t *testing.T) {
	s := start(t, server.Options{})
	review := submit(t, s, send(t, s, "content"))
	pollReview(t, s, review)
	pollReview(t, s, review)
	updated := publisher(t, s, http.MethodPatch, filePath+"/revisions",
		`{"resource-revision-updates":[{"revision":1,"bases":[{"name":"all","channel":"all","architectures":["arm64",`+
			`"all"]}]}]}`)
	if updated.field(t, "num-resource-revisions-updated") != 1.0 {
		t.Fatalf("update: %+v", updated)
	}
	if got := s.Revisions("my-charm", "my-file")[0].Architectures(); len(got) != 2 || got[0] != "all" ||
		got[1] != "arm64" {
		t.Errorf("architectures %v", got)
	}
}

package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const publicList = "/v2/charms/resources/my-charm/my-file/revisions"

// What is public is read without credentials, from the host that the store leads to, which takes none.
func TestPublicRevisions(t *testing.T) {
	s := start(t, server.Options{})
	s.PutResource("my-charm", "my-file", strings.NewReader("first"))
	s.PutResource("my-charm", "my-file", strings.NewReader("second"))
	list := do(t, http.MethodGet, s.StoreURL+publicList, "")
	url, _ := list.field(t, "revisions", "download").(map[string]any)["url"].(string)
	if list.field(t, "revisions", "revision") != 2.0 ||
		!strings.HasPrefix(url, s.StoreURL+"/api/v1/resources/download/charm_") || !strings.HasSuffix(url, ".my-file_2") {
		t.Fatalf("listed %+v", list)
	}
	if got := do(t, http.MethodGet, url, ""); got.text != "second" {
		t.Errorf("downloaded %+v", got)
	}
	if got := do(t, http.MethodGet, strings.TrimSuffix(url, "2")+"7", ""); got.status != http.StatusNotFound {
		t.Errorf("an unknown revision gives %+v", got)
	}
	moved := s.Requests()[2]
	if moved.Server != "storage" {
		t.Fatalf("the content came from %s", moved)
	}
	if got := do(t, http.MethodGet, s.StorageURL+moved.Path+"?"+moved.Query.Encode(), "", "Authorization",
		"Macaroon x"); got.status != http.StatusBadRequest {
		t.Errorf("with credentials: %+v", got)
	}
}

func TestPrivateRevisions(t *testing.T) {
	s, err := server.Start(server.Options{Charms: []server.Charm{{
		Name: "my-charm", Private: true, Resources: []server.Resource{{Name: "my-file", Type: server.TypeFile}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.PutResource("my-charm", "my-file", strings.NewReader("first"))
	if got := do(t, http.MethodGet, s.StoreURL+publicList, ""); got.status != http.StatusNotFound {
		t.Errorf("listed %+v", got)
	}
}

// The text for an image changes with the clock, and the password of before works on.
func TestTextPeriod(t *testing.T) {
	s := start(t, server.Options{TextPeriod: 720 * time.Hour})
	repository, auth, _ := credentials(t, s, "my-charm", "my-image")
	ref := push(t, repository, auth)
	text := func() string {
		return publisher(t, s, http.MethodPost, imagePath+"/oci-image/blob", `{"image-digest":"`+ref.DigestStr()+`"}`).text
	}
	first := text()
	if text() != first {
		t.Error("the text changes within its period")
	}
	s.AdvanceClock(720 * time.Hour)
	if text() == first {
		t.Error("the text stays after its period")
	}
	var login struct{ Username, Password string }
	if err := json.Unmarshal([]byte(first), &login); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(ref,
		remote.WithAuth(&authn.Basic{Username: login.Username, Password: login.Password})); err != nil {
		t.Errorf("pulling with the first text: %v", err)
	}
}

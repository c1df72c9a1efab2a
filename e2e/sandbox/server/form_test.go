package server_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// challenge returns the realm and the service that the registry names.
func challenge(t *testing.T, s *server.Server) (realm, service string) {
	t.Helper()
	answer, err := http.Get(s.RegistryURL + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	header := answer.Header.Get("WWW-Authenticate")
	found := regexp.MustCompile(`^Bearer realm="(.*)",service="(.*)"$`).FindStringSubmatch(header)
	if found == nil {
		t.Fatalf("challenge %q", header)
	}
	return found[1], found[2]
}

// TestTokenService: where it is, what its service is called, and which methods it answers.
func TestTokenService(t *testing.T) {
	for name, separate := range map[string]bool{"on the store's server": false, "on its own": true} {
		t.Run(name, func(t *testing.T) {
			s := start(t, server.Options{SeparateTokenService: separate})
			realm, service := challenge(t, s)
			wantRealm, wantService := s.StoreURL+"/v1/tokens/docker-registry", s.RegistryURL+"/"
			posted := http.StatusOK
			if separate {
				wantRealm, wantService = s.RealmURL, strings.TrimPrefix(s.RegistryURL, "http://")
				posted = http.StatusMethodNotAllowed
			}
			if realm != wantRealm || service != wantService {
				t.Errorf("realm %q, service %q; want %q, %q", realm, service, wantRealm, wantService)
			}
			repository, _, login := credentials(t, s, "my-charm", "my-image")
			if got := do(t, http.MethodGet, s.RegistryURL+"/v2/", "", "Authorization",
				bearer(t, s, repository, login)); got.status != http.StatusOK {
				t.Errorf("with a token from GET: %+v", got)
			}
			form := url.Values{
				"grant_type": {"password"}, "client_id": {"test"}, "service": {service}, "username": {login.Username},
				"password": {login.Password},
				"scope":    {"repository:" + repository.RepositoryStr() + ":pull"},
			}
			got := do(t, http.MethodPost, realm, form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
			if got.status != posted {
				t.Fatalf("POST: %+v", got)
			}
			if posted == http.StatusOK {
				token, _ := got.field(t, "access_token").(string)
				if got := do(t, http.MethodGet, s.RegistryURL+"/v2/", "", "Authorization",
					"Bearer "+token); got.status != http.StatusOK {
					t.Errorf("with a token from POST: %+v", got)
				}
			}
			form.Set("password", "guessed")
			if got := do(t, http.MethodPost, realm, form.Encode(), "Content-Type",
				"application/x-www-form-urlencoded"); got.status/100 != 4 {
				t.Errorf("a guessed password: %+v", got)
			}
			requests := s.Requests()
			if last := requests[len(requests)-1]; last.Server != "auth" {
				t.Errorf("the token service goes by the name %q", last.Server)
			}
		})
	}
}

// TestRegistryUsers: the one who uploads isn't the one in the text for an image. The repository has an ID of 36 or 37
// characters.
func TestRegistryUsers(t *testing.T) {
	for _, same := range []bool{false, true} {
		s := start(t, server.Options{SameRegistryUser: same})
		repository, auth, login := credentials(t, s, "my-charm", "my-image")
		ref := push(t, repository, auth)
		text := publisher(t, s, http.MethodPost, imagePath+"/oci-image/blob", `{"image-digest":"`+ref.DigestStr()+`"}`)
		if user := text.field(t, "Username"); (user == login.Username) != same {
			t.Errorf("uploads by %q, pulls by %q", login.Username, user)
		}
		if !regexp.MustCompile(`^charm/[a-z0-9]{36,37}/my-image$`).MatchString(repository.RepositoryStr()) {
			t.Errorf("the repository is %q", repository.RepositoryStr())
		}
	}
}

// TestFormOfAnswers: sorted keys, and no spaces unless they are asked for. The text for an image is written so, too.
func TestFormOfAnswers(t *testing.T) {
	for _, spaced := range []bool{false, true} {
		s := start(t, server.Options{SpacedJSON: spaced})
		repository, auth, _ := credentials(t, s, "my-charm", "my-image")
		ref := push(t, repository, auth)
		for _, call := range []struct{ method, path, body string }{
			{"GET", filePath + "/revisions", ""}, {"GET", "/v1/charm/nothing/resources", ""}, {"GET", "/v1/tokens/whoami", ""},
			{"POST", imagePath + "/oci-image/blob", `{"image-digest":"` + ref.DigestStr() + `"}`},
		} {
			got := publisher(t, s, call.method, call.path, call.body)
			var value any
			if err := json.Unmarshal([]byte(got.text), &value); err != nil {
				t.Fatalf("%s: %v", call.path, err)
			}
			want, err := json.Marshal(value)
			if spaced {
				want, err = json.MarshalIndent(value, "", "  ")
			} else {
				want = append(want, '\n')
			}
			if err != nil || got.text != string(want) {
				t.Errorf("%s, spaced: %t: got %q, want %q", call.path, spaced, got.text, want)
			}
		}
	}
}

func TestHeadersOfAnswers(t *testing.T) {
	s := start(t, server.Options{})
	seen := map[string]bool{}
	for _, status := range []int{http.StatusUnauthorized, http.StatusUnauthorized, http.StatusNotFound} {
		path := resources
		if status == http.StatusNotFound {
			path = "/nothing"
		}
		answer, err := http.Get(s.StoreURL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		id, view := answer.Header.Get("X-Request-Id"), answer.Header.Get("X-View-Name")
		if id == "" || seen[id] || path == resources && view != "get-v1-charm-resources" {
			t.Errorf("%s: request ID %q, view %q", path, id, view)
		}
		seen[id] = true
	}
}

package server_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// credentials asks the store for those of a resource's repository.
func credentials(
	t *testing.T, s *server.Server, charm, resource string,
) (name.Repository, remote.Option, *authn.Basic) {
	t.Helper()
	got := publisher(t, s, http.MethodGet, "/v1/charm/"+charm+"/resources/"+resource+"/oci-image/upload-credentials", "")
	image, _ := got.field(t, "image-name").(string)
	repository, err := name.NewRepository(image)
	if err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	login := &authn.Basic{Username: got.field(t, "username").(string), Password: got.field(t, "password").(string)}
	return repository, remote.WithAuth(login), login
}

// push pushes a random image of three layers to the repository, and returns its name by digest.
func push(t *testing.T, repository name.Repository, auth remote.Option) name.Digest {
	t.Helper()
	image, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref := repository.Digest(digest.String())
	if err := remote.Write(ref, image, auth); err != nil {
		t.Fatal(err)
	}
	return ref
}

// binary is the path of distribution 2's program.
func binary(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("docker-registry")
	if err != nil && os.Getenv("UPLOAD_RESOURCE_E2E") == "required" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	return path
}

func TestImageGoesThere(t *testing.T) {
	for name, options := range map[string]server.Options{"files": {}, "memory": {InMemory: true}, "binary": {}} {
		t.Run(name, func(t *testing.T) {
			if name == "binary" {
				options.Registry = binary(t)
			}
			s := start(t, options)
			repository, auth, login := credentials(t, s, "my-charm", "my-image")
			ref := push(t, repository, auth)
			pulled, err := remote.Image(ref, auth)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(pulled); err != nil {
				t.Error(err)
			}
			blob := func() reply {
				return publisher(t, s, http.MethodPost, imagePath+"/oci-image/blob", `{"image-digest":"`+ref.DigestStr()+`"}`)
			}
			first := blob()
			if first.field(t, "ImageName") != ref.String() || first.text != blob().text {
				t.Errorf("blob: %+v", first)
			}
			reader := remote.WithAuth(&authn.Basic{Username: first.field(t, "Username").(string),
				Password: first.field(t, "Password").(string)})
			if _, err := remote.Image(ref, reader); err != nil {
				t.Errorf("with the blob's credentials: %v", err)
			}
			if err := remote.Tag(repository.Tag("x"), pulled, reader); err == nil {
				t.Error("the blob's credentials can push")
			}
			if !slices.Contains(s.Secrets(), login.Password) {
				t.Error("the password isn't among the secrets")
			}
		})
	}
}

func TestRepositoriesAreTheirCharms(t *testing.T) {
	s := start(t, server.Options{})
	repository, auth, _ := credentials(t, s, "my-charm", "my-image")
	ref := push(t, repository, auth)
	_, stranger, _ := credentials(t, s, "other-charm", "my-image")
	if _, err := remote.Head(ref, stranger); err == nil {
		t.Error("another charm's credentials read it")
	}
	if _, err := remote.Head(ref,
		remote.WithAuth(&authn.Basic{Username: "docker-registry", Password: "guess"})); err == nil {
		t.Error("a guessed password reads it")
	}
	if _, err := remote.Head(ref); err == nil {
		t.Error("nobody reads it")
	}
}

func TestBlobsAreMounted(t *testing.T) {
	s := start(t, server.Options{})
	from, auth, _ := credentials(t, s, "my-charm", "my-image")
	ref := push(t, from, auth)
	image, err := remote.Image(ref, auth)
	if err != nil {
		t.Fatal(err)
	}
	s.ResetRequests()
	to, _, _ := credentials(t, s, "my-charm", "other-image")
	if err := remote.Write(to.Tag("latest"), image, auth); err != nil {
		t.Fatal(err)
	}
	mounts := 0
	for _, r := range s.Requests() {
		if r.Method == http.MethodPatch {
			t.Errorf("a blob was sent: %v", r)
		}
		if r.Method == http.MethodPost && r.Query.Has("mount") && r.Status == http.StatusCreated {
			mounts++
		}
	}
	if mounts != 4 {
		t.Errorf("%d blobs mounted, want 4", mounts)
	}
}

func TestUnstableBlob(t *testing.T) {
	s := start(t, server.Options{UnstableBlobs: true})
	repository, auth, _ := credentials(t, s, "my-charm", "my-image")
	ref := push(t, repository, auth)
	body := `{"image-digest":"` + ref.DigestStr() + `"}`
	if a, b := publisher(t, s, "POST", imagePath+"/oci-image/blob", body),
		publisher(t, s, "POST", imagePath+"/oci-image/blob", body); a == b {
		t.Errorf("the same twice: %+v", a)
	}
}

// bearer gets a token for the repository as a client of the registry does.
func bearer(t *testing.T, s *server.Server, repository name.Repository, login *authn.Basic) string {
	t.Helper()
	query := url.Values{"scope": {"repository:" + repository.RepositoryStr() + ":pull,push"}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.RealmURL+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(login.Username, login.Password)
	got := do(t, http.MethodGet, request.URL.String(), "", "Authorization", request.Header.Get("Authorization"))
	token, _ := got.field(t, "token").(string)
	return "Bearer " + token
}

// A token that has lasted its life is refused at once, though the registry itself forgives a minute: a negative life is
// one that is over.
func TestBearerTokenEnds(t *testing.T) {
	for life, status := range map[time.Duration]int{time.Minute: 200, -2 * time.Second: 401} {
		bearerTokenEnds(t, server.Options{TokenLife: life}, status)
		t.Run("binary", func(t *testing.T) {
			bearerTokenEnds(t,
				server.Options{TokenLife: life, Registry: binary(t)}, status)
		})
	}
}

// bearerTokenEnds starts a sandbox with the options, and fails the test unless the registry answers a bearer token
// with the status.
func bearerTokenEnds(t *testing.T, options server.Options, status int) {
	t.Helper()
	s := start(t, options)
	repository, _, login := credentials(t, s, "my-charm", "my-image")
	got := do(t, http.MethodGet, s.RegistryURL+"/v2/", "", "Authorization", bearer(t, s, repository, login))
	if got.status != status {
		t.Errorf("life %v: status %d, want %d: %s", options.TokenLife, got.status, status, got.text)
	}
}

// upload is a blob upload over plain HTTP.
type upload struct {
	t      *testing.T
	s      *server.Server
	bearer string
}

// send sends one request of the upload to a location, and returns the status and header of the answer. The status is
// 0 if the connection broke.
func (u *upload) send(method, location, body string) (int, http.Header) {
	u.t.Helper()
	request, err := http.NewRequestWithContext(u.t.Context(), method, u.s.RegistryURL+location, strings.NewReader(body))
	if err != nil {
		u.t.Fatal(err)
	}
	request.Header.Set("Authorization", u.bearer)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil
	}
	_ = response.Body.Close()
	return response.StatusCode, response.Header
}

func TestBrokenUploadResumes(t *testing.T) {
	s := start(t, server.Options{})
	repository, _, login := credentials(t, s, "my-charm", "my-image")
	u := &upload{t: t, s: s, bearer: bearer(t, s, repository, login)}
	_, header := u.send(http.MethodPost, "/v2/"+repository.RepositoryStr()+"/blobs/uploads/", "")
	opened := header.Get("Location")

	content := strings.Repeat("0123456789", 2000)
	s.Fault(func(r server.Request) *server.Fault {
		if r.Method == http.MethodPatch {
			return &server.Fault{AfterBytes: 12345}
		}
		return nil
	})
	if status, _ := u.send(http.MethodPatch, opened, content); status != 0 {
		t.Errorf("status %d from a dropped connection", status)
	}
	s.Fault(nil)

	if status, _ := u.send(http.MethodPatch, opened, content[12345:]); status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("the old location: status %d, want 416", status)
	}
	path, _, _ := strings.Cut(opened, "?")
	status, header := u.send(http.MethodGet, path, "")
	if status != http.StatusNoContent || header.Get("Range") != "0-12344" {
		t.Fatalf("status %d, range %q, want 204 and 0-12344", status, header.Get("Range"))
	}
	status, header = u.send(http.MethodPatch, header.Get("Location"), content[12345:])
	if status != http.StatusAccepted {
		t.Fatalf("the rest: status %d", status)
	}
	digest, _, err := v1.SHA256(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := u.send(http.MethodPut, header.Get("Location")+"&digest="+digest.String(),
		""); status != http.StatusCreated {
		t.Errorf("closing: status %d", status)
	}
}

// Distribution 2 forgets an upload in whose chunk the connection broke, with the chunks before: what it has isn't what
// the location says.
func TestBrokenUploadIsForgotten(t *testing.T) {
	s := start(t, server.Options{Registry: binary(t)})
	repository, _, login := credentials(t, s, "my-charm", "my-image")
	u := &upload{t: t, s: s, bearer: bearer(t, s, repository, login)}
	_, header := u.send(http.MethodPost, "/v2/"+repository.RepositoryStr()+"/blobs/uploads/", "")
	status, header := u.send(http.MethodPatch, header.Get("Location"), "the first chunk")
	if status != http.StatusAccepted {
		t.Fatalf("status %d, want 202", status)
	}
	location := header.Get("Location")
	if status, _ := u.send(http.MethodGet, location, ""); status != http.StatusNoContent {
		t.Errorf("status %d, want 204", status)
	}
	s.Fault(func(r server.Request) *server.Fault {
		if r.Method == http.MethodPatch {
			return &server.Fault{AfterBytes: 12345}
		}
		return nil
	})
	if status, _ := u.send(http.MethodPatch, location, strings.Repeat("0123456789", 2000)); status != 0 {
		t.Errorf("status %d from a dropped connection", status)
	}
	s.Fault(nil)
	status, _ = u.send(http.MethodGet, location, "")
	for tries := 0; status == http.StatusNoContent && tries < 10_000; tries++ { // until it has seen the break
		status, _ = u.send(http.MethodGet, location, "")
	}
	if status != http.StatusBadRequest && status != http.StatusNotFound {
		t.Errorf("status %d, want 400 or 404", status)
	}
}

// A client that asks before it sends must hear a refusal at once, not after it gave up waiting.
func TestRefusalComesBeforeTheBody(t *testing.T) {
	s := start(t, server.Options{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.RegistryURL+"/v2/x/manifests/y",
		strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Expect", "100-continue")
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour}, Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if r := s.Requests()[0]; response.StatusCode != http.StatusUnauthorized || r.BodyBytes != 0 {
		t.Errorf("%v", r)
	}
}

package charmhub

import (
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
)

func TestResources(t *testing.T) {
	client, rec := serve(t, answer(200, `{"resources":[
		{"name":"image","type":"oci-image","revision":3,"optional":false},
		{"name":"blob","type":"file","revision":null,"optional":true},
		{"name":"first","type":"file","revision":0,"optional":true}]}`))
	got, err := client.Resources(t.Context(), "my-charm")
	if err != nil {
		t.Fatal(err)
	}
	want := []Resource{
		{"image", charm.TypeImage, new(3), false}, {"blob", charm.TypeFile, nil, true},
		{"first", charm.TypeFile, new(0), true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if rec.log() != "GET /v1/charm/my-charm/resources" {
		t.Error(rec.log())
	}
}

func TestResourcesOf(t *testing.T) {
	for body, want := range map[string][]Resource{
		`{"resources":[{"name":"a","type":"file","revision":4,"optional":true}]}`: {{"a", charm.TypeFile, new(4), true}},
		`{"resources":null}`: nil,
		// The parameter is ignored: b is of another revision.
		`{"resources":[{"name":"a","type":"file","revision":4},{"name":"a","type":"oci-image","revision":0},
			{"name":"b","type":"file","revision":4},
			{"name":"c","type":"file","revision":null}]}`: {{"a", charm.TypeImage, new(0), false}},
		// It isn't, though the numbers are those of other revisions.
		`{"resources":[{"name":"a","type":"file","revision":4},{"name":"b","type":"file","revision":3}]}`: {
			{"a", charm.TypeFile, new(4), false}, {"b", charm.TypeFile, new(3), false},
		},
	} {
		client, rec := serve(t, answer(200, body))
		got, err := client.ResourcesOf(t.Context(), "my-charm", 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if rec.log() != "GET /v1/charm/my-charm/resources?revision=0" {
			t.Error(rec.log())
		}
	}
	client, _ := serve(t, answer(404, `{}`))
	_, err := client.ResourcesOf(t.Context(), "my-charm", 7)
	if err == nil {
		t.Fatal("no error")
	}
	wantIn(t, err.Error(), "list the resources of revision 7 of charm 'my-charm'", "404")
}

func TestUploadCredentials(t *testing.T) {
	client, rec := serve(t, answer(200, `{"image-name":"registry.test/charm/id/r","username":"u","password":"p4ss"}`))
	got, err := client.UploadCredentials(t.Context(), "c", "r")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(RegistryCredentials{"registry.test/charm/id/r", "u", "p4ss"}, got); diff != "" {
		t.Error(diff)
	}
	for _, secret := range []string{"p4ss", paste("p4ss")} {
		if !rec.masked[secret] {
			t.Errorf("never masked: %s", secret)
		}
	}
	if rec.log() != "GET /v1/charm/c/resources/r/oci-image/upload-credentials" {
		t.Error(rec.log())
	}
}

func TestUploadCredentialsWithHoles(t *testing.T) {
	for _, body := range []string{`{}`, `{"image-name":"x","username":"u"}`, `{"password":"p4ss","username":"u"}`} {
		client, _ := serve(t, answer(200, body))
		if got, err := client.UploadCredentials(t.Context(), "c", "r"); err == nil || got != (RegistryCredentials{}) {
			t.Errorf("%s gives %v", body, got)
		}
	}
}

func TestImageBlobIsPassedOnByteForByte(t *testing.T) {
	cases := map[string]struct{ body, secret string }{
		"as Juju reads it": {"{\n  \"ImageName\": \"r@sha256:1\", \"Username\": \"u\",\t\"Password\": \"p4ss\"}\n", "p4ss"},
		"encoded":          {`{"Username":"u","Password":"p4ss"}`, paste("p4ss")},
		"of a new kind":    {"token=p4ss \n", "token=p4ss"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var sent string
			client, rec := serve(t, func(w http.ResponseWriter, r *http.Request) {
				all, _ := io.ReadAll(r.Body)
				sent = r.Header.Get("Content-Type") + " " + string(all)
				answer(200, c.body)(w, r)
			})
			got, err := client.ImageBlob(t.Context(), "c", "r", "sha256:abc")
			if err != nil || string(got) != c.body {
				t.Errorf("got %q, %v", got, err)
			}
			if sent != `application/json {"image-digest":"sha256:abc"}` {
				t.Errorf("sent %s", sent)
			}
			if rec.log() != "POST /v1/charm/c/resources/r/oci-image/blob" {
				t.Error(rec.log())
			}
			if !rec.masked[c.secret] {
				t.Errorf("never masked: %s", c.secret)
			}
		})
	}
	client, _ := serve(t, answer(200, ""))
	if _, err := client.ImageBlob(t.Context(), "c", "r", "sha256:abc"); err == nil {
		t.Error("no text is a text")
	}
}

package server_test

import (
	"archive/tar"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/stream"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// exposed fails the test unless so many secrets are found in what is new.
func exposed(t *testing.T, s *server.Server, want int, given ...string) {
	t.Helper()
	if found, err := s.Exposed(given...); err != nil || len(found) != want {
		t.Errorf("found %q and %v, want %d secrets", found, err, want)
	}
}

func TestExposed(t *testing.T) {
	for name, options := range map[string]server.Options{"files": {}, "memory": {InMemory: true}} {
		t.Run(name, func(t *testing.T) {
			s := start(t, options)
			repository, auth, login := credentials(t, s, "my-charm", "my-image")
			digest := push(t, repository, auth).DigestStr()
			blob := publisher(t, s, http.MethodPost, imagePath+"/oci-image/blob", `{"image-digest":"`+digest+`"}`)
			send(t, s, blob.text)
			exposed(t, s, 0, "correct horse")

			// The text for an image with more besides, and the password for pushing.
			text := strings.TrimSuffix(blob.text, "}")
			send(t, s, text+`,"More":"x"}`)
			exposed(t, s, 1)
			send(t, s, strings.Repeat("long ", 1<<17)+login.Password)
			exposed(t, s, 1)
			exposed(t, s, 0)

			var layer bytes.Buffer
			w := tar.NewWriter(&layer)
			content := strings.Repeat("x", 1<<20) + "correct horse"
			_ = w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))})
			_, _ = w.Write([]byte(content))
			_ = w.Close()
			image, err := mutate.AppendLayers(empty.Image, stream.NewLayer(readCloser{&layer}))
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(repository.Tag("secret"), image, auth); err != nil {
				t.Fatal(err)
			}
			exposed(t, s, 1, "correct horse")
			exposed(t, s, 0, "correct horse")
		})
	}
}

// readCloser is a buffer that can be a request's body.
type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

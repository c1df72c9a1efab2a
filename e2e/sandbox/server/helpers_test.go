package server_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const (
	resources = "/v1/charm/my-charm/resources"
	imagePath = resources + "/my-image"
	filePath  = resources + "/my-file"
)

// start returns a sandbox with one charm, closed when the test ends. Reviews end at the second look, unless the options
// say when.
func start(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	if len(options.Statuses) == 0 {
		options.ReviewDelay = cmp.Or(options.ReviewDelay, 1)
	}
	options.Charms = []server.Charm{
		{Name: "my-charm", Resources: []server.Resource{
			{Name: "my-image", Type: server.TypeImage},
			{Name: "other-image", Type: server.TypeImage},
			{Name: "my-file", Type: server.TypeFile},
		}},
		{Name: "other-charm", Resources: []server.Resource{{Name: "my-image", Type: server.TypeImage}}},
	}
	s, err := server.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// authorization is the header that a token of the default format asks for.
func authorization(t *testing.T, exported string) string {
	t.Helper()
	decoded, err := base64.StdEncoding.DecodeString(exported)
	if err != nil {
		t.Fatal(err)
	}
	return "Macaroon " + string(decoded)
}

// reply is what a server answered.
type reply struct {
	status int
	text   string
}

// field returns a value in a JSON answer, by the names that lead to it; a name in a list means the list's first
// element.
func (r reply) field(t *testing.T, names ...string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(r.text), &value); err != nil {
		t.Fatalf("%v in %q", err, r.text)
	}
	for _, name := range names {
		if list, ok := value.([]any); ok && len(list) > 0 {
			value = list[0]
		}
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

// do sends a request; header is in pairs.
func do(t *testing.T, method, url, body string, header ...string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "sandbox-test")
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return reply{text: err.Error()}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return reply{status: response.StatusCode, text: err.Error()}
	}
	return reply{response.StatusCode, string(text)}
}

// publisher sends a request to the store as its charms' publisher.
func publisher(t *testing.T, s *server.Server, method, path, body string) reply {
	t.Helper()
	return do(t, method, s.StoreURL+path, body, "Authorization", authorization(t, s.Token()))
}

// send uploads content to the storage and returns the upload's ID.
func send(t *testing.T, s *server.Server, content string) string {
	t.Helper()
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	part, err := writer.CreateFormFile("binary", "content")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(part, content)
	_ = writer.Close()
	sent := do(t, http.MethodPost, s.StorageURL+"/unscanned-upload/", form.String(), "Content-Type",
		writer.FormDataContentType())
	id, _ := sent.field(t, "upload_id").(string)
	if sent.status != http.StatusOK || id == "" {
		t.Fatalf("upload: %+v", sent)
	}
	return id
}

// submit hands an upload in as a file and returns the path of its review.
func submit(t *testing.T, s *server.Server, uploadID string) string {
	t.Helper()
	body := `{"upload-id":"` + uploadID + `","type":"file","bases":[{"name":"all","channel":"all",` +
		`"architectures":["amd64"]}]}`
	created := publisher(t, s, http.MethodPost, filePath+"/revisions", body)
	path, _ := created.field(t, "status-url").(string)
	if path == "" {
		t.Fatalf("no review: %+v", created)
	}
	return path
}

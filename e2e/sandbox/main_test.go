package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestCommandServesUntilItIsInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	ctx, interrupt := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-charm", "c", "-resource", "i=oci-image", "-resource", "f=file,optional", "-env-file", path}, writer)
	}()
	lines := bufio.NewScanner(reader)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "serving charm c: store http://localhost:") {
		t.Fatalf("first line %q", lines.Text())
	}
	env := readEnv(t, path)
	go func() { get(t, env["CHARMCRAFT_STORE_API_URL"]+"/v1/charm/c/resources") }()
	if !lines.Scan() || !strings.Contains(lines.Text(), "/v1/charm/c/resources 401") {
		t.Errorf("request's line %q", lines.Text())
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of variables stayed: %v", err)
	}
}

func TestResourcesAreRequired(t *testing.T) {
	for text, want := range map[string]server.Resource{
		"i=oci-image":     {Name: "i", Type: server.TypeImage},
		"f=file,optional": {Name: "f", Type: server.TypeFile, Optional: true},
	} {
		if got := parseResource(text); got != want {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}

func readEnv(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[name] = value
	}
	for _, name := range []string{
		"CHARMCRAFT_AUTH", "CHARMCRAFT_STORE_API_URL", "CHARMCRAFT_UPLOAD_URL", "CHARMCRAFT_REGISTRY_URL", "CHARMCRAFT_STORE_SSO_URL",
	} {
		if env[name] == "" {
			t.Errorf("no %s in %q", name, text)
		}
	}
	return env
}

func get(t *testing.T, url string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return
	}
	request.Header.Set("User-Agent", "sandbox-test")
	if response, err := http.DefaultClient.Do(request); err == nil {
		_ = response.Body.Close()
	}
}

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestCommandServesUntilItIsInterrupted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	ctx, interrupt := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-charm", "c", "-resource", "i=oci-image", "-resource", "f=file,optional", "-env-file",
			path}, writer)
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

// TestProfilesAreDocumented: the table in the docs has each trait's flag, with what it is in each profile.
func TestProfilesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, profile := range []string{server.Production, server.Strict, server.Rude} {
		options, err := server.Profile(profile)
		if err != nil {
			t.Fatal(err)
		}
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		traits(&options, flags)
		flags.VisitAll(func(f *flag.Flag) { values[f.Name] = append(values[f.Name], shown(f.Value.String())) })
	}
	for name, of := range values {
		row := "|" + strings.Join(of, "") + "\n"
		found := false
		for line := range strings.Lines(string(page)) {
			found = found || strings.HasPrefix(line, "| `-"+name+"` | ") && strings.HasSuffix(line, row)
		}
		if !found {
			t.Errorf("no row of `-%s` ends in %s", name, row)
		}
	}
}

// shown is the cell of the docs' table for the value of a flag.
func shown(value string) string {
	switch value {
	case "false", "0s", "":
		return " |"
	case "true":
		return " yes |"
	}
	return " `" + value + "` |"
}

func TestParse(t *testing.T) {
	rude, err := server.Profile(server.Rude)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   string
		change func(*server.Options)
	}{
		"alone":     {"-profile rude", func(*server.Options) {}},
		"with less": {"-outages=false -profile rude", func(o *server.Options) { o.Outages = false }},
		"with more": {"-profile rude -newest-first -lag 3s -rows partial",
			func(o *server.Options) { o.NewestFirst, o.Lag, o.Rows = true, 3*time.Second, server.RowsInPart }},
		"production": {"-statuses new,needs_review",
			func(o *server.Options) { *o = server.Options{Statuses: []string{"new", "needs_review"}} }},
	} {
		t.Run(name, func(t *testing.T) {
			want := rude
			test.change(&want)
			want.Addr, want.Charms = "127.0.0.1:0", []server.Charm{{Name: "c", Private: true}}
			got, err := parse(append(strings.Fields(test.args), "-charm", "c", "-private"))
			if diff := cmp.Diff(want, got.options); err != nil || diff != "" {
				t.Errorf("%v, options (-want +got):\n%s", err, diff)
			}
		})
	}
	if _, err := parse([]string{"-profile", "polite"}); err == nil {
		t.Error("a profile that doesn't exist is taken")
	}
}

// readEnv reads the environment file that the sandbox wrote. It fails the test if a variable that clients need is
// missing.
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
		"CHARMCRAFT_AUTH", "CHARMCRAFT_STORE_API_URL", "CHARMCRAFT_UPLOAD_URL", "CHARMCRAFT_REGISTRY_URL",
		"CHARMCRAFT_STORE_SSO_URL",
	} {
		if env[name] == "" {
			t.Errorf("no %s in %q", name, text)
		}
	}
	return env
}

// get requests a URL and drops the answer. The test fails only if the URL is invalid.
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

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestFile(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{})
	path := filepath.Join(t.TempDir(), "model.bin")
	inputs := []string{"resource=" + fileResource, "filepath=" + path}

	writeFile(t, path, "first")
	first := action(t, sandbox, inputs...)
	first.succeeded(t)
	first.said(t, toldCreated(fileResource, "1"))
	want := map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true", "resource-flag": fileResource + ":1",
		"source-digest": "sha256:" + sumOf("first"), "remote-digest": "", "remote-image": "",
	}
	first.has(t, want)

	sandbox.ResetRequests()
	again := action(t, sandbox, inputs...)
	again.succeeded(t)
	again.said(t, toldUnchanged(fileResource, "1"))
	if diff := cmp.Diff(first.unchanged(), again.outputs); diff != "" {
		t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
	}
	if sent := changes(sandbox); len(sent) > 0 || len(sandbox.Requests()) > 3 {
		t.Errorf("the rerun changed something, or asked a lot: %v", sandbox.Requests())
	}

	writeFile(t, path, "second")
	second := action(t, sandbox, inputs...)
	second.succeeded(t)
	second.said(t, toldCreated(fileResource, "2"))
	second.has(t, map[string]string{"revision": "2", "revision-created": "true", "uploaded": "true"})

	writeFile(t, path, "first")
	back := action(t, sandbox, inputs...)
	back.succeeded(t)
	back.said(t, toldUnchanged(fileResource, "1"))
	if diff := cmp.Diff(first.unchanged(), back.outputs); diff != "" {
		t.Errorf("outputs for the older content (-want +got):\n%s", diff)
	}

	made := sandbox.Revisions(charm, fileResource)
	if len(made) != 2 || made[0].SHA256 != sumOf("first") || made[1].SHA256 != sumOf("second") {
		t.Errorf("revisions %+v, want the first and the second content", made)
	}
}

func TestFileArchitectures(t *testing.T) {
	t.Parallel()
	sandbox := startSandbox(t, server.Options{})
	path := filepath.Join(t.TempDir(), "model.bin")
	writeFile(t, path, "content")
	steps := []struct {
		input   string
		want    []string
		created string
		changes int
	}{
		{input: "", want: []string{"all"}, created: "true", changes: 2},
		{input: "arm64, amd64", want: []string{"amd64", "arm64"}, created: "false", changes: 1},
		{input: "amd64 arm64", want: []string{"amd64", "arm64"}, created: "false"},
	}
	for _, step := range steps {
		sandbox.ResetRequests()
		r := action(t, sandbox, "resource="+fileResource, "filepath="+path, "architectures="+step.input)
		r.succeeded(t)
		r.has(t, map[string]string{"revision": "1", "revision-created": step.created})
		if got := sandbox.Revisions(charm, fileResource)[0].Architectures(); !cmp.Equal(got, step.want) {
			t.Errorf("architectures %q are recorded as %q, want %q", step.input, got, step.want)
		}
		if sent := changes(sandbox); len(sent) != step.changes {
			t.Errorf("architectures %q took %d changes, want %d:\n%s", step.input, len(sent), step.changes, strings.Join(sent, "\n"))
		}
	}
}

func sumOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

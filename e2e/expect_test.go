package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// succeeded fails the test at once unless the run did what it was asked to.
func (r result) succeeded(t *testing.T) {
	t.Helper()
	if r.exit != 0 || strings.Contains(r.log, "::error") || strings.Contains(r.log, "::warning") {
		t.Fatalf("exit %d, want 0 without errors and warnings:\n%s", r.exit, r.log)
	}
}

// logged fails the test unless the log has each of the lines.
func (r result) logged(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+r.log, "\n"+line+"\n") {
			t.Errorf("the log has no line %q:\n%s", line, r.log)
		}
	}
}

// has fails the test unless the outputs are these, whatever others there are.
func (r result) has(t *testing.T, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for name := range want {
		got[name] = r.outputs[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
}

// unchanged are the outputs of a run that found everything as another left it.
func (r result) unchanged() map[string]string {
	outputs := map[string]string{}
	for name, value := range r.outputs {
		outputs[name] = value
	}
	outputs["uploaded"], outputs["revision-created"] = "false", "false"
	outputs["resources"] = strings.NewReplacer(`"created":true`, `"created":false`, `"uploaded":true`, `"uploaded":false`).
		Replace(outputs["resources"])
	return outputs
}

// changes returns the requests that sent something to be kept. A call that
// only asks for something is none, even where it is a POST.
func changes(sandbox *server.Server) []string {
	var all []string
	for _, r := range sandbox.Requests() {
		asks := r.Method == http.MethodGet || r.Method == http.MethodHead ||
			r.Server == "store" && strings.HasSuffix(r.Path, "/oci-image/blob")
		if !asks {
			all = append(all, r.String())
		}
	}
	return all
}

// sentLayers counts the layers of an image that the registry was given just
// now: all its blobs but the config, and but those of the locations record.
func sentLayers(sandbox *server.Server) int {
	n := -1
	for _, r := range sandbox.Requests() {
		if r.Server != "registry" || r.Method != http.MethodPut {
			continue
		}
		if strings.Contains(r.Path, "/manifests/") {
			break // what comes after the image's own is about it
		}
		n++
	}
	return n
}

// revisions counts the revisions of both resources.
func revisions(sandbox *server.Server) int {
	return len(sandbox.Revisions(charm, imageResource)) + len(sandbox.Revisions(charm, fileResource))
}

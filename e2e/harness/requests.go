package harness

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// SentNothing fails the test if the registry was given a manifest or a byte of a
// blob, or was asked more often than anybody who doesn't try again would.
func SentNothing(t *testing.T, sandbox *server.Server) {
	t.Helper()
	requests := sandbox.Requests()
	for _, r := range requests {
		if r.Server == "registry" && r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("something was sent: %s", r)
		}
	}
	if len(requests) > 20 {
		t.Errorf("%d requests to refuse it: %v", len(requests), requests)
	}
}

// CountSent counts the uploads and the releases that the sandbox was sent.
func CountSent(sandbox *server.Server) (uploads, releases int) {
	for _, r := range sandbox.Requests() {
		if r.Server == "storage" {
			uploads++
		}
		if r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/releases") {
			releases++
		}
	}
	return uploads, releases
}

// ReadsOnly fails the test if a request could have changed anything.
func ReadsOnly(t *testing.T, sandbox *server.Server) {
	t.Helper()
	for _, r := range sandbox.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("a request that doesn't only read: %s", r)
		}
	}
}

// Changes returns the requests that sent something to be kept. A call that
// only asks for something is none, even where it is a POST.
func Changes(sandbox *server.Server) []string {
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

// SentLayers counts the layers of an image that the registry was given just now: all blobs but the image's config and
// those of locations records.
func SentLayers(t *testing.T, sandbox *server.Server) int {
	t.Helper()
	ofRecords := RecordBlobs(t, sandbox)
	n := -1
	for _, r := range sandbox.Requests() {
		if r.Server != "registry" || r.Method != http.MethodPut {
			continue
		}
		if strings.Contains(r.Path, "/manifests/") {
			break // what comes after the image's own is about it
		}
		if !ofRecords[r.Query.Get("digest")] {
			n++
		}
	}
	return n
}

// RecordBlobs returns the digests of the blobs of the locations records that the registry was given just now.
func RecordBlobs(t *testing.T, sandbox *server.Server) map[string]bool {
	t.Helper()
	repository, username, password := sandbox.RegistryAuth(Charm, ImageResource)
	login := remote.WithAuth(&authn.Basic{Username: username, Password: password})
	digests := map[string]bool{}
	for _, r := range sandbox.Requests() {
		_, tag, _ := strings.Cut(r.Path, "/manifests/")
		if r.Server != "registry" || r.Method != http.MethodPut || !strings.HasSuffix(tag, ".image-locations.imgpkg") {
			continue
		}
		ref, err := name.ParseReference(repository + ":" + tag)
		if err != nil {
			t.Fatal(err)
		}
		record, err := remote.Image(ref, login)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := record.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		for _, blob := range append(manifest.Layers, manifest.Config) {
			digests[blob.Digest.String()] = true
		}
	}
	return digests
}

// CountRevisions counts the revisions of both resources.
func CountRevisions(sandbox *server.Server) int {
	return len(sandbox.Revisions(Charm, ImageResource)) + len(sandbox.Revisions(Charm, FileResource))
}

// SentNoManifest fails the test if the registry was given a manifest.
func SentNoManifest(t *testing.T, sandbox *server.Server) {
	t.Helper()
	for _, r := range sandbox.Requests() {
		if r.Server == "registry" && r.Method == http.MethodPut && strings.Contains(r.Path, "/manifests/") {
			t.Errorf("a manifest was sent: %s", r)
		}
	}
}

// CountAnswered counts the requests for a path that were answered well.
func CountAnswered(sandbox *server.Server, path string) (n int) {
	for _, r := range sandbox.Requests() {
		if r.Path == path && r.Status == http.StatusOK {
			n++
		}
	}
	return n
}

// checkRequests fails the test if a server of the sandbox was sent a secret that
// isn't for it. Every run of these tests is checked so.
func checkRequests(t *testing.T, sandbox *server.Server) {
	t.Helper()
	if sandbox == nil {
		return
	}
	for _, stray := range strays(sandbox.SecretOwners(), sandbox.Requests()) {
		t.Error(stray)
	}
}

// strays looks for each secret in every part of every request. In a URL, which
// servers write into their logs, it is astray wherever it goes.
func strays(owners map[string]server.Owners, requests []server.Request) (found []string) {
	for _, r := range requests {
		url, content := r.Path+"?"+r.Query.Encode(), ContentOf(r)
		for secret, may := range owners {
			switch {
			case strings.Contains(url, secret):
				found = append(found, fmt.Sprintf("the secret %s… is in a URL: %s", secret[:6], r))
			case !slices.Contains(may, r.Server) && strings.Contains(content, secret):
				found = append(found, fmt.Sprintf("the secret %s… is for %q alone: %s", secret[:6], may, r))
			}
		}
	}
	return found
}

// ContentOf is a request's header and the beginning of its body.
func ContentOf(r server.Request) string {
	var b strings.Builder
	for name, values := range r.Header {
		fmt.Fprintln(&b, name, strings.Join(values, "\n"))
	}
	b.Write(r.Body)
	return b.String()
}

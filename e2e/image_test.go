package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const (
	logKnown   = "Using the OCI image from Canonical's registry"
	logUnknown = "Remote image not found, uploading from local registry"
)

func logUploaded(r result) string {
	return "Image uploaded, new remote digest: " + r.outputs["remote-digest"]
}

func logCreated(resource, revision string) string {
	return "Revision " + revision + " created of resource '" + resource + "' for charm '" + charm + "'"
}

func logUnchanged(resource, revision string) string {
	return "Revision " + revision + " of resource '" + resource + "' for charm '" + charm + "' is unchanged"
}

func TestImage(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testImage)
}

func testImage(t *testing.T, options server.Options) {
	t.Helper()
	id := buildImage(t, "scratch")
	sandbox := startSandbox(t, options)
	first := action(t, sandbox, "resource="+imageResource, "digest="+id)
	first.succeeded(t)
	first.logged(t, logUnknown, logUploaded(first), logCreated(imageResource, "1"))
	_, repository := registryLogin(t, sandbox, imageResource)
	first.has(t, map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true", "source-digest": id,
		"resource-flag": imageResource + ":1", "remote-image": repository + "@" + first.outputs["remote-digest"],
	})
	made := sandbox.Revisions(charm, imageResource)
	if len(made) != 1 || !cmp.Equal(made[0].Architectures(), []string{runtime.GOARCH}) {
		t.Errorf("revisions %+v, want one for %s", made, runtime.GOARCH)
	}
	t.Run("rerun", func(t *testing.T) { rerun(t, sandbox, first, "digest="+id) })
	t.Run("changed", func(t *testing.T) { changed(t, sandbox, buildImage(t, id)) })
	t.Run("is valid", func(t *testing.T) { isValid(t, sandbox, id, first.outputs["remote-digest"]) })
}

// rerun runs with the same image and nothing to do.
func rerun(t *testing.T, sandbox *server.Server, first result, inputs ...string) {
	t.Helper()
	rerunWithin(t, 10, sandbox, first, inputs...)
}

// rerunWithin is rerun for an image that takes more requests, or fewer, to find.
func rerunWithin(t *testing.T, requests int, sandbox *server.Server, first result, inputs ...string) {
	t.Helper()
	sandbox.ResetRequests()
	again := action(t, sandbox, append(inputs, "resource="+imageResource)...)
	again.succeeded(t)
	again.logged(t, logKnown, logUnchanged(imageResource, first.outputs["revision"]))
	if diff := cmp.Diff(first.unchanged(), again.outputs); diff != "" {
		t.Errorf("outputs of the rerun (-want +got):\n%s", diff)
	}
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the rerun changed something:\n%s", strings.Join(sent, "\n"))
	}
	if all := sandbox.Requests(); len(all) > requests {
		t.Errorf("the rerun took %d requests: %v", len(all), all)
	}
	if n := revisions(sandbox); n != len(sandbox.Revisions(charm, imageResource)) || n != 1 {
		t.Errorf("%d revisions, want 1", n)
	}
}

// isValid lets others judge what is in the charm's repository.
func isValid(t *testing.T, sandbox *server.Server, id, digest string) {
	t.Helper()
	need(t, "skopeo", "crane")
	login, repository := registryLogin(t, sandbox, imageResource)
	remote := repository + "@" + digest

	raw := run(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", filepath.Join(login, "config.json"), "docker://"+remote)
	var manifest struct{ Config struct{ Digest string } }
	if err := json.Unmarshal([]byte(raw), &manifest); err != nil || manifest.Config.Digest != id && digest != id {
		t.Errorf("manifest %s of image %s: %v", raw, id, err)
	}
	config := output(t, "skopeo", "inspect", "--raw", "--config", "--tls-verify=false", "--authfile", filepath.Join(login, "config.json"), "docker://"+remote)
	if sum := sha256.Sum256([]byte(config)); "sha256:"+hex.EncodeToString(sum[:]) != manifest.Config.Digest {
		t.Errorf("config %s is not of digest %s", config, manifest.Config.Digest)
	}
	// crane checks every layer against its digest, its diff ID and its size.
	run(t, "env", "DOCKER_CONFIG="+login, "crane", "validate", "--remote", remote)

	run(t, "docker", "rmi", "--force", id) // or the engine would look no further than the ID
	run(t, "docker", "--config", login, "pull", "--quiet", remote)
	if pulled := run(t, "docker", "inspect", "--format", "{{.Id}}", remote); pulled != id {
		t.Errorf("pulled image %s, want %s", pulled, id)
	}
}

// changed uploads an image with another layer on top of the first one.
func changed(t *testing.T, sandbox *server.Server, id string) {
	t.Helper()
	sandbox.ResetRequests()
	r := action(t, sandbox, "resource="+imageResource, "digest="+id)
	r.succeeded(t)
	r.logged(t, logUnknown, logUploaded(r), logCreated(imageResource, "2"))
	r.has(t, map[string]string{"revision": "2", "revision-created": "true", "uploaded": "true", "source-digest": id})
	if !strings.Contains(r.log, "2 known to the registry") {
		t.Errorf("the unchanged layers were compressed again:\n%s", r.log)
	}
	if layers := sentLayers(sandbox); layers != 1 {
		t.Errorf("%d layers were sent, want the new one alone", layers)
	}
}

func TestImageByShortID(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testImageByShortID)
}

func testImageByShortID(t *testing.T, options server.Options) {
	t.Helper()
	id := buildImage(t, "scratch")
	sandbox := startSandbox(t, options)
	short := "digest=" + id[len("sha256:"):][:12]
	first := action(t, sandbox, "resource="+imageResource, short)
	first.succeeded(t)
	first.has(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
	rerun(t, sandbox, first, short)
}

// pulledByDigest leaves an image in the engine that came from the repository of
// another resource by its digest, as name@sha256:….
func pulledByDigest(t *testing.T, sandbox *server.Server) (id, repoDigest, login string) {
	t.Helper()
	id = buildImage(t, "scratch")
	login, repository := registryLogin(t, sandbox, otherResource)
	run(t, "docker", "tag", id, repository)
	run(t, "docker", "--config", login, "push", "--quiet", repository)
	repoDigest = run(t, "docker", "inspect", "--format", "{{index .RepoDigests 0}}", id)
	run(t, "docker", "rmi", "--force", id)
	run(t, "docker", "--config", login, "pull", "--quiet", repoDigest)
	return id, repoDigest, login
}

const otherResource = "other-image"

func startWithOther(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	options.Charms = []server.Charm{{Name: charm, Resources: []server.Resource{
		{Name: imageResource, Type: server.TypeImage}, {Name: fileResource, Type: server.TypeFile},
		{Name: otherResource, Type: server.TypeImage},
	}}}
	return startSandbox(t, options)
}

func TestImageByRepoDigest(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testImageByRepoDigest)
}

func testImageByRepoDigest(t *testing.T, options server.Options) {
	t.Helper()
	need(t, "docker")
	sandbox := startWithOther(t, options)
	id, repoDigest, _ := pulledByDigest(t, sandbox)
	_, digest, _ := strings.Cut(repoDigest, "@")
	first := action(t, sandbox, "resource="+imageResource, "digest="+digest)
	first.succeeded(t)
	first.has(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
	rerun(t, sandbox, first, "digest="+digest)
	rerun(t, sandbox, first, "digest="+digest[len("sha256:"):][:20])
}

// TestImageByName: an image that is named with its digest comes from where the
// name says, and keeps that digest.
func TestImageByName(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testImageByName)
}

func testImageByName(t *testing.T, options server.Options) {
	t.Helper()
	need(t, "docker")
	sandbox := startWithOther(t, options)
	_, repoDigest, login := pulledByDigest(t, sandbox)
	_, digest, _ := strings.Cut(repoDigest, "@")
	first := action(t, sandbox, "resource="+imageResource, "image="+repoDigest, "DOCKER_CONFIG="+login)
	first.succeeded(t)
	first.has(t, map[string]string{"revision": "1", "source-digest": digest, "remote-digest": digest, "uploaded": "true"})
}

// TestImageByNameInEngine: where the registry doesn't let the action in, an
// engine may have the image, but a graph driver doesn't tell whether the digest
// is an index's of which it has one platform: its ID does.
func TestImageByNameInEngine(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testImageByNameInEngine)
}

func testImageByNameInEngine(t *testing.T, options server.Options) {
	t.Helper()
	need(t, "docker")
	sandbox := startWithOther(t, options)
	id, repoDigest, _ := pulledByDigest(t, sandbox)
	refused := action(t, sandbox, "resource="+imageResource, "image="+repoDigest)
	refused.failed(t, sandbox, "check the name", "the container engine has an image of that digest", "give its ID, "+id)
	first := action(t, sandbox, "resource="+imageResource, "digest="+id)
	first.succeeded(t)
	first.has(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
}

// TestImageInRepository: a digest that the charm's repository has needs no
// engine.
func TestImageInRepository(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testImageInRepository)
}

func testImageInRepository(t *testing.T, options server.Options) {
	t.Helper()
	archive := writeArchive(t, 1000, 2)
	sandbox := startSandbox(t, options)
	first := action(t, sandbox, "resource="+imageResource, "image="+archive)
	first.succeeded(t)
	digest := first.outputs["remote-digest"]
	first.outputs["resources"] = strings.Replace(first.outputs["resources"],
		`"source-digest":"`+first.outputs["source-digest"], `"source-digest":"`+digest, 1)
	first.outputs["source-digest"] = digest
	rerun(t, sandbox, first, "digest="+digest, noEngine(t))
}

// TestImageInFailingRepository: if only the repository can know a digest, and fails each time that it is asked, that is
// what went wrong. The image isn't unknown.
func TestImageInFailingRepository(t *testing.T) {
	t.Parallel()
	eachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		sandbox := startSandbox(t, options)
		first := action(t, sandbox, "resource="+imageResource, "image="+writeArchive(t, 1000, 1), "push-only=true")
		first.succeeded(t)
		// An image ID leads to its manifest by the tag latest and by a record, which is a tag, too.
		for digest, byTag := range map[string]bool{first.outputs["remote-digest"]: false, first.outputs["source-digest"]: true} {
			sandbox.Fault(func(r server.Request) *server.Fault {
				if _, asked, ok := strings.Cut(r.Path, "/manifests/"); ok && byTag != strings.Contains(asked, ":") {
					return &server.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"0"}}}
				}
				return nil
			})
			r := action(t, sandbox, "resource="+imageResource, "digest="+digest, noEngine(t))
			r.failed(t, sandbox, digest, "503 Service Unavailable")
			if text := annotation(r, "error"); strings.Contains(text, "unknown") || strings.Contains(text, "is not in") {
				t.Errorf("the error is %q", text)
			}
		}
	})
}

func TestImageWithoutRecord(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testImageWithoutRecord)
}

func testImageWithoutRecord(t *testing.T, options server.Options) {
	t.Helper()
	sandbox := startSandbox(t, options)
	archive := writeArchive(t, 10<<10, 1)
	first := action(t, sandbox, "resource="+imageResource, "image="+archive, "locations-record=false")
	first.succeeded(t)
	for _, change := range changes(sandbox) {
		if strings.Contains(change, "/manifests/latest") || strings.Contains(change, ".imgpkg") {
			t.Errorf("left a hint: %s", change)
		}
	}
	// Without hints the next run has to pack again to find out.
	sandbox.ResetRequests()
	again := action(t, sandbox, "resource="+imageResource, "image="+archive, "locations-record=false")
	again.has(t, map[string]string{"uploaded": "false", "revision-created": "false", "remote-digest": first.outputs["remote-digest"]})
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("sent %v", sent)
	}
}

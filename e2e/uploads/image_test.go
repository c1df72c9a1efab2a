package uploads

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

func TestImage(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testImage)
}

// testImage uploads an image by its ID, runs again unchanged, then changed, and checks that other tools accept the
// result.
func testImage(t *testing.T, options server.Options) {
	t.Helper()
	id := harness.BuildImage(t, "scratch")
	sandbox := harness.StartSandbox(t, options)
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id)
	first.Succeeded(t)
	first.Logged(t, harness.LogUnknown, harness.LogUploaded(first), harness.LogCreated(harness.ImageResource, "1"))
	_, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	first.HasOutputs(t, map[string]string{
		"revision": "1", "revision-created": "true", "uploaded": "true", "source-digest": id,
		"resource-flag": harness.ImageResource + ":1", "remote-image": repository + "@" + first.Outputs["remote-digest"],
	})
	made := sandbox.Revisions(harness.Charm, harness.ImageResource)
	if len(made) != 1 || !cmp.Equal(made[0].Architectures(), []string{runtime.GOARCH}) {
		t.Errorf("revisions %+v, want one for %s", made, runtime.GOARCH)
	}
	t.Run("rerun", func(t *testing.T) { harness.Rerun(t, sandbox, first, "digest="+id) })
	t.Run("changed", func(t *testing.T) { changed(t, sandbox, harness.BuildImage(t, id)) })
	t.Run("is valid", func(t *testing.T) { harness.IsValid(t, sandbox, id, first.Outputs["remote-digest"]) })
}

// changed uploads an image with another layer on top of the first one.
func changed(t *testing.T, sandbox *server.Server, id string) {
	t.Helper()
	sandbox.ResetRequests()
	r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id)
	r.Succeeded(t)
	r.Logged(t, harness.LogUnknown, harness.LogUploaded(r), harness.LogCreated(harness.ImageResource, "2"))
	r.HasOutputs(t, map[string]string{"revision": "2", "revision-created": "true", "uploaded": "true",
		"source-digest": id})
	if !strings.Contains(r.Log, "2 known to the registry") {
		t.Errorf("the unchanged layers were compressed again:\n%s", r.Log)
	}
	if layers := harness.SentLayers(t, sandbox); layers != 1 {
		t.Errorf("%d layers were sent, want the new one alone", layers)
	}
}

func TestImageByShortID(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testImageByShortID)
}

// testImageByShortID uploads an image by the first twelve digits of its ID.
func testImageByShortID(t *testing.T, options server.Options) {
	t.Helper()
	id := harness.BuildImage(t, "scratch")
	sandbox := harness.StartSandbox(t, options)
	short := "digest=" + id[len("sha256:"):][:12]
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, short)
	first.Succeeded(t)
	first.HasOutputs(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
	harness.Rerun(t, sandbox, first, short)
}

// pulledByDigest leaves an image in the engine that came from the repository of another resource by its digest, as
// name@sha256:….
func pulledByDigest(t *testing.T, sandbox *server.Server) (id, repoDigest, login string) {
	t.Helper()
	id = harness.BuildImage(t, "scratch")
	login, repository := harness.RegistryLogin(t, sandbox, harness.OtherResource)
	harness.Tool(t, "docker", "tag", id, repository)
	harness.Tool(t, "docker", "--config", login, "push", "--quiet", repository)
	repoDigest = harness.Tool(t, "docker", "inspect", "--format", "{{index .RepoDigests 0}}", id)
	harness.Tool(t, "docker", "rmi", "--force", id)
	harness.Tool(t, "docker", "--config", login, "pull", "--quiet", repoDigest)
	return id, repoDigest, login
}

func TestImageByRepoDigest(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testImageByRepoDigest)
}

// testImageByRepoDigest uploads an image from the engine by the digest under which it was pulled.
func testImageByRepoDigest(t *testing.T, options server.Options) {
	t.Helper()
	harness.Need(t, "docker")
	sandbox := harness.StartSandboxWithOther(t, options)
	id, repoDigest, _ := pulledByDigest(t, sandbox)
	_, digest, _ := strings.Cut(repoDigest, "@")
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+digest)
	first.Succeeded(t)
	first.HasOutputs(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
	harness.Rerun(t, sandbox, first, "digest="+digest)
	harness.Rerun(t, sandbox, first, "digest="+digest[len("sha256:"):][:20])
}

// TestImageByName: an image that is named with its digest comes from where the name says, and keeps that digest.
func TestImageByName(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testImageByName)
}

// testImageByName uploads an image from a registry, by its name and digest.
func testImageByName(t *testing.T, options server.Options) {
	t.Helper()
	harness.Need(t, "docker")
	sandbox := harness.StartSandboxWithOther(t, options)
	_, repoDigest, login := pulledByDigest(t, sandbox)
	_, digest, _ := strings.Cut(repoDigest, "@")
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+repoDigest, "DOCKER_CONFIG="+login)
	first.Succeeded(t)
	first.HasOutputs(t, map[string]string{"revision": "1", "source-digest": digest, "remote-digest": digest,
		"uploaded": "true"})
}

// TestImageByNameInEngine: where the registry doesn't let the action in, an engine may have the image, but a graph
// driver doesn't tell whether the digest is an index's of which it has one platform: its ID does.
func TestImageByNameInEngine(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testImageByNameInEngine)
}

// testImageByNameInEngine checks that a name which needs a login is refused with advice to give the engine's ID, and
// that this advice works.
func testImageByNameInEngine(t *testing.T, options server.Options) {
	t.Helper()
	harness.Need(t, "docker")
	sandbox := harness.StartSandboxWithOther(t, options)
	id, repoDigest, _ := pulledByDigest(t, sandbox)
	refused := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+repoDigest)
	refused.Failed(t, sandbox, "check the name", "the container engine has an image of that digest", "give its ID, "+id)
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+id)
	first.Succeeded(t)
	first.HasOutputs(t, map[string]string{"revision": "1", "source-digest": id, "uploaded": "true"})
}

// TestImageInRepository: a digest that the charm's repository has needs no engine.
func TestImageInRepository(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testImageInRepository)
}

// testImageInRepository gives the digest of an image that the charm's repository already has, and checks that nothing
// changes.
func testImageInRepository(t *testing.T, options server.Options) {
	t.Helper()
	archive := harness.WriteImageArchive(t, 1000, 2)
	sandbox := harness.StartSandbox(t, options)
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive)
	first.Succeeded(t)
	digest := first.Outputs["remote-digest"]
	first.Outputs["resources"] = strings.Replace(first.Outputs["resources"],
		`"source-digest":"`+first.Outputs["source-digest"], `"source-digest":"`+digest, 1)
	first.Outputs["source-digest"] = digest
	harness.Rerun(t, sandbox, first, "digest="+digest, harness.NoEngine(t))
}

// TestImageInFailingRepository: if only the repository can know a digest, and fails each time that it is asked, that is
// what went wrong. The image isn't unknown.
func TestImageInFailingRepository(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		sandbox := harness.StartSandbox(t, options)
		first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+harness.WriteImageArchive(t, 1000, 1),
			"push-only=true")
		first.Succeeded(t)
		// An image ID leads to its manifest by the tag latest and by a record, which is a tag, too.
		for digest, byTag := range map[string]bool{first.Outputs["remote-digest"]: false,
			first.Outputs["source-digest"]: true} {
			sandbox.Fault(func(r server.Request) *server.Fault {
				if _, asked, ok := strings.Cut(r.Path, "/manifests/"); ok && byTag != strings.Contains(asked, ":") {
					return &server.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"0"}}}
				}
				return nil
			})
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "digest="+digest, harness.NoEngine(t))
			r.Failed(t, sandbox, digest, "503 Service Unavailable")
			if text := harness.AnnotationOf(r, "error"); strings.Contains(text, "unknown") ||
				strings.Contains(text, "is not in") {
				t.Errorf("the error is %q", text)
			}
		}
	})
}

func TestImageWithoutRecord(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testImageWithoutRecord)
}

// testImageWithoutRecord uploads an image with locations-record=false, and checks that no record is written and that
// a second run sends nothing.
func testImageWithoutRecord(t *testing.T, options server.Options) {
	t.Helper()
	sandbox := harness.StartSandbox(t, options)
	archive := harness.WriteImageArchive(t, 10<<10, 1)
	first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive, "locations-record=false")
	first.Succeeded(t)
	for _, change := range harness.Changes(sandbox) {
		if strings.Contains(change, "/manifests/latest") || strings.Contains(change, ".imgpkg") {
			t.Errorf("left a hint: %s", change)
		}
	}
	// Without hints the next run has to pack again to find out.
	sandbox.ResetRequests()
	again := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+archive, "locations-record=false")
	again.HasOutputs(t, map[string]string{"uploaded": "false", "revision-created": "false",
		"remote-digest": first.Outputs["remote-digest"]})
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("sent %v", sent)
	}
}

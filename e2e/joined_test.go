package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// imageLines is the input image with several lines.
func imageLines(lines ...string) string { return "image=" + strings.Join(lines, "\n") }

// joins uploads lines as one index, twice, lets others judge it, and returns
// it as crane reads it.
func joins(t *testing.T, sandbox *server.Server, inputs ...string) string {
	t.Helper()
	need(t, "crane", "skopeo")
	first := action(t, sandbox, append(inputs, "resource="+imageResource)...)
	first.succeeded(t)
	digest := first.outputs["remote-digest"]
	first.has(t, map[string]string{"source-digest": digest, "uploaded": "true", "revision": "1"})
	login, repository := registryLogin(t, sandbox, imageResource)
	manifest := output(t, "env", "DOCKER_CONFIG="+login, "crane", "manifest", repository+"@"+digest)
	if judged := remoteRaw(t, sandbox, digest); digestOf([]byte(judged)) != digest || judged != strings.TrimSuffix(manifest, "\n") {
		t.Errorf("crane has %s\nand skopeo has %s\nof %s", manifest, judged, digest)
	}
	isComplete(t, sandbox, digest)
	rerunsChangeNothing(t, sandbox, first, func() result {
		return action(t, sandbox, append(inputs, "resource="+imageResource)...)
	})
	return manifest
}

func digestOfImage(t *testing.T, img v1.Image) string {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// TestJoinedIndex: one rock, one archive and one image in a registry become an
// index in the order of their lines.
func TestJoinedIndex(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testJoinedIndex)
}

func testJoinedIndex(t *testing.T, options server.Options) {
	t.Helper()
	need(t, "docker")
	amd64, arm64, riscv64 := platformImage(t, "linux/amd64"), dockerImage(t, "linux/arm64"), platformImage(t, "linux/riscv64")
	archive := filepath.Join(t.TempDir(), "arm64.tar")
	if err := tarball.WriteToFile(archive, name.MustParseReference("saved:arm64"), arm64); err != nil {
		t.Fatal(err)
	}
	repository := anonymousRegistry(t) + "/riscv64"
	lines := imageLines(writeRock(t, amd64), archive, repository+"@"+push(t, repository, riscv64))
	sandbox := startSandbox(t, options)
	manifest := joins(t, sandbox, lines)
	children := platforms(t, manifest)
	packed := remoteDigest(t, "image="+archive)
	want := []string{
		digestOfImage(t, amd64) + " linux/amd64", packed + " linux/arm64", digestOfImage(t, riscv64) + " linux/riscv64",
	}
	if diff := cmp.Diff(want, children); diff != "" {
		t.Errorf("children of the index (-want +got):\n%s", diff)
	}
	recordedFor(t, sandbox, "amd64", "arm64", "riscv64")

	login, target := registryLogin(t, sandbox, imageResource)
	pulled := target + "@" + digestOf([]byte(strings.TrimSuffix(manifest, "\n")))
	for _, platform := range []string{"amd64", "arm64"} {
		run(t, "docker", "--config", login, "pull", "--quiet", "--platform", "linux/"+platform, pulled)
		if got := run(t, "docker", "inspect", "--format", "{{.Architecture}}", pulled); got != platform {
			t.Errorf("docker pulled %s, want %s", got, platform)
		}
		run(t, "docker", "rmi", "--force", pulled) // another platform has the same name
	}
}

func TestNestedIndexIsFlattened(t *testing.T) {
	t.Parallel()
	eachRegistry(t, testNestedIndexIsFlattened)
}

func testNestedIndexIsFlattened(t *testing.T, options server.Options) {
	t.Helper()
	inner := platformIndex(t, "linux/arm64", "linux/s390x")
	outer := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: platformImage(t, "linux/amd64"), Descriptor: v1.Descriptor{Platform: parsePlatform(t, "linux/amd64")}},
		mutate.IndexAddendum{Add: inner})
	last := platformImage(t, "linux/riscv64")
	sandbox := startSandbox(t, options)
	children := platforms(t, joins(t, sandbox, imageLines("oci:"+writeLayout(t, outer), writeRock(t, last))))
	want := []string{
		childDigest(t, outer, 0) + " linux/amd64", childDigest(t, inner, 0) + " linux/arm64",
		childDigest(t, inner, 1) + " linux/s390x", digestOfImage(t, last) + " linux/riscv64",
	}
	if diff := cmp.Diff(want, children); diff != "" {
		t.Errorf("children of the index (-want +got):\n%s", diff)
	}
	recordedFor(t, sandbox, "amd64", "arm64", "riscv64", "s390x")
}

// TestPlatformOfLine: a line's platform replaces that of the image's config.
func TestPlatformOfLine(t *testing.T) {
	t.Parallel()
	arm, windows := platformImage(t, "linux/arm64"), platformImage(t, "windows/amd64")
	sandbox := startSandbox(t, server.Options{InMemory: true})
	manifest := joins(t, sandbox, imageLines(
		writeRock(t, arm)+" platform=linux/arm64/v8", writeRock(t, windows)+" platform=windows/amd64:10.0.14393"))
	want := []string{digestOfImage(t, arm) + " linux/arm64/v8", digestOfImage(t, windows) + " windows/amd64:10.0.14393"}
	if diff := cmp.Diff(want, platforms(t, manifest)); diff != "" {
		t.Errorf("children of the index (-want +got):\n%s", diff)
	}
	recordedFor(t, sandbox, "arm64")
}

// TestArchitecturesAreCorrected: what is recorded with an unchanged image is
// made true.
func TestArchitecturesAreCorrected(t *testing.T) {
	t.Parallel()
	inputs := []string{"resource=" + imageResource, "image=" + writeRock(t, platformIndex(t, "linux/amd64", "linux/arm64"))}
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, inputs...)
	first.succeeded(t)
	recordedFor(t, sandbox, "amd64", "arm64")
	record(t, sandbox, "s390x")
	recordedFor(t, sandbox, "s390x")

	dryRun(t, sandbox, inputs).logged(t, "Dry run: would record revision 1 for amd64, arm64 instead of s390x")
	sandbox.ResetRequests()
	again := action(t, sandbox, inputs...)
	again.succeeded(t)
	again.logged(t, "Revision 1 is now recorded for amd64, arm64 instead of s390x")
	again.logged(t, "Revision 1 of resource '"+imageResource+"' for charm '"+charm+"' has this content; its architectures were changed")
	again.has(t, first.unchanged())
	recordedFor(t, sandbox, "amd64", "arm64")
	if sent := changes(sandbox); len(sent) != 1 {
		t.Errorf("changes %v, want one, of the revision", sent)
	}
	rerun(t, sandbox, first, inputs...)
}

// TestArchitecturesUnknownToCharmhub: an image for none that it knows is recorded
// for all of them, and stays so.
func TestArchitecturesUnknownToCharmhub(t *testing.T) {
	t.Parallel()
	inputs := []string{"resource=" + imageResource, "image=" + writeRock(t, platformIndex(t, "linux/loong64", "windows/amd64"))}
	sandbox := startSandbox(t, server.Options{InMemory: true})
	first := action(t, sandbox, inputs...)
	first.succeeded(t)
	recordedFor(t, sandbox, "all")
	rerun(t, sandbox, first, inputs...)
}

// record makes revision 1 be for an architecture, as another client of the
// store can.
func record(t *testing.T, sandbox *server.Server, architecture string) {
	t.Helper()
	exported, err := base64.StdEncoding.DecodeString(sandbox.Token())
	if err != nil {
		t.Fatal(err)
	}
	body := `{"resource-revision-updates":[{"revision":1,"bases":[{"name":"all","channel":"all","architectures":["` + architecture + `"]}]}]}`
	target := sandbox.StoreURL + "/v1/charm/" + charm + "/resources/" + imageResource + "/revisions"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Macaroon "+string(exported))
	request.Header.Set("User-Agent", "e2e")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _ = answer.Body.Close(); answer.StatusCode != http.StatusOK {
		t.Fatalf("the store answered %s", answer.Status)
	}
}

// TestJoinedIndexArtifactTypes: the descriptors of a joined index have an artifact
// type only where the manifest has one, so that tools which don't know that
// field copy the index with its digest.
func TestJoinedIndexArtifactTypes(t *testing.T) {
	t.Parallel()
	const artifactType = "application/vnd.example.app"
	typed := writeTar(t, "typed.tar", func(f files) {
		f.top(f.artifact(artifactType, imageConfig("linux/s390x", "layer"), [2]string{string(types.OCIUncompressedLayer), "layer"}))
	})
	plain := []string{writeRock(t, platformImage(t, "linux/amd64")), writeRock(t, platformImage(t, "linux/arm64"))}
	for name, test := range map[string]struct {
		lines []string
		want  []string
	}{
		"plain": {plain, []string{"", ""}},
		"typed": {append(plain, typed), []string{"", "", artifactType}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			manifest := joins(t, sandbox, imageLines(test.lines...))
			var index v1.IndexManifest
			if err := json.Unmarshal([]byte(manifest), &index); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range index.Manifests {
				got = append(got, d.ArtifactType)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("artifact types (-want +got):\n%s", diff)
			}
			if name == "plain" {
				copiesWithDigest(t, sandbox, digestOf([]byte(strings.TrimSuffix(manifest, "\n"))))
			}
		})
	}
}

// TestJoinedWithAttestations: an index of one image and what is about it, as
// BuildKit makes it by default, is an image for one platform.
func TestJoinedWithAttestations(t *testing.T) {
	t.Parallel()
	archive := writeTar(t, "built.tar", func(f files) {
		image := onPlatform(f.plain("linux/arm"), "linux", "arm")
		attestation := onPlatform(f.artifact("", imageConfig("unknown/unknown", "{}"), [2]string{"application/vnd.in-toto+json", "{}"}), "unknown", "unknown")
		attestation.Annotations = map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest,
		}
		f.top(f.index(image, attestation))
	})
	other := platformImage(t, "linux/amd64")
	sandbox := startSandbox(t, server.Options{InMemory: true})
	got := platforms(t, joins(t, sandbox, imageLines(archive+" platform=linux/arm/v6", writeRock(t, other))))
	if len(got) != 3 || !strings.HasSuffix(got[0], " linux/arm/v6") || !strings.HasSuffix(got[1], " unknown/unknown") ||
		got[2] != digestOfImage(t, other)+" linux/amd64" {
		t.Errorf("children of the index %v", got)
	}
	recordedFor(t, sandbox, "amd64", "armhf")
}

// TestJoinedPlatforms: which lines are ambiguous, and the errors about them.
func TestJoinedPlatforms(t *testing.T) {
	t.Parallel()
	silent := writeTar(t, "silent.tar", func(f files) { f.top(f.plain("")) })
	arm := writeRock(t, platformImage(t, "linux/arm64"))
	amd := writeRock(t, platformImage(t, "linux/amd64"))
	for name, test := range map[string]struct {
		lines   []string
		refused []string
	}{
		"no platform":       {[]string{amd, silent}, []string{silent, "doesn't say what it runs on", "` platform=os/arch`"}},
		"one variant twice": {[]string{arm, amd + " platform=linux/arm64/v8"}, []string{arm, "both for linux/arm64"}},
		"another name":      {[]string{amd, arm + " platform=linux/x86_64"}, []string{arm, "both for linux/amd64"}},
		"two platforms":     {[]string{amd + " platform=linux/amd64 platform=linux/arm64"}, []string{"has several platforms", "a line for each"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := startSandbox(t, server.Options{InMemory: true})
			r := action(t, sandbox, "resource="+imageResource, imageLines(test.lines...))
			r.failed(t, sandbox, test.refused...)
			sentNothing(t, sandbox)
		})
	}
	t.Run("given", func(t *testing.T) {
		t.Parallel()
		sandbox := startSandbox(t, server.Options{InMemory: true})
		joins(t, sandbox, imageLines(amd, silent+" platform=linux/aarch64"))
		recordedFor(t, sandbox, "amd64", "arm64")
	})
}

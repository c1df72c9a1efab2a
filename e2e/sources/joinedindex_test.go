package sources

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// joins uploads lines as one index, twice, lets others judge it, and returns
// it as crane reads it.
func joins(t *testing.T, sandbox *server.Server, inputs ...string) string {
	t.Helper()
	harness.Need(t, "crane", "skopeo")
	first := harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
	first.Succeeded(t)
	digest := first.Outputs["remote-digest"]
	first.HasOutputs(t, map[string]string{"source-digest": digest, "uploaded": "true", "revision": "1"})
	login, repository := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	manifest := harness.ToolOutput(t, "env", "DOCKER_CONFIG="+login, "crane", "manifest", repository+"@"+digest)
	if judged := harness.RemoteManifest(t, sandbox, digest); harness.DigestOf([]byte(judged)) != digest ||
		judged != strings.TrimSuffix(manifest, "\n") {
		t.Errorf("crane has %s\nand skopeo has %s\nof %s", manifest, judged, digest)
	}
	harness.IsComplete(t, sandbox, digest)
	harness.RerunsChangeNothing(t, sandbox, first, func() harness.Result {
		return harness.Upload(t, sandbox, append(inputs, "resource="+harness.ImageResource)...)
	})
	return manifest
}

// TestJoinedIndex: one rock, one archive and one image in a registry become an
// index in the order of their lines.
func TestJoinedIndex(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testJoinedIndex)
}

// testJoinedIndex joins a rock, a docker archive and an image in a registry into one index, and checks its children
// and their records.
func testJoinedIndex(t *testing.T, options server.Options) {
	t.Helper()
	harness.Need(t, "docker")
	amd64, arm64, riscv64 := harness.PlatformImage(t, "linux/amd64"), dockerImage(t, "linux/arm64"),
		harness.PlatformImage(t, "linux/riscv64")
	archive := filepath.Join(t.TempDir(), "arm64.tar")
	if err := tarball.WriteToFile(archive, name.MustParseReference("saved:arm64"), arm64); err != nil {
		t.Fatal(err)
	}
	repository := harness.StartRegistry(t) + "/riscv64"
	lines := harness.ImageLines(harness.WriteRock(t, amd64), archive, repository+"@"+harness.Push(t, repository, riscv64))
	sandbox := harness.StartSandbox(t, options)
	manifest := joins(t, sandbox, lines)
	children := platforms(t, manifest)
	packed := harness.RemoteDigest(t, "image="+archive)
	want := []string{
		harness.DigestOfImage(t, amd64) + " linux/amd64", packed + " linux/arm64",
		harness.DigestOfImage(t, riscv64) + " linux/riscv64",
	}
	if diff := cmp.Diff(want, children); diff != "" {
		t.Errorf("children of the index (-want +got):\n%s", diff)
	}
	harness.RecordedFor(t, sandbox, "amd64", "arm64", "riscv64")

	login, target := harness.RegistryLogin(t, sandbox, harness.ImageResource)
	pulled := target + "@" + harness.DigestOf([]byte(strings.TrimSuffix(manifest, "\n")))
	for _, platform := range []string{"amd64", "arm64"} {
		harness.Tool(t, "docker", "--config", login, "pull", "--quiet", "--platform", "linux/"+platform, pulled)
		if got := harness.Tool(t, "docker", "inspect", "--format", "{{.Architecture}}", pulled); got != platform {
			t.Errorf("docker pulled %s, want %s", got, platform)
		}
		harness.Tool(t, "docker", "rmi", "--force", pulled) // another platform has the same name
	}
}

func TestNestedIndexIsFlattened(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testNestedIndexIsFlattened)
}

// testNestedIndexIsFlattened joins an index within an index and an image, and checks that the result lists all images
// directly.
func testNestedIndexIsFlattened(t *testing.T, options server.Options) {
	t.Helper()
	inner := harness.PlatformIndex(t, "linux/arm64", "linux/s390x")
	outer := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: harness.PlatformImage(t, "linux/amd64"),
			Descriptor: v1.Descriptor{Platform: harness.ParsePlatform(t, "linux/amd64")}},
		mutate.IndexAddendum{Add: inner})
	last := harness.PlatformImage(t, "linux/riscv64")
	sandbox := harness.StartSandbox(t, options)
	children := platforms(t,
		joins(t, sandbox, harness.ImageLines("oci:"+harness.WriteLayout(t, outer), harness.WriteRock(t, last))))
	want := []string{
		childDigest(t, outer, 0) + " linux/amd64", childDigest(t, inner, 0) + " linux/arm64",
		childDigest(t, inner, 1) + " linux/s390x", harness.DigestOfImage(t, last) + " linux/riscv64",
	}
	if diff := cmp.Diff(want, children); diff != "" {
		t.Errorf("children of the index (-want +got):\n%s", diff)
	}
	harness.RecordedFor(t, sandbox, "amd64", "arm64", "riscv64", "s390x")
}

// TestPlatformOfLine: a line's platform replaces that of the image's config.
func TestPlatformOfLine(t *testing.T) {
	t.Parallel()
	arm, windows := harness.PlatformImage(t, "linux/arm64"), harness.PlatformImage(t, "windows/amd64")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	manifest := joins(t, sandbox, harness.ImageLines(
		harness.WriteRock(t, arm)+" platform=linux/arm64/v8",
		harness.WriteRock(t, windows)+" platform=windows/amd64:10.0.14393"))
	want := []string{harness.DigestOfImage(t, arm) + " linux/arm64/v8",
		harness.DigestOfImage(t, windows) + " windows/amd64:10.0.14393"}
	if diff := cmp.Diff(want, platforms(t, manifest)); diff != "" {
		t.Errorf("children of the index (-want +got):\n%s", diff)
	}
	harness.RecordedFor(t, sandbox, "arm64")
}

// TestArchitecturesAreCorrected: what is recorded with an unchanged image is
// made true.
func TestArchitecturesAreCorrected(t *testing.T) {
	t.Parallel()
	inputs := []string{"resource=" + harness.ImageResource,
		"image=" + harness.WriteRock(t, harness.PlatformIndex(t, "linux/amd64", "linux/arm64"))}
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, inputs...)
	first.Succeeded(t)
	harness.RecordedFor(t, sandbox, "amd64", "arm64")
	record(t, sandbox, "s390x")
	harness.RecordedFor(t, sandbox, "s390x")

	harness.DryRun(t, sandbox, inputs).Logged(t, "Dry run: would record revision 1 for amd64, arm64 instead of s390x")
	sandbox.ResetRequests()
	again := harness.Upload(t, sandbox, inputs...)
	again.Succeeded(t)
	again.Logged(t, "Revision 1 is now recorded for amd64, arm64 instead of s390x")
	again.Logged(t, "Revision 1 of resource '"+harness.ImageResource+"' for charm '"+harness.Charm+
		"' has this content; its architectures were changed")
	again.HasOutputs(t, first.UnchangedOutputs())
	harness.RecordedFor(t, sandbox, "amd64", "arm64")
	if sent := harness.Changes(sandbox); len(sent) != 1 {
		t.Errorf("changes %v, want one, of the revision", sent)
	}
	harness.Rerun(t, sandbox, first, inputs...)
}

// TestArchitecturesUnknownToCharmhub: an image for none that it knows is recorded
// for all of them, and stays so.
func TestArchitecturesUnknownToCharmhub(t *testing.T) {
	t.Parallel()
	inputs := []string{"resource=" + harness.ImageResource,
		"image=" + harness.WriteRock(t, harness.PlatformIndex(t, "linux/loong64", "windows/amd64"))}
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	first := harness.Upload(t, sandbox, inputs...)
	first.Succeeded(t)
	harness.RecordedFor(t, sandbox, "all")
	harness.Rerun(t, sandbox, first, inputs...)
}

// record makes revision 1 be for an architecture, as another client of the
// store can.
func record(t *testing.T, sandbox *server.Server, architecture string) {
	t.Helper()
	exported, err := base64.StdEncoding.DecodeString(sandbox.Token())
	if err != nil {
		t.Fatal(err)
	}
	body := `{"resource-revision-updates":[{"revision":1,"bases":[{"name":"all","channel":"all","architectures":["` +
		architecture + `"]}]}]}`
	target := sandbox.StoreURL + "/v1/charm/" + harness.Charm + "/resources/" + harness.ImageResource + "/revisions"
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
	typed := harness.WriteTar(t, "typed.tar", func(f harness.Archive) {
		f.LayoutIndex(f.Artifact(artifactType, harness.ImageConfig("linux/s390x", "layer"),
			[2]string{string(types.OCIUncompressedLayer), "layer"}))
	})
	plain := []string{harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64")),
		harness.WriteRock(t, harness.PlatformImage(t, "linux/arm64"))}
	for name, test := range map[string]struct {
		lines []string
		want  []string
	}{
		"plain": {plain, []string{"", ""}},
		"typed": {append(plain, typed), []string{"", "", artifactType}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			manifest := joins(t, sandbox, harness.ImageLines(test.lines...))
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
				copiesWithDigest(t, sandbox, harness.DigestOf([]byte(strings.TrimSuffix(manifest, "\n"))))
			}
		})
	}
}

// TestJoinedWithAttestations: an index of one image and what is about it, as
// BuildKit makes it by default, is an image for one platform.
func TestJoinedWithAttestations(t *testing.T) {
	t.Parallel()
	archive := harness.WriteTar(t, "built.tar", func(f harness.Archive) {
		image := onPlatform(f.Plain("linux/arm"), "linux", "arm")
		attestation := onPlatform(f.Artifact("", harness.ImageConfig("unknown/unknown", "{}"),
			[2]string{"application/vnd.in-toto+json", "{}"}), "unknown", "unknown")
		attestation.Annotations = map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.Digest,
		}
		f.LayoutIndex(f.Index(image, attestation))
	})
	other := harness.PlatformImage(t, "linux/amd64")
	sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
	got := platforms(t, joins(t, sandbox, harness.ImageLines(archive+" platform=linux/arm/v6",
		harness.WriteRock(t, other))))
	if len(got) != 3 || !strings.HasSuffix(got[0], " linux/arm/v6") || !strings.HasSuffix(got[1], " unknown/unknown") ||
		got[2] != harness.DigestOfImage(t, other)+" linux/amd64" {
		t.Errorf("children of the index %v", got)
	}
	harness.RecordedFor(t, sandbox, "amd64", "armhf")
}

// TestJoinedPlatforms: which lines are ambiguous, and the errors about them.
func TestJoinedPlatforms(t *testing.T) {
	t.Parallel()
	silent := harness.WriteTar(t, "silent.tar", func(f harness.Archive) { f.LayoutIndex(f.Plain("")) })
	arm := harness.WriteRock(t, harness.PlatformImage(t, "linux/arm64"))
	amd := harness.WriteRock(t, harness.PlatformImage(t, "linux/amd64"))
	for name, test := range map[string]struct {
		lines   []string
		refused []string
	}{
		"no platform":       {[]string{amd, silent}, []string{silent, "doesn't say what it runs on", "` platform=os/arch`"}},
		"one variant twice": {[]string{arm, amd + " platform=linux/arm64/v8"}, []string{arm, "both for linux/arm64"}},
		"another name":      {[]string{amd, arm + " platform=linux/x86_64"}, []string{arm, "both for linux/amd64"}},
		"two platforms": {[]string{amd + " platform=linux/amd64 platform=linux/arm64"},
			[]string{"has several platforms", "a line for each"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			r := harness.Upload(t, sandbox, "resource="+harness.ImageResource, harness.ImageLines(test.lines...))
			r.Failed(t, sandbox, test.refused...)
			harness.SentNothing(t, sandbox)
		})
	}
	t.Run("given", func(t *testing.T) {
		t.Parallel()
		sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
		joins(t, sandbox, harness.ImageLines(amd, silent+" platform=linux/aarch64"))
		harness.RecordedFor(t, sandbox, "amd64", "arm64")
	})
}

// dockerImage makes one of Docker's media types.
func dockerImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	return harness.RunsOn(t, empty.Image, types.DockerLayer, platform)
}

// childDigest returns the digest of an index's nth child.
func childDigest(t *testing.T, index v1.ImageIndex, n int) string {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Manifests[n].Digest.String()
}

// platforms returns what is in an index that the charm's repository has, one
// `digest platform` each.
func platforms(t *testing.T, manifest string) (all []string) {
	t.Helper()
	var index v1.IndexManifest
	if err := json.Unmarshal([]byte(manifest), &index); err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		if d.MediaType.IsIndex() {
			t.Errorf("%s is an index in an index", d.Digest)
		}
		all = append(all, fmt.Sprintf("%s %s", d.Digest, d.Platform))
	}
	return slices.Clip(all)
}

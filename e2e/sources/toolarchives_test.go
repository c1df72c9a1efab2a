package sources

import (
	"archive/tar"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// written are the archives in testdata, which tools wrote that the tests can't
// expect to be installed: README.md beside each says how. They are published for
// some architectures, or refused.
var written = map[string]struct {
	architectures []string
	packed        bool // as an archive, whose layers aren't compressed, like what `docker save` writes
	refused       string
	noSkopeo      string // why skopeo 1.9 can't copy it with its digest, wherever it is
}{
	"buildkitd/docker-attested.tar":     {architectures: []string{"amd64"}},
	"buildkitd/docker-gzip.tar":         {architectures: []string{"amd64"}},
	"buildkitd/docker-uncompressed.tar": {architectures: []string{"amd64"}, packed: true},
	"buildkitd/docker-zstd.tar": {
		architectures: []string{"amd64"},
		noSkopeo:      "it has a type of layers that engines know, but neither Docker's manifest nor skopeo",
	},
	"buildkitd/oci-attested-artifact.tar": {architectures: []string{"amd64", "arm64"}},
	"buildkitd/oci-attested-zstd.tar":     {architectures: []string{"amd64", "arm64"}},
	"buildkitd/oci-attested.tar":          {architectures: []string{"amd64"}},
	"buildkitd/oci-estargz.tar":           {architectures: []string{"amd64"}},
	"buildkitd/oci-gzip.tar":              {architectures: []string{"amd64"}},
	"buildkitd/oci-uncompressed.tar":      {architectures: []string{"amd64"}},
	"buildkitd/oci-zstd.tar":              {architectures: []string{"amd64", "arm64"}},
	"ko/image.tar":                        {architectures: []string{"amd64"}},
	"ko/index.tar": {
		architectures: []string{"amd64", "arm64"},
		noSkopeo:      "it drops the artifact types of the images in the index",
	},
	"ko/sbom.tar": {refused: "an SBOM, and no image to run"},
}

// TestWrittenArchives: what other tools wrote is published from their archive,
// from the same as a folder, and from a registry, with the digest of the manifest
// that they gave it.
func TestWrittenArchives(t *testing.T) {
	t.Parallel()
	archives, err := filepath.Glob("testdata/*/*.tar")
	if err != nil || len(archives) != len(written) {
		t.Fatalf("%v: %d archives in testdata, %d here", err, len(archives), len(written))
	}
	for name, test := range written {
		archive := copyOf(t, filepath.Join("testdata", name))
		places := map[string]func(t *testing.T) string{"archive": func(*testing.T) string { return archive }}
		digest := listedDigest(t, archive)
		if digest != "" {
			places["folder"] = func(t *testing.T) string { t.Helper(); return unpack(t, archive) }
			places["registry"] = func(t *testing.T) string {
				t.Helper()
				return pushLayout(t, unpack(t, archive)) +
					"@" + digest
			}
		}
		for place, image := range places {
			t.Run(name+"/"+place, func(t *testing.T) {
				t.Parallel()
				harness.Need(t, "crane")
				image := image(t)
				sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
				first := harness.Upload(t, sandbox, "resource="+harness.ImageResource, "image="+image)
				if test.refused != "" {
					first.Failed(t, sandbox, image, test.refused)
					harness.SentNothing(t, sandbox)
					return
				}
				first.Succeeded(t)
				published := first.Outputs["remote-digest"]
				switch packed := digest == "" || test.packed && place == "archive"; {
				case !packed && published != digest:
					t.Errorf("published as %s, want %s", published, digest)
				case packed && published == digest:
					t.Errorf("published as it was, %s", published)
				}
				harness.IsComplete(t, sandbox, published)
				if test.noSkopeo == "" {
					copiesWithDigest(t, sandbox, published)
				}
				harness.RecordedFor(t, sandbox, test.architectures...)
				harness.Rerun(t, sandbox, first, "image="+image)
			})
		}
	}
}

// TestJoinedBuilds: attestations that BuildKit attached go along into an index
// of several builds, as images or as artifacts.
func TestJoinedBuilds(t *testing.T) {
	t.Parallel()
	other := harness.WriteRock(t, harness.PlatformImage(t, "linux/s390x"))
	for name, test := range map[string]struct {
		archive, platform string
		architectures     []string
		attestations      int
	}{
		"one platform": {"oci-attested.tar", " platform=linux/amd64", []string{"amd64", "s390x"}, 1},
		"two":          {"oci-attested-zstd.tar", "", []string{"amd64", "arm64", "s390x"}, 2},
		"as artifacts": {"oci-attested-artifact.tar", "", []string{"amd64", "arm64", "s390x"}, 2},
		"by Docker's":  {"docker-attested.tar", "", []string{"amd64", "s390x"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sandbox := harness.StartSandbox(t, server.Options{InMemory: true})
			archive := copyOf(t, filepath.Join("testdata", "buildkitd", test.archive))
			manifest := joins(t, sandbox, harness.ImageLines(archive+test.platform, other))
			if n := strings.Count(manifest, "attestation-manifest"); n != test.attestations {
				t.Errorf("%d attestations in the index, want %d: %s", n, test.attestations, manifest)
			}
			harness.RecordedFor(t, sandbox, test.architectures...)
		})
	}
}

// copyOf copies a file to where the program may read it, and returns its path.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	harness.WriteFile(t, to, harness.ReadFile(t, path))
	return to
}

// unpack returns a folder with what an archive has.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	harness.Tool(t, "tar", "-C", dir, "-xf", archive)
	return dir
}

// pushLayout pushes the only manifest of a layout to a registry, and returns the
// repository.
func pushLayout(t *testing.T, dir string) string {
	t.Helper()
	repository := harness.StartRegistry(t) + "/image"
	harness.Tool(t, "crane", "push", dir, repository+":v1")
	return repository
}

// listedDigest returns the digest of the only manifest that the index.json of
// an archive lists, and nothing if it has no index.json.
func listedDigest(t *testing.T, archive string) string {
	t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	entries := tar.NewReader(file)
	for header, err := entries.Next(); err == nil; header, err = entries.Next() {
		if header.Name != "index.json" {
			continue
		}
		var index v1.IndexManifest
		if err := json.NewDecoder(entries).Decode(&index); err != nil || len(index.Manifests) != 1 {
			t.Fatalf("%s: %v, or several manifests: %v", archive, err, index.Manifests)
		}
		return index.Manifests[0].Digest.String()
	}
	return ""
}

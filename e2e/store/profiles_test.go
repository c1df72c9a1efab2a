package store

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// eachProfile runs a test against a Charmhub of each profile: options are for a sandbox of it.
func eachProfile(t *testing.T, test func(t *testing.T, options server.Options)) {
	t.Helper()
	for _, profile := range server.Profiles() {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			options, err := server.Profile(profile)
			if err != nil {
				t.Fatal(err)
			}
			test(t, options)
		})
	}
}

// hurry lets the lists of a sandbox that lag do so for three looks at them, and not for ten seconds.
func hurry(sandbox *server.Server, options server.Options) {
	sandbox.Fault(func(r server.Request) *server.Fault {
		if r.Method == http.MethodGet && r.Server == "store" {
			sandbox.AdvanceClock(options.Lag / 3)
		}
		return nil
	})
}

// twice runs a job, and later again. What the first run made is there the second time, which nothing else differs in.
func twice(
	t *testing.T, sandbox *server.Server, options server.Options, job func() harness.Result,
) (first harness.Result) {
	t.Helper()
	first = job()
	first.Succeeded(t)
	sandbox.AdvanceClock(options.Lag)
	sandbox.ResetRequests()
	again := job()
	again.Succeeded(t)
	want := first.UnchangedOutputs()
	if first.Outputs["releases"] != "" {
		want = first.Outputs
		want["released"], want["releases"] = "false", again.Outputs["releases"] // which has what was there before
	}
	if diff := cmp.Diff(want, again.Outputs); diff != "" {
		t.Errorf("outputs (-first +again):\n%s\n%s", diff, harness.WithoutMasks(again.Log))
	}
	if sent := harness.Changes(sandbox); len(sent) > 0 {
		t.Errorf("the second run changed something:\n%s", strings.Join(sent, "\n"))
	}
	return first
}

// TestUploadsUnderProfiles: an image, one under a key, several as one, the images of a charm, and a file are uploaded
// once, whatever Charmhub is like, and the outputs say so.
func TestUploadsUnderProfiles(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, options server.Options) {
		t.Helper()
		file, metadata := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "charmcraft.yaml")
		harness.WriteFile(t, file, "content")
		host := harness.StartRegistry(t)
		declared := harness.Push(t, host+"/declared", harness.PlatformImage(t, "linux/amd64"))
		harness.WriteFile(t, metadata,
			fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s/declared@%s\"}\n",
				harness.Charm, harness.ImageResource, host, declared))
		layout, one, two := harness.WriteLayout(t, harness.PlatformImage(t, "linux/amd64")),
			harness.WriteImageArchive(t, 100_000, 2), harness.WriteLayout(t, harness.PlatformImage(t, "linux/arm64"))

		for name, inputs := range map[string][]string{
			"image":    {"resource=" + harness.ImageResource, "image=" + layout},
			"archive":  {"resource=" + harness.ImageResource, "image=" + one},
			"key":      {"resource=" + harness.ImageResource, "image=" + layout, "key=a key"},
			"metadata": {"charm=", "metadata=" + metadata},
			"join":     {"resource=" + harness.ImageResource, harness.ImageLines(layout, two)},
			"file":     {"resource=" + harness.FileResource, "filepath=" + file},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				sandbox := harness.StartSandbox(t, options)
				hurry(sandbox, options)
				r := twice(t, sandbox, options, func() harness.Result { return harness.Upload(t, sandbox, inputs...) })
				resource := harness.ImageResource
				if name == "file" {
					resource = harness.FileResource
				}
				number := 1
				if options.FromZero {
					number = 0
				}
				r.HasOutputs(t, map[string]string{"revision-created": "true", "uploaded": "true",
					"resource-flags": fmt.Sprintf("--resource=%s:%d", resource, number)})
				made := sandbox.Revisions(harness.Charm, resource)
				if len(made) != 1 || made[0].Number != number {
					t.Fatalf("revisions %+v, want one, %d", made, number)
				}
				if want := map[string]string{"join": "amd64 arm64", "file": "all"}[name]; want != "" &&
					strings.Join(made[0].Architectures(), " ") != want {
					t.Errorf("it is for %v, want %s", made[0].Architectures(), want)
				}
				switch digest := r.Outputs["remote-digest"]; name {
				case "file":
					if content, err := made[0].Content(); err != nil || string(content) != "content" {
						t.Errorf("%v: content %q", err, content)
					}
				case "metadata":
					repository, _, _ := sandbox.RegistryAuth(harness.Charm, harness.ImageResource)
					if image := repository + "@" + declared; !strings.Contains(r.Outputs["resources"], image) {
						t.Errorf("resources %s, want %s", r.Outputs["resources"], image)
					}
				default:
					if content, err := made[0].Content(); err != nil || !strings.Contains(string(content), "@"+digest) {
						t.Errorf("%v: the text isn't about %s", err, digest)
					}
					harness.IsComplete(t, sandbox, digest)
				}
				if name == "key" {
					sandbox.ResetRequests()
					known := harness.Upload(t, sandbox, harness.NoEngine(t), "resource="+harness.ImageResource, "key=a key")
					known.Succeeded(t)
					if diff := cmp.Diff(r.UnchangedOutputs(), known.Outputs); diff != "" {
						t.Errorf("outputs (-uploaded +looked up):\n%s", diff)
					}
				}
			})
		}
	})
}

// TestReleasesUnderProfiles: a charm file becomes a revision, is released with its resources, and promoted, once each,
// whatever Charmhub is like.
func TestReleasesUnderProfiles(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, options server.Options) {
		t.Helper()
		sandbox := harness.StartCharm(t, options)
		hurry(sandbox, options)
		file, path := harness.WriteCharmFile(t, harness.CharmMetadata, harness.Jammy, harness.Noble),
			filepath.Join(t.TempDir(), "file")
		harness.WriteFile(t, path, "content")
		number := 1
		if options.FromZero {
			number = 0
		}
		both := harness.ResourceRevisions{harness.ImageResource: number, harness.FileResource: number}
		var want []server.Release
		released := func(channel string, resources harness.ResourceRevisions) {
			t.Helper()
			for _, base := range []server.ReleaseBase{harness.Jammy, harness.Noble} {
				want = append(want, server.Release{Channel: channel, Base: base, Revision: number, Resources: resources})
			}
			harness.HasReleases(t, sandbox, want...)
		}

		r := twice(t, sandbox, options,
			func() harness.Result { return harness.Release(t, sandbox, "charms="+file, "channel=none") })
		r.HasOutputs(t, map[string]string{"charm-revisions": fmt.Sprint(number), "releases": "[]"})

		image := harness.Upload(t, sandbox, "resource="+harness.ImageResource,
			"image="+harness.WriteLayout(t, harness.PlatformImage(t, "linux/amd64")))
		image.Succeeded(t)
		content := harness.Upload(t, sandbox, "resource="+harness.FileResource, "filepath="+path)
		content.Succeeded(t)
		// At once, so that lists may lack what was uploaded.
		flags := image.Outputs["resource-flags"] + " " + content.Outputs["resource-flags"]
		resources := "resources=" + strings.ReplaceAll(flags, "--resource=", "")
		r = twice(t, sandbox, options, func() harness.Result {
			return harness.Release(t, sandbox, "charm-revision="+fmt.Sprint(number), "channel=beta", resources)
		})
		r.HasOutputs(t, map[string]string{"charm-revisions": fmt.Sprint(number)})
		released("latest/beta", both)

		r = twice(t, sandbox, options,
			func() harness.Result { return harness.Release(t, sandbox, "from-channel=beta", "channel=candidate") })
		r.HasOutputs(t, map[string]string{"charm-revisions": fmt.Sprint(number)})
		released("latest/candidate", both)
	})
}

// TestCharmFileAgainAtOnce: a list that lags lacks the charm file, which is uploaded again. Charmhub rejects it, and
// may say which revision it is, or not.
func TestCharmFileAgainAtOnce(t *testing.T) {
	t.Parallel()
	for name, unnumbered := range map[string]bool{"with the number": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := server.Options{Lag: 10 * time.Second, UnnumberedDuplicates: unnumbered}
			sandbox := harness.StartCharm(t, options)
			inputs := []string{"channel=none", "charms=" + harness.WriteCharmFile(t, harness.CharmMetadata, harness.Noble)}
			harness.Release(t, sandbox, inputs...).Succeeded(t)
			hurry(sandbox, options)
			again := harness.Release(t, sandbox, inputs...)
			again.Succeeded(t)
			again.HasOutputs(t, map[string]string{"charm-revisions": "1", "released": "false"})
			if !strings.Contains(again.Log, "Charm file unchanged") {
				t.Errorf("log:\n%s", again.Log)
			}
			if n := len(sandbox.CharmRevisions(harness.Charm)); n != 1 {
				t.Errorf("%d revisions, want 1", n)
			}
		})
	}
}

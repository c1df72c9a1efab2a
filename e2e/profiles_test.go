package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
func twice(t *testing.T, sandbox *server.Server, options server.Options, job func() result) (first result) {
	t.Helper()
	first = job()
	first.succeeded(t)
	sandbox.AdvanceClock(options.Lag)
	sandbox.ResetRequests()
	again := job()
	again.succeeded(t)
	want := first.unchanged()
	if first.outputs["releases"] != "" {
		want = first.outputs
		want["released"], want["releases"] = "false", again.outputs["releases"] // which has what was there before
	}
	if diff := cmp.Diff(want, again.outputs); diff != "" {
		t.Errorf("outputs (-first +again):\n%s\n%s", diff, withoutMasks(again.log))
	}
	if sent := changes(sandbox); len(sent) > 0 {
		t.Errorf("the second run changed something:\n%s", strings.Join(sent, "\n"))
	}
	return first
}

// TestUploadsUnderProfiles: an image, one under a key, several as one, the images of a charm, and a file are uploaded once, whatever
// Charmhub is like, and the outputs say so.
func TestUploadsUnderProfiles(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, options server.Options) {
		t.Helper()
		file, metadata := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "charmcraft.yaml")
		writeFile(t, file, "content")
		host := anonymousRegistry(t)
		declared := push(t, host+"/declared", platformImage(t, "linux/amd64"))
		writeFile(t, metadata, fmt.Sprintf("name: %s\nresources:\n  %s: {type: oci-image, upstream-source: \"%s/declared@%s\"}\n",
			charm, imageResource, host, declared))
		layout, one, two := writeLayout(t, platformImage(t, "linux/amd64")), writeArchive(t, 100_000, 2), writeLayout(t, platformImage(t, "linux/arm64"))

		for name, inputs := range map[string][]string{
			"image":    {"resource=" + imageResource, "image=" + layout},
			"archive":  {"resource=" + imageResource, "image=" + one},
			"key":      {"resource=" + imageResource, "image=" + layout, "key=a key"},
			"metadata": {"charm=", "metadata=" + metadata},
			"join":     {"resource=" + imageResource, imageLines(layout, two)},
			"file":     {"resource=" + fileResource, "filepath=" + file},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				sandbox := startSandbox(t, options)
				hurry(sandbox, options)
				r := twice(t, sandbox, options, func() result { return action(t, sandbox, inputs...) })
				resource := imageResource
				if name == "file" {
					resource = fileResource
				}
				number := 1
				if options.FromZero {
					number = 0
				}
				r.has(t, map[string]string{"revision-created": "true", "uploaded": "true", "resource-flags": fmt.Sprintf("--resource=%s:%d", resource, number)})
				made := sandbox.Revisions(charm, resource)
				if len(made) != 1 || made[0].Number != number {
					t.Fatalf("revisions %+v, want one, %d", made, number)
				}
				if want := map[string]string{"join": "amd64 arm64", "file": "all"}[name]; want != "" && strings.Join(made[0].Architectures(), " ") != want {
					t.Errorf("it is for %v, want %s", made[0].Architectures(), want)
				}
				switch digest := r.outputs["remote-digest"]; name {
				case "file":
					if content, err := made[0].Content(); err != nil || string(content) != "content" {
						t.Errorf("%v: content %q", err, content)
					}
				case "metadata":
					repository, _, _ := sandbox.RegistryAuth(charm, imageResource)
					if image := repository + "@" + declared; !strings.Contains(r.outputs["resources"], image) {
						t.Errorf("resources %s, want %s", r.outputs["resources"], image)
					}
				default:
					if content, err := made[0].Content(); err != nil || !strings.Contains(string(content), "@"+digest) {
						t.Errorf("%v: the text isn't about %s", err, digest)
					}
					isComplete(t, sandbox, digest)
				}
				if name == "key" {
					sandbox.ResetRequests()
					known := action(t, sandbox, noEngine(t), "resource="+imageResource, "key=a key")
					known.succeeded(t)
					if diff := cmp.Diff(r.unchanged(), known.outputs); diff != "" {
						t.Errorf("outputs (-uploaded +looked up):\n%s", diff)
					}
				}
			})
		}
	})
}

// TestReleasesUnderProfiles: a charm file becomes a revision, is released with its resources, and promoted, once each, whatever
// Charmhub is like.
func TestReleasesUnderProfiles(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, options server.Options) {
		t.Helper()
		sandbox := startCharm(t, options)
		hurry(sandbox, options)
		file, path := writeCharm(t, charmMetadata, jammy, noble), filepath.Join(t.TempDir(), "file")
		writeFile(t, path, "content")
		number := 1
		if options.FromZero {
			number = 0
		}
		both := with{imageResource: number, fileResource: number}
		var want []server.Release
		released := func(channel string, resources with) {
			t.Helper()
			for _, base := range []server.ReleaseBase{jammy, noble} {
				want = append(want, server.Release{Channel: channel, Base: base, Revision: number, Resources: resources})
			}
			isReleased(t, sandbox, want...)
		}

		r := twice(t, sandbox, options, func() result { return putOnChannels(t, sandbox, "charms="+file, "channel=none") })
		r.has(t, map[string]string{"charm-revisions": fmt.Sprint(number), "releases": "[]"})

		image := action(t, sandbox, "resource="+imageResource, "image="+writeLayout(t, platformImage(t, "linux/amd64")))
		image.succeeded(t)
		content := action(t, sandbox, "resource="+fileResource, "filepath="+path)
		content.succeeded(t)
		// At once, so that lists may lack what was uploaded.
		flags := image.outputs["resource-flags"] + " " + content.outputs["resource-flags"]
		resources := "resources=" + strings.ReplaceAll(flags, "--resource=", "")
		r = twice(t, sandbox, options, func() result {
			return putOnChannels(t, sandbox, "charm-revision="+fmt.Sprint(number), "channel=beta", resources)
		})
		r.has(t, map[string]string{"charm-revisions": fmt.Sprint(number)})
		released("latest/beta", both)

		r = twice(t, sandbox, options, func() result { return putOnChannels(t, sandbox, "from-channel=beta", "channel=candidate") })
		r.has(t, map[string]string{"charm-revisions": fmt.Sprint(number)})
		released("latest/candidate", both)
	})
}

// TestCharmFileAgainAtOnce: a list that lags lacks the charm file, which is uploaded again. Charmhub rejects it, and may say
// which revision it is, or not.
func TestCharmFileAgainAtOnce(t *testing.T) {
	t.Parallel()
	for name, unnumbered := range map[string]bool{"with the number": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := server.Options{Lag: 10 * time.Second, UnnumberedDuplicates: unnumbered}
			sandbox := startCharm(t, options)
			inputs := []string{"channel=none", "charms=" + writeCharm(t, charmMetadata, noble)}
			putOnChannels(t, sandbox, inputs...).succeeded(t)
			hurry(sandbox, options)
			again := putOnChannels(t, sandbox, inputs...)
			again.succeeded(t)
			again.has(t, map[string]string{"charm-revisions": "1", "released": "false"})
			if !strings.Contains(again.log, "Charm file unchanged") {
				t.Errorf("log:\n%s", again.log)
			}
			if n := len(sandbox.CharmRevisions(charm)); n != 1 {
				t.Errorf("%d revisions, want 1", n)
			}
		})
	}
}
